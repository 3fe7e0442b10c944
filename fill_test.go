package tenancy_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
)

type Patient struct {
	ID       int64
	TenantID string
	Name     string
	DoctorID *int64
	Doctor   *Doctor
	Notes    []Note
	Tags     []Tag `gorm:"many2many:patient_tags"`
}

type Doctor struct {
	ID       int64
	TenantID string
	Name     string
}

type Note struct {
	ID        int64
	TenantID  string
	PatientID int64
	Body      string
}

type Tag struct {
	ID       int64
	TenantID string
	Name     string
}

type PatientTag struct {
	TenantID  string
	PatientID int64 `gorm:"primaryKey"`
	TagID     int64 `gorm:"primaryKey"`
}

type Country struct {
	ID   int64
	Name string
}

type Membership struct {
	ID       int64
	TenantID string
}

func (Membership) TenantShared() {}

// UUID is like those of the usual packages.
type UUID [16]byte

func (u UUID) Value() (driver.Value, error) { return u.String(), nil }

func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func (u *UUID) Scan(src any) error {
	b, err := hex.DecodeString(strings.ReplaceAll(src.(string), "-", ""))
	if err != nil || len(b) != 16 {
		return fmt.Errorf("no UUID: %v", src)
	}
	copy(u[:], b)
	return nil
}

const (
	uuidText = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	acme     = "acme"
	other    = "globex"
)

func TestCreateFillsEveryShape(t *testing.T) {
	array := [2]Patient{{Name: "a"}, {Name: "b"}}
	for name, c := range map[string]struct {
		create func(db *gorm.DB) *gorm.DB
		rows   int
	}{
		"pointer":                   {func(db *gorm.DB) *gorm.DB { return db.Create(&Patient{Name: "a"}) }, 1},
		"struct":                    {func(db *gorm.DB) *gorm.DB { return db.Create(Patient{Name: "a"}) }, 1},
		"slice":                     {func(db *gorm.DB) *gorm.DB { return db.Create([]Patient{{Name: "a"}, {Name: "b"}}) }, 2},
		"pointer to slice":          {func(db *gorm.DB) *gorm.DB { return db.Create(&[]Patient{{Name: "a"}, {Name: "b"}}) }, 2},
		"slice of pointers":         {func(db *gorm.DB) *gorm.DB { return db.Create([]*Patient{{Name: "a"}, {Name: "b"}}) }, 2},
		"array":                     {func(db *gorm.DB) *gorm.DB { return db.Create(array) }, 2},
		"pointer to array":          {func(db *gorm.DB) *gorm.DB { return db.Create(&array) }, 2},
		"same tenant":               {func(db *gorm.DB) *gorm.DB { return db.Create(&Patient{TenantID: acme}) }, 1},
		"map":                       {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(map[string]any{"Name": "a"}) }, 1},
		"nil map":                   {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(map[string]any(nil)) }, 1},
		"pointer to map":            {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(&map[string]any{"name": "a"}) }, 1},
		"map with field's name":     {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(map[string]any{"TenantID": ""}) }, 1},
		"map with nil":              {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(map[string]any{"tenant_id": nil}) }, 1},
		"slice of maps":             {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create([]map[string]any{{"name": "a"}, nil}) }, 2},
		"pointer to slice of maps":  {func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(&[]map[string]any{{"name": "a"}, {}}) }, 2},
		"select without the column": {func(db *gorm.DB) *gorm.DB { return db.Select("Name").Create(&Patient{Name: "a"}) }, 1},
		"select, map": {func(db *gorm.DB) *gorm.DB {
			return db.Model(&Patient{}).Select("name").Create(map[string]any{"name": "a"})
		}, 1},
		"omit the column":   {func(db *gorm.DB) *gorm.DB { return db.Omit("TenantID", "Name").Create(&Patient{}) }, 1},
		"omit, qualified":   {func(db *gorm.DB) *gorm.DB { return db.Omit("patients.tenant_id").Create(&Patient{}) }, 1},
		"save of a new row": {func(db *gorm.DB) *gorm.DB { return db.Save(&Patient{Name: "a"}) }, 1},
		"save of a slice":   {func(db *gorm.DB) *gorm.DB { return db.Save(&[]Patient{{ID: 1}, {ID: 2}}) }, 2},
		"upsert of all columns": {func(db *gorm.DB) *gorm.DB {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Patient{ID: 1})
		}, 1},
		"upsert of the column":   {upsert(clause.AssignmentColumns([]string{"name", "tenant_id"})), 1},
		"upsert, the same value": {upsert(clause.Assignments(map[string]any{"tenant_id": acme})), 1},
		"another table":          {func(db *gorm.DB) *gorm.DB { return db.Table("patients_2024").Create(&Patient{}) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tx := c.create(dry(t, acme))
			require.NoError(t, tx.Error)
			sql, _, _ := strings.Cut(sqlOf(tx), "ON CONFLICT")
			require.Contains(t, sql, `"tenant_id"`)
			require.Equal(t, c.rows, strings.Count(sql, "'acme'"), sql)
		})
	}
}

func upsert(set clause.Set) func(*gorm.DB) *gorm.DB {
	return func(db *gorm.DB) *gorm.DB {
		return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: set}).Create(&Patient{ID: 1})
	}
}

func TestCreateRefusesAnotherTenant(t *testing.T) {
	for name, create := range map[string]func(db *gorm.DB) *gorm.DB{
		"struct":  func(db *gorm.DB) *gorm.DB { return db.Create(&Patient{TenantID: other}) },
		"slice":   func(db *gorm.DB) *gorm.DB { return db.Create([]Patient{{}, {TenantID: other}}) },
		"map":     func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(map[string]any{"tenant_id": other}) },
		"by name": func(db *gorm.DB) *gorm.DB { return db.Model(&Patient{}).Create(map[string]any{"TenantID": other}) },
		"quoted": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Patient{}).Create(map[string]any{`"Tenant_ID"`: other})
		},
		"maps": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Patient{}).Create([]map[string]any{{"name": "a"}, {"tenant_id": other}})
		},
		"no model": func(db *gorm.DB) *gorm.DB { return db.Table("patients").Create(map[string]any{"tenant_id": other}) },
		"expression": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Patient{}).Create(map[string]any{"tenant_id": gorm.Expr("'globex'")})
		},
		"subquery": func(db *gorm.DB) *gorm.DB {
			return db.Model(&Patient{}).Create(map[string]any{"tenant_id": db.Model(&Doctor{}).Select("tenant_id")})
		},
		"omitted":           func(db *gorm.DB) *gorm.DB { return db.Omit("tenant_id").Create(&Patient{TenantID: other}) },
		"save":              func(db *gorm.DB) *gorm.DB { return db.Save(&Patient{TenantID: other}) },
		"save of a slice":   func(db *gorm.DB) *gorm.DB { return db.Save([]Patient{{ID: 1, TenantID: other}}) },
		"batches":           func(db *gorm.DB) *gorm.DB { return db.CreateInBatches([]Patient{{}, {TenantID: other}}, 1) },
		"upsert":            upsert(clause.Assignments(map[string]any{"tenant_id": other})),
		"upsert, expr":      upsert(clause.Assignments(map[string]any{"tenant_id": gorm.Expr("'globex'")})),
		"upsert, null":      upsert(clause.Assignments(map[string]any{"tenant_id": nil})),
		"upsert, a column":  upsert(clause.Set{{Column: clause.Column{Name: "tenant_id"}, Value: clause.Column{Table: "excluded", Name: "name"}}}),
		"belongs to":        func(db *gorm.DB) *gorm.DB { return db.Create(&Patient{Doctor: &Doctor{TenantID: other}}) },
		"has many":          func(db *gorm.DB) *gorm.DB { return db.Create(&Patient{Notes: []Note{{TenantID: other}}}) },
		"many to many":      func(db *gorm.DB) *gorm.DB { return db.Create(&Patient{Tags: []Tag{{TenantID: other}}}) },
		"a hook's mischief": func(db *gorm.DB) *gorm.DB { return db.Create(&Mischief{}) },
	} {
		t.Run(name, func(t *testing.T) {
			tx := create(dry(t, acme))
			require.ErrorIs(t, tx.Error, tenancy.ErrTenantMismatch)
			require.NotContains(t, tx.Error.Error(), acme)
			require.NotContains(t, tx.Error.Error(), other)
		})
	}
}

type Mischief struct {
	ID       int64
	TenantID string
}

func (m *Mischief) BeforeCreate(*gorm.DB) error { m.TenantID = other; return nil }

func TestCreateFillsAssociations(t *testing.T) {
	db := dry(t, acme)
	require.NoError(t, db.SetupJoinTable(&Patient{}, "Tags", &PatientTag{}))
	var joined []PatientTag
	require.NoError(t, db.Callback().Create().After("tenancy:create").Register("test:joined", func(tx *gorm.DB) {
		if rows, ok := tx.Statement.Dest.([]*PatientTag); ok {
			for _, row := range rows {
				joined = append(joined, *row)
			}
		}
	}))
	p := Patient{Doctor: &Doctor{ID: 3}, Notes: []Note{{}, {}}, Tags: []Tag{{ID: 5}}}
	require.NoError(t, db.Create(&p).Error)
	require.Equal(t, acme, p.Doctor.TenantID)
	require.Equal(t, acme, p.Notes[1].TenantID)
	require.Equal(t, acme, p.Tags[0].TenantID)
	require.Equal(t, []PatientTag{{TenantID: acme, TagID: 5}}, joined)
}

type (
	named string
	base  struct{ TenantID string }

	withInt64       struct{ ID, TenantID int64 }
	withInt8        struct{ TenantID int8 }
	withUint        struct{ TenantID uint32 }
	withPointer     struct{ TenantID *string }
	withIntPointer  struct{ TenantID *int64 }
	withNamed       struct{ TenantID named }
	withBytes       struct{ TenantID []byte }
	withNullString  struct{ TenantID sql.NullString }
	withNullInt     struct{ TenantID sql.NullInt64 }
	withUUID        struct{ TenantID UUID }
	withUUIDPointer struct{ TenantID *UUID }
	withRawUUID     struct {
		TenantID [16]byte `gorm:"type:uuid"`
	}
	withUUIDText struct {
		TenantID string `gorm:"type:uuid"`
	}
	withDefault struct {
		TenantID string `gorm:"default:nobody"`
	}
	withExpression struct {
		ID       int64
		TenantID string `gorm:"default:current_setting('app.tenant_id')"`
	}
	embeds struct {
		ID   int64
		Base base `gorm:"embedded"`
	}
	embedsPointer struct {
		ID   int64
		Base *base `gorm:"embedded"`
	}
	withKey struct {
		TenantID string `gorm:"primaryKey"`
		ID       int64  `gorm:"primaryKey"`
	}
	withFloat struct{ TenantID float64 }
)

// scannedUUID and upperUUID are uuidText in other forms.
var (
	scannedUUID = mustScan(uuidText)
	upperUUID   = strings.ToUpper(uuidText)
)

func mustScan(text string) (id UUID) {
	if err := id.Scan(text); err != nil {
		panic(err)
	}
	return id
}

// columnTypes are fields of a tenant column, and what a tenant becomes in them.
var columnTypes = []struct {
	tenant string
	model  any
	err    error
}{
	{"42", &withInt64{}, nil},
	{"42", &withInt64{TenantID: 42}, nil},
	{"42", &withInt64{TenantID: 43}, tenancy.ErrTenantMismatch},
	{"acme", &withInt64{}, tenancy.ErrInvalidTenant},
	{"042", &withInt64{}, tenancy.ErrInvalidTenant},
	{"0x2a", &withInt64{}, tenancy.ErrInvalidTenant},
	{"4200000000000000000000", &withInt64{}, tenancy.ErrInvalidTenant},
	{"42", &withInt8{}, nil},
	{"300", &withInt8{}, tenancy.ErrInvalidTenant},
	{"42", &withUint{}, nil},
	{"-42", &withUint{}, tenancy.ErrInvalidTenant},
	{acme, &withPointer{}, nil},
	{acme, &withPointer{TenantID: new(string)}, nil},
	{acme, &withPointer{TenantID: ptr(other)}, tenancy.ErrTenantMismatch},
	{"42", &withIntPointer{}, nil},
	{"42", &withIntPointer{TenantID: ptr(int64(42))}, nil},
	{"42", &withIntPointer{TenantID: ptr(int64(7))}, tenancy.ErrTenantMismatch},
	{acme, &withIntPointer{}, tenancy.ErrInvalidTenant},
	{acme, &withNamed{}, nil},
	{acme, &withNamed{TenantID: other}, tenancy.ErrTenantMismatch},
	{acme, &withBytes{}, nil},
	{acme, &withBytes{TenantID: []byte(other)}, tenancy.ErrTenantMismatch},
	{acme, &withNullString{}, nil},
	{acme, &withNullString{sql.NullString{String: acme, Valid: true}}, nil},
	{acme, &withNullString{sql.NullString{String: other, Valid: true}}, tenancy.ErrTenantMismatch},
	{acme, &withNullString{sql.NullString{String: other}}, nil},
	{"42", &withNullInt{}, nil},
	{"42", &withNullInt{sql.NullInt64{Int64: 7, Valid: true}}, tenancy.ErrTenantMismatch},
	{acme, &withNullInt{}, tenancy.ErrInvalidTenant},
	{uuidText, &withUUID{}, nil},
	{uuidText, &withUUID{scannedUUID}, nil},
	{upperUUID, &withUUID{scannedUUID}, tenancy.ErrInvalidTenant},
	{"{" + uuidText + "}", &withUUID{}, tenancy.ErrInvalidTenant},
	{uuidText, &withUUID{UUID{1}}, tenancy.ErrTenantMismatch},
	{acme, &withUUID{}, tenancy.ErrInvalidTenant},
	{uuidText, &withUUIDPointer{}, nil},
	{uuidText, &withUUIDPointer{&UUID{1}}, tenancy.ErrTenantMismatch},
	{uuidText, &withRawUUID{}, nil},
	{uuidText, &withRawUUID{scannedUUID}, nil},
	{uuidText, &withRawUUID{UUID{1}}, tenancy.ErrTenantMismatch},
	{acme, &withRawUUID{}, tenancy.ErrInvalidTenant},
	{upperUUID, &withUUIDText{TenantID: uuidText}, tenancy.ErrInvalidTenant},
	{uuidText, &withUUIDText{TenantID: upperUUID}, nil},
	{upperUUID, &withPointer{TenantID: ptr(uuidText)}, tenancy.ErrTenantMismatch},
	{acme, &withDefault{}, nil},
	{acme, &withExpression{}, nil},
	{acme, &embeds{}, nil},
	{acme, &embeds{Base: base{TenantID: other}}, tenancy.ErrTenantMismatch},
	{acme, &embedsPointer{}, nil},
	{acme, &embedsPointer{Base: &base{TenantID: other}}, tenancy.ErrTenantMismatch},
	{acme, &withKey{ID: 1}, nil},
	{"42", &withFloat{}, tenancy.ErrInvalidTenant},
}

func TestCreateInTheColumnsType(t *testing.T) {
	for i, c := range columnTypes {
		t.Run(fmt.Sprintf("%d %T %s", i, c.model, c.tenant), func(t *testing.T) {
			tx := dry(t, c.tenant).Create(c.model)
			if c.err != nil {
				require.ErrorIs(t, tx.Error, c.err)
				require.NotContains(t, tx.Error.Error(), c.tenant)
				return
			}
			require.NoError(t, tx.Error)
			require.Contains(t, tx.Statement.SQL.String(), `"tenant_id"`)
			field := tx.Statement.Schema.FieldsByDBName["tenant_id"]
			value, zero := field.ValueOf(tx.Statement.Context, tx.Statement.ReflectValue)
			require.False(t, zero)
			require.Contains(t, tx.Statement.Vars, value)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestCreateOfNobodysRows(t *testing.T) {
	// A table without the column, and a shared one, are left alone.
	require.NoError(t, dry(t, acme).Create(&Country{}).Error)
	m := Membership{}
	require.NoError(t, dry(t, acme).Create(&m).Error)
	require.Empty(t, m.TenantID)
	m = Membership{TenantID: other}
	require.NoError(t, dry(t, acme).Create(&m).Error)
}

func TestCreateUnderNoTenant(t *testing.T) {
	db := open(t, tenancy.Config{}, dryRun)
	without := db.WithContext(tenancy.WithoutTenant(context.Background()))
	require.ErrorIs(t, without.Create(&Patient{}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, without.Create(&Patient{TenantID: acme}).Error, tenancy.ErrNoTenant)
	require.NoError(t, without.Create(&Country{}).Error)
	require.NoError(t, without.Create(&Membership{TenantID: acme}).Error)
	require.ErrorIs(t, db.Create(&Country{}).Error, tenancy.ErrNoTenant)
}

func TestUpdateKeepsTheTenant(t *testing.T) {
	for name, c := range map[string]struct {
		update  func(db *gorm.DB) *gorm.DB
		written bool // the tenant column, and then with the tenant
	}{
		"same by map":     {func(db *gorm.DB) *gorm.DB { return one(db).Updates(map[string]any{"tenant_id": acme}) }, true},
		"same by column":  {func(db *gorm.DB) *gorm.DB { return one(db).Update("tenant_id", acme) }, true},
		"same by struct":  {func(db *gorm.DB) *gorm.DB { return one(db).Updates(Patient{TenantID: acme, Name: "a"}) }, true},
		"another column":  {func(db *gorm.DB) *gorm.DB { return one(db).Update("name", "a") }, false},
		"unset in struct": {func(db *gorm.DB) *gorm.DB { return one(db).Updates(&Patient{Name: "a"}) }, false},
		"not selected": {func(db *gorm.DB) *gorm.DB {
			return one(db).Select("name").Updates(&Patient{TenantID: other, Name: "a"})
		}, false},
		"omitted": {func(db *gorm.DB) *gorm.DB {
			return one(db).Omit("tenant_id").Updates(&Patient{TenantID: other, Name: "a"})
		}, false},
		"selected, unset": {func(db *gorm.DB) *gorm.DB { return one(db).Select("*").Updates(Patient{Name: "a"}) }, true},
		"save":            {func(db *gorm.DB) *gorm.DB { return db.Save(&Patient{ID: 1, Name: "a"}) }, true},
		"save by value":   {func(db *gorm.DB) *gorm.DB { return db.Save(Patient{ID: 1, Name: "a"}) }, true},
		"another struct":  {func(db *gorm.DB) *gorm.DB { return one(db).Updates(struct{ Name string }{"a"}) }, false},
		"dissolving an association": {func(db *gorm.DB) *gorm.DB {
			return one(db).UpdateColumns(map[string]any{"tenant_id": nil, "doctor_id": nil})
		}, false},
		"shared":   {func(db *gorm.DB) *gorm.DB { return db.Model(&Membership{ID: 1}).Update("tenant_id", acme) }, true},
		"no model": {func(db *gorm.DB) *gorm.DB { return db.Table("patients").Where("id = 1").Update("tenant_id", acme) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			tx := c.update(dry(t, acme))
			require.NoError(t, tx.Error)
			sql := sqlOf(tx)
			require.Equal(t, c.written, strings.Contains(sql, `"tenant_id"='acme'`), sql)
			require.Equal(t, c.written, strings.Contains(sql, `"tenant_id"=`), sql)
		})
	}
}

func one(db *gorm.DB) *gorm.DB { return db.Model(&Patient{ID: 1}) }

func TestUpdateRefusesAnotherTenant(t *testing.T) {
	for name, update := range map[string]func(db *gorm.DB) *gorm.DB{
		"column":     func(db *gorm.DB) *gorm.DB { return one(db).Update("tenant_id", other) },
		"field":      func(db *gorm.DB) *gorm.DB { return one(db).Update("TenantID", other) },
		"null":       func(db *gorm.DB) *gorm.DB { return one(db).Update("tenant_id", nil) },
		"empty":      func(db *gorm.DB) *gorm.DB { return one(db).Update("tenant_id", "") },
		"expression": func(db *gorm.DB) *gorm.DB { return one(db).Update("tenant_id", gorm.Expr("name")) },
		"subquery": func(db *gorm.DB) *gorm.DB {
			return one(db).Update("tenant_id", db.Model(&Doctor{}).Select("tenant_id"))
		},
		"update column": func(db *gorm.DB) *gorm.DB { return one(db).UpdateColumn("tenant_id", other) },
		"map": func(db *gorm.DB) *gorm.DB {
			return one(db).UpdateColumns(map[string]any{"name": "a", "tenant_id": other})
		},
		"pointer to map": func(db *gorm.DB) *gorm.DB {
			return one(db).Updates(&map[string]any{"name": "a", "tenant_id": other})
		},
		"struct":         func(db *gorm.DB) *gorm.DB { return one(db).Updates(Patient{TenantID: other}) },
		"pointer":        func(db *gorm.DB) *gorm.DB { return one(db).Updates(&Patient{TenantID: other}) },
		"another struct": func(db *gorm.DB) *gorm.DB { return one(db).Updates(struct{ TenantID string }{other}) },
		"save":           func(db *gorm.DB) *gorm.DB { return db.Save(&Patient{ID: 1, TenantID: other}) },
		"set clause": func(db *gorm.DB) *gorm.DB {
			return one(db).Clauses(clause.Set{{Column: clause.Column{Name: "tenant_id"}, Value: other}}).Updates(map[string]any{})
		},
		"no model":     func(db *gorm.DB) *gorm.DB { return db.Table("patients").Where("1 = 1").Update("tenant_id", other) },
		"a hook":       func(db *gorm.DB) *gorm.DB { return db.Model(&Schemer{ID: 1}).Updates(&Schemer{Name: "a"}) },
		"its own hook": func(db *gorm.DB) *gorm.DB { return db.Save(&Schemer{ID: 1, Name: "a"}) },
		"association": func(db *gorm.DB) *gorm.DB {
			return db.Save(&Patient{ID: 1, Doctor: &Doctor{TenantID: other}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			tx := update(dry(t, acme))
			require.ErrorIs(t, tx.Error, tenancy.ErrTenantMismatch)
			require.NotContains(t, tx.Error.Error(), acme)
			require.NotContains(t, tx.Error.Error(), other)
		})
	}
}

type Schemer struct {
	ID       int64
	TenantID string
	Name     string
}

func (*Schemer) BeforeUpdate(tx *gorm.DB) error {
	tx.Statement.SetColumn("TenantID", other)
	return nil
}
