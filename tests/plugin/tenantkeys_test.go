package plugin_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Keyed models name the id alone. KeyedLine has no field for the tenant.
type (
	KeyedOrder struct {
		ID       int64
		TenantID string
		Name     string
		Code     *string `gorm:"unique"`
		Lines    []KeyedLine
		Tags     []KeyedTag `gorm:"many2many:keyed_order_tags"`
	}
	KeyedLine struct {
		ID           int64
		KeyedOrderID int64
		Text         string
	}
	KeyedTag struct {
		ID       int64
		TenantID string
		Label    string
	}
)

var keyedModels = []any{&KeyedOrder{}, &KeyedLine{}, &KeyedTag{}}

// guess tries to write a row with an id, and returns all that PostgreSQL and GORM say.
var guess = map[string]func(db *gorm.DB, id int64) (string, int64){
	"Create": func(db *gorm.DB, id int64) (string, int64) {
		tx := db.Create(&KeyedTag{ID: id, Label: "x"})
		return said(tx.Error), tx.RowsAffected
	},
	"Save": func(db *gorm.DB, id int64) (string, int64) {
		tx := db.Save(&KeyedTag{ID: id, Label: "x"})
		return said(tx.Error), tx.RowsAffected
	},
	"DoNothing": func(db *gorm.DB, id int64) (string, int64) {
		tx := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&KeyedTag{ID: id, Label: "x"})
		return said(tx.Error), tx.RowsAffected
	},
	"UpdateAll": func(db *gorm.DB, id int64) (string, int64) {
		tx := db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&KeyedTag{ID: id, Label: "x"})
		return said(tx.Error), tx.RowsAffected
	},
	"raw SQL": func(db *gorm.DB, id int64) (string, int64) {
		tx := db.Exec("INSERT INTO keyed_tags (id, label) VALUES (?, 'x')", id)
		return said(tx.Error), tx.RowsAffected
	},
}

func said(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestTenantKeysEndGuessing compares what a tenant learns from an id that another has with what it learns from a free one.
func TestTenantKeysEndGuessing(t *testing.T) {
	for name, keyed := range map[string]bool{"ids alone": false, "with the tenant": true} {
		d := testdb.New(t)
		i := d.Isolation()
		i.TenantKeys = keyed
		d.Migrate(t, i, keyedModels...)
		db := d.Open(t, tenancy.Config{})
		for way, try := range guess {
			t.Run(name+"/"+way, func(t *testing.T) {
				d.AsOwner(t, "TRUNCATE keyed_tags CASCADE")
				require.NoError(t, db.WithContext(as(globex)).Create(&KeyedTag{ID: 1000, Label: "secret"}).Error)
				_, _ = try(db.WithContext(as(acme)), 3000)
				taken, takenRows := try(db.WithContext(as(acme)), 1000)
				free, freeRows := try(db.WithContext(as(acme)), 2000)
				require.Equal(t, keyed, taken == free && takenRows == freeRows, "taken: %s %d, free: %s %d", taken, takenRows, free, freeRows)
				var tag KeyedTag
				require.NoError(t, db.WithContext(as(globex)).First(&tag, 1000).Error)
				require.Equal(t, KeyedTag{ID: 1000, TenantID: globex, Label: "secret"}, tag)
			})
		}
	}
}

// TestTenantKeysLetUpsertsNameTheID has GORM name the id alone in ON CONFLICT, as the first statement of a client and again.
func TestTenantKeysLetUpsertsNameTheID(t *testing.T) {
	d := testdb.NewTenantKeys(t, keyedModels...)
	clients := map[string]struct {
		config tenancy.Config
		how    []testdb.Option
	}{
		"proved":          {tenancy.Config{}, nil},
		"prepared":        {tenancy.Config{}, []testdb.Option{testdb.Prepared(true)}},
		"simple protocol": {tenancy.Config{}, []testdb.Option{testdb.Dialect(postgres.New(postgres.Config{DSN: d.App.DSN, PreferSimpleProtocol: true}))}},
		"not proved":      {tenancy.Config{DangerouslySkipProof: true}, nil},
		"warned":          {tenancy.Config{DangerouslyWarnOnly: true}, nil},
		"no condition":    {tenancy.Config{OmitTenantCondition: true}, nil},
	}
	upserts := map[string]func(db *gorm.DB) error{
		"Save": func(db *gorm.DB) error {
			return db.Save(&[]KeyedOrder{{ID: 1, Name: "after"}, {ID: 7, Name: "new"}}).Error
		},
		"Save of one": func(db *gorm.DB) error {
			return errors.Join(db.Save(&KeyedOrder{ID: 1, Name: "after"}).Error, db.Save(&KeyedOrder{ID: 7, Name: "new"}).Error)
		},
		"UpdateAll": func(db *gorm.DB) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&[]KeyedOrder{{ID: 1, Name: "after"}, {ID: 7, Name: "new"}}).Error
		},
		"named": func(db *gorm.DB) error {
			return db.Clauses(clause.OnConflict{Columns: columns("id"), DoUpdates: clause.AssignmentColumns([]string{"name", "tenant_id"})}).
				Create(&[]KeyedOrder{{ID: 1, Name: "after"}, {ID: 7, Name: "new"}}).Error
		},
		"a map": func(db *gorm.DB) error {
			named := db.Clauses(clause.OnConflict{Columns: columns("id"), DoUpdates: clause.AssignmentColumns([]string{"name"})}).Session(&gorm.Session{})
			return errors.Join(named.Model(&KeyedOrder{}).Create(map[string]any{"id": 1, "name": "after"}).Error,
				named.Model(&KeyedOrder{}).Create(map[string]any{"id": 7, "name": "new"}).Error)
		},
		"in a transaction": func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return tx.Save(&[]KeyedOrder{{ID: 1, Name: "after"}, {ID: 7, Name: "new"}}).Error
			})
		},
		"by a table": func(db *gorm.DB) error {
			return db.Table("keyed_orders").Clauses(clause.OnConflict{UpdateAll: true}).Create(&[]KeyedOrder{{ID: 1, Name: "after"}, {ID: 7, Name: "new"}}).Error
		},
	}
	children := map[string]func(db *gorm.DB) error{
		"of a child": func(db *gorm.DB) error {
			return db.Save(&[]KeyedLine{{ID: 1, KeyedOrderID: 1, Text: "after"}, {ID: 7, KeyedOrderID: 1, Text: "new"}}).Error
		},
		"of a child, UpdateAll": func(db *gorm.DB) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&[]KeyedLine{{ID: 1, KeyedOrderID: 1, Text: "after"}, {ID: 7, KeyedOrderID: 1, Text: "new"}}).Error
		},
		"of associations": func(db *gorm.DB) error {
			return db.Model(&KeyedOrder{ID: 1}).Session(&gorm.Session{FullSaveAssociations: true}).Association("Lines").
				Append(&KeyedLine{ID: 1, Text: "after"}, &KeyedLine{ID: 7, Text: "new"})
		},
	}
	seed := func(t *testing.T) {
		d.AsOwner(t, "TRUNCATE keyed_orders, keyed_lines, keyed_tags CASCADE")
		d.AsSuperuser(t, "INSERT INTO keyed_orders (tenant_id, id, name) VALUES ('acme', 1, 'before'), ('globex', 1, 'before')",
			"INSERT INTO keyed_lines (tenant_id, id, keyed_order_id, text) VALUES ('acme', 1, 1, 'before'), ('globex', 1, 1, 'before')")
	}
	for name, client := range clients {
		for way, upsert := range upserts {
			t.Run(name+"/"+way, func(t *testing.T) {
				seed(t)
				db := d.Open(t, client.config, client.how...)
				for range 2 {
					require.NoError(t, upsert(db.WithContext(as(acme))))
				}
				var names []string
				require.NoError(t, d.AdminDB.Raw("SELECT concat_ws(' ', tenant_id, id, name) FROM keyed_orders ORDER BY tenant_id, id").Scan(&names).Error)
				require.Equal(t, []string{"acme 1 after", "acme 7 new", "globex 1 before"}, names)
			})
		}
		if client.config.DangerouslySkipProof {
			continue // nothing tells then that the table of a model without the field has the column
		}
		for way, upsert := range children {
			t.Run(name+"/"+way, func(t *testing.T) {
				seed(t)
				db := d.Open(t, client.config, client.how...)
				for range 2 {
					require.NoError(t, upsert(db.WithContext(as(acme))))
				}
				var texts []string
				require.NoError(t, d.AdminDB.Raw("SELECT concat_ws(' ', tenant_id, id, text) FROM keyed_lines ORDER BY tenant_id, id").Scan(&texts).Error)
				require.Equal(t, []string{"acme 1 after", "acme 7 new", "globex 1 before"}, texts)
			})
		}
	}
}

// TestTenantKeysBindWritesOfBypass has two tenants with the same id. An admin who has read one row writes that one and no other.
func TestTenantKeysBindWritesOfBypass(t *testing.T) {
	d := testdb.NewTenantKeys(t, keyedModels...)
	db := d.Open(t, d.Config())
	for name, test := range map[string]struct {
		write func(db *gorm.DB, row KeyedTag) error
		want  []string // of acme
	}{
		"Save": {func(db *gorm.DB, row KeyedTag) error { row.Label = "after"; return db.Save(&row).Error }, []string{"after"}},
		"Save of slices": {func(db *gorm.DB, row KeyedTag) error {
			row.Label = "after"
			return db.Save(&[]KeyedTag{row}).Error
		}, []string{"after"}},
		"Update":  {func(db *gorm.DB, row KeyedTag) error { return db.Model(&row).Update("label", "after").Error }, []string{"after"}},
		"Updates": {func(db *gorm.DB, row KeyedTag) error { return db.Model(row).Updates(KeyedTag{Label: "after"}).Error }, []string{"after"}},
		"Update of slices": {func(db *gorm.DB, row KeyedTag) error {
			return db.Model(&[]KeyedTag{row}).Update("label", "after").Error
		}, []string{"after"}},
		"UpdateColumn":        {func(db *gorm.DB, row KeyedTag) error { return db.Model(&row).UpdateColumn("label", "after").Error }, []string{"after"}},
		"Delete":              {func(db *gorm.DB, row KeyedTag) error { return db.Delete(&row).Error }, nil},
		"Delete of slices":    {func(db *gorm.DB, row KeyedTag) error { return db.Delete(&[]KeyedTag{row}).Error }, nil},
		"Delete with a model": {func(db *gorm.DB, row KeyedTag) error { return db.Model(&row).Delete(&KeyedTag{}).Error }, nil},
		"Delete in transaction": {func(db *gorm.DB, row KeyedTag) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Delete(&row).Error })
		}, nil},
		"upsert": {func(db *gorm.DB, row KeyedTag) error {
			row.Label = "after"
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error
		}, []string{"after"}},
		"Save without the tenant": {func(db *gorm.DB, _ KeyedTag) error {
			return refusedWith(tenancy.ErrNoTenant, db.Save(&KeyedTag{ID: 1, Label: "after"}).Error)
		}, []string{"before"}},
		"Update without the tenant": {func(db *gorm.DB, _ KeyedTag) error {
			return refusedWith(tenancy.ErrNoTenant, db.Model(&KeyedTag{ID: 1}).Update("label", "after").Error)
		}, []string{"before"}},
		"Delete without the tenant": {func(db *gorm.DB, row KeyedTag) error {
			return refusedWith(tenancy.ErrNoTenant, db.Delete(&[]KeyedTag{row, {ID: 1}}).Error)
		}, []string{"before"}},
	} {
		t.Run(name, func(t *testing.T) {
			d.AsOwner(t, "TRUNCATE keyed_tags CASCADE")
			for _, tenant := range []string{acme, globex} {
				require.NoError(t, db.WithContext(as(tenant)).Create(&KeyedTag{ID: 1, Label: "before"}).Error)
			}
			admin := tenancy.Bypass(db.WithContext(t.Context()), "support")
			var row KeyedTag
			require.NoError(t, admin.Where("tenant_id = ?", acme).First(&row).Error)
			require.NoError(t, test.write(admin, row))
			for tenant, want := range map[string][]string{acme: test.want, globex: {"before"}} {
				labels := []string(nil)
				require.NoError(t, d.AdminDB.Model(&KeyedTag{}).Where("tenant_id = ?", tenant).Pluck("label", &labels).Error)
				require.Equal(t, want, append([]string(nil), labels...), tenant)
			}
		})
	}
}

func refusedWith(want, err error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("got %w", err)
	}
	return nil
}

// TestTenantKeysRelateByBothColumnsForBypass preloads for all tenants at once, by a relation that names the tenant.
func TestTenantKeysRelateByBothColumnsForBypass(t *testing.T) {
	d := testdb.NewTenantKeys(t, &KeyedShelf{}, &KeyedVolume{})
	db := d.Open(t, d.Config())
	for _, tenant := range []string{acme, globex} {
		require.NoError(t, db.WithContext(as(tenant)).Create(&KeyedShelf{ID: 1, Volumes: []KeyedVolume{{ID: 1, Title: tenant}}}).Error)
	}
	admin := tenancy.Bypass(db.WithContext(t.Context()), "report")
	var shelves []KeyedShelf
	require.NoError(t, admin.Preload("Volumes").Order("tenant_id").Find(&shelves).Error)
	require.Len(t, shelves, 2)
	for _, s := range shelves {
		require.Equal(t, []KeyedVolume{{ID: 1, TenantID: s.TenantID, ShelfID: 1, Title: s.TenantID}}, s.Volumes)
	}
	require.NoError(t, db.WithContext(as(acme)).Preload("Volumes").Find(&shelves).Error)
	require.Len(t, shelves, 1)
	require.Len(t, shelves[0].Volumes, 1)
}

type (
	KeyedShelf struct {
		ID       int64
		TenantID string
		Volumes  []KeyedVolume `gorm:"foreignKey:TenantID,ShelfID;references:TenantID,ID"`
	}
	KeyedVolume struct {
		ID       int64
		TenantID string
		ShelfID  int64
		Title    string
	}
)

// TestTenantKeysArriveAtRunningClients changes the keys under clients that have proved the table. One upsert by id fails and changes nothing, and
// the next asks again.
func TestTenantKeysArriveAtRunningClients(t *testing.T) {
	for name, config := range map[string]tenancy.Config{"proved": {}, "not proved": {DangerouslySkipProof: true}} {
		t.Run(name, func(t *testing.T) {
			d := testdb.New(t, keyedModels...)
			db := d.Open(t, config)
			save := func(label string) error {
				return db.WithContext(as(acme)).Clauses(clause.OnConflict{UpdateAll: true}).Create(&KeyedTag{ID: 1, Label: label}).Error
			}
			require.NoError(t, save("before"))
			i := d.Isolation()
			i.TenantKeys = true
			d.Migrate(t, i, keyedModels...)
			require.NoError(t, db.WithContext(as(acme)).Save(&KeyedTag{ID: 1, Label: "an update goes on"}).Error)
			require.Equal(t, "42P10", said(save("refused")))
			require.NoError(t, save("after"))
			var tags []KeyedTag
			require.NoError(t, db.WithContext(as(acme)).Find(&tags).Error)
			require.Equal(t, []KeyedTag{{ID: 1, TenantID: acme, Label: "after"}}, tags)
		})
	}
}
