package plugin_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Contact has every way to ask GORM for uniqueness.
type Contact struct {
	ID       int64
	TenantID string
	Email    *string `gorm:"unique"`
	Login    *string `gorm:"uniqueIndex"`
	First    *string `gorm:"uniqueIndex:contacts_name,priority:2"`
	Last     *string `gorm:"uniqueIndex:contacts_name,priority:1"`
	Card     *string `gorm:"uniqueIndex:contacts_card,expression:lower(card),where:card <> ''"`
	Name     string
	Visits   int
	Labels   []Label `gorm:"many2many:contact_labels"`
}

// Label has the tenant column in its own unique index.
type Label struct {
	ID       int64
	TenantID string `gorm:"uniqueIndex:labels_name,priority:1"`
	Name     string `gorm:"uniqueIndex:labels_name,priority:2"`
}

// Score has the tenant column in its primary key.
type Score struct {
	TenantID string `gorm:"primaryKey"`
	Game     string `gorm:"primaryKey"`
	Points   int
}

func upsertDatabase(t *testing.T) database {
	t.Helper()
	d := newDatabase(t)
	d.Migrate(t, d.Isolation(), &Contact{}, &Label{}, &Score{})
	return d
}

func columns(names ...string) []clause.Column {
	list := make([]clause.Column, len(names))
	for n, name := range names {
		list[n] = clause.Column{Name: name}
	}
	return list
}

// targets are the conflicts that GORM's tags make, and a contact that has the value "x" there.
var targets = map[string]struct {
	conflict clause.OnConflict
	contact  func() Contact
}{
	"unique": {clause.OnConflict{Columns: columns("email")}, func() Contact { return Contact{Email: text("x")} }},
	"unique, with the tenant": {clause.OnConflict{Columns: columns("email", "tenant_id")},
		func() Contact { return Contact{Email: text("x")} }},
	"unique, quoted": {clause.OnConflict{Columns: []clause.Column{{Name: `"email"`, Raw: true}}},
		func() Contact { return Contact{Email: text("x")} }},
	"unique index": {clause.OnConflict{Columns: columns("login")}, func() Contact { return Contact{Login: text("x")} }},
	"two columns": {clause.OnConflict{Columns: columns("first", "last")},
		func() Contact { return Contact{First: text("x"), Last: text("y")} }},
	"expression": {clause.OnConflict{
		Columns:     []clause.Column{{Name: "lower( card )", Raw: true}},
		TargetWhere: clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: "card <> ''"}}},
	}, func() Contact { return Contact{Card: text("X")} }},
	"constraint": {clause.OnConflict{OnConstraint: "uni_contacts_email"}, func() Contact { return Contact{Email: text("x")} }},
}

// An upsert that names what a tag makes unique finds the tenant's own row, though the index has the tenant column as well.
func TestUpsertOnUniqueColumns(t *testing.T) {
	d := upsertDatabase(t)
	actions := map[string]struct {
		action  func(clause.OnConflict) clause.OnConflict
		updates bool
	}{
		"DoNothing": {func(c clause.OnConflict) clause.OnConflict { c.DoNothing = true; return c }, false},
		"UpdateAll": {func(c clause.OnConflict) clause.OnConflict { c.UpdateAll = true; return c }, true},
		"AssignmentColumns": {func(c clause.OnConflict) clause.OnConflict {
			c.DoUpdates = clause.AssignmentColumns([]string{"name", "tenant_id"})
			return c
		}, true},
		"Assignments": {func(c clause.OnConflict) clause.OnConflict {
			c.DoUpdates = clause.Assignments(map[string]any{"name": "after", "tenant_id": acme})
			return c
		}, true},
	}
	for _, prepare := range []bool{false, true} {
		db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role}, testdb.Prepared(prepare))
		for name, target := range targets {
			for kind, do := range actions {
				t.Run(name+"/"+kind+"/prepared "+strconv.FormatBool(prepare), func(t *testing.T) {
					d.AsOwner(t, "TRUNCATE contacts CASCADE")
					before := map[string]Contact{}
					for _, tenant := range []string{acme, globex} {
						c := target.contact()
						c.Name = "before"
						require.NoError(t, db.WithContext(as(tenant)).Create(&c).Error)
						before[tenant] = c
					}
					conflict := do.action(target.conflict)
					named := append([]clause.Column{}, conflict.Columns...)
					set := append(clause.Set{}, conflict.DoUpdates...)
					c := target.contact()
					c.Name = "after"
					require.NoError(t, db.WithContext(as(acme)).Clauses(conflict).Create(&c).Error)

					require.Equal(t, named, append([]clause.Column{}, conflict.Columns...), "the caller's clause")
					require.Equal(t, set, append(clause.Set{}, conflict.DoUpdates...), "the caller's clause")
					want := "before"
					if do.updates {
						want = "after"
						require.Equal(t, before[acme].ID, c.ID, "of the row that was there")
					}
					for tenant, name := range map[string]string{acme: want, globex: "before"} {
						var found []Contact
						require.NoError(t, db.WithContext(as(tenant)).Find(&found).Error)
						require.Len(t, found, 1)
						require.Equal(t, before[tenant].ID, found[0].ID)
						require.Equal(t, tenant, found[0].TenantID)
						require.Equal(t, name, found[0].Name)
					}
				})
			}
		}
	}
}

// What has the tenant column by its tags is found without naming it too.
func TestUpsertOnIndexOfTenant(t *testing.T) {
	d := upsertDatabase(t)
	db := d.Open(t, tenancy.Config{})
	for points, tenant := range []string{acme, globex, acme, globex} {
		tx := db.WithContext(as(tenant))
		require.NoError(t, tx.Clauses(clause.OnConflict{Columns: columns("name"), DoNothing: true}).Create(&Label{Name: "x"}).Error)
		require.NoError(t, tx.Clauses(clause.OnConflict{Columns: columns("game"), UpdateAll: true}).
			Create(&Score{Game: "x", Points: points}).Error)
		var labels []Label
		require.NoError(t, tx.Find(&labels).Error)
		require.Len(t, labels, 1)
		var scores []Score
		require.NoError(t, tx.Find(&scores).Error)
		require.Equal(t, []Score{{tenant, "x", points}}, scores)
	}
}

// The primary key has no tenant column, and no conflict with it gets one.
func TestUpsertOnPrimaryKey(t *testing.T) {
	d := upsertDatabase(t)
	db := d.Open(t, tenancy.Config{})
	mine := db.WithContext(as(acme))
	c := Contact{Email: text("x"), Name: "before"}
	require.NoError(t, mine.Create(&c).Error)
	for name, conflict := range map[string]clause.OnConflict{
		"by default": {UpdateAll: true},
		"named":      {Columns: columns("id"), UpdateAll: true},
		"some":       {Columns: columns("id"), DoUpdates: clause.AssignmentColumns([]string{"name", "tenant_id"})},
		"nothing":    {Columns: columns("id"), DoNothing: true},
		"anything":   {DoNothing: true},
	} {
		require.NoError(t, mine.Clauses(conflict).Create(&Contact{ID: c.ID, Email: text("x"), Name: name}).Error, name)
	}
	require.NoError(t, mine.Save(&[]Contact{{ID: c.ID, Email: text("x"), Name: "saved"}, {Email: text("y")}}).Error)
	var found []Contact
	require.NoError(t, mine.Order("id").Find(&found).Error)
	require.Len(t, found, 2)
	require.Equal(t, "saved", found[0].Name)
	theirs := db.WithContext(as(globex))
	require.Error(t, theirs.Save(&[]Contact{{ID: c.ID, Name: "stolen"}}).Error)
	require.Error(t, theirs.Clauses(clause.OnConflict{Columns: columns("id"), UpdateAll: true}).
		Create(&Contact{ID: c.ID, Name: "stolen"}).Error)
}

// An upsert with associations goes on to rows of join tables, which name no columns.
func TestUpsertMany2Many(t *testing.T) {
	d := upsertDatabase(t)
	db := d.Open(t, tenancy.Config{})
	for _, tenant := range []string{acme, globex, acme, globex} {
		tx := db.WithContext(as(tenant))
		label := Label{Name: "vip"}
		require.NoError(t, tx.Clauses(clause.OnConflict{Columns: columns("name"), UpdateAll: true}).Create(&label).Error)
		c := Contact{Email: text("x"), Labels: []Label{label}}
		require.NoError(t, tx.Clauses(clause.OnConflict{Columns: columns("email"),
			DoUpdates: clause.Set{{Column: clause.Column{Name: "visits"}, Value: gorm.Expr("contacts.visits + 1")}},
		}).Create(&c).Error)
		var found []Contact
		require.NoError(t, tx.Preload("Labels").Find(&found).Error)
		require.Len(t, found, 1)
		require.Equal(t, []Label{{label.ID, tenant, "vip"}}, found[0].Labels)
	}
	var visits []int
	require.NoError(t, db.WithContext(as(acme)).Model(&Contact{}).Pluck("visits", &visits).Error)
	require.Equal(t, []int{1}, visits)
}

// The admin client has rows of several tenants in one upsert, and each meets that of its own tenant.
func TestUpsertInBypass(t *testing.T) {
	d := upsertDatabase(t)
	db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role})
	admin := tenancy.Bypass(db.WithContext(tenancy.WithoutTenant(t.Context())), "import")
	for _, name := range []string{"before", "after"} {
		rows := []Contact{{TenantID: acme, Email: text("x"), Name: name}, {TenantID: globex, Email: text("x"), Name: name}}
		require.NoError(t, admin.Clauses(clause.OnConflict{Columns: columns("email"), UpdateAll: true}).Create(&rows).Error)
		var found []Contact
		require.NoError(t, admin.Order("tenant_id").Find(&found).Error)
		require.Len(t, found, 2)
		for n, tenant := range []string{acme, globex} {
			require.Equal(t, tenant, found[n].TenantID)
			require.Equal(t, name, found[n].Name)
			require.Equal(t, rows[n].ID, found[n].ID)
		}
	}
	// By its primary key the row may be another tenant's: it moves as a whole, as it does by Save.
	var c Contact
	require.NoError(t, admin.Where("tenant_id = ?", acme).First(&c).Error)
	c.TenantID, c.Email, c.Name = globex, text("moved"), "moved"
	require.NoError(t, admin.Clauses(clause.OnConflict{UpdateAll: true}).Create(&c).Error)
	var moved Contact
	require.NoError(t, admin.First(&moved, c.ID).Error)
	require.Equal(t, c, moved)
}

func TestUpsertOfAnotherTenantIsRefused(t *testing.T) {
	d := upsertDatabase(t)
	mine := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	err := mine.Clauses(clause.OnConflict{Columns: columns("email"),
		DoUpdates: clause.Assignments(map[string]any{"tenant_id": globex})}).Create(&Contact{Email: text("x")}).Error
	require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
}

func text(s string) *string { return &s }
