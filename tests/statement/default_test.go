package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Gadget and Part leave their tenant to the column's default.
type Gadget struct {
	ID       int64
	TenantID string `gorm:"default:(-)"`
	Name     string
	Code     string `gorm:"uniqueIndex"`
	MakerID  *int64
	Maker    *Maker
	Parts    []Part `gorm:"many2many:gadget_parts"`
}

type Maker struct {
	ID       int64
	TenantID string `gorm:"default:(-)"`
	Name     string
}

type Part struct {
	ID       int64
	TenantID string `gorm:"default:(-)"`
	Name     string
}

// defaultCreates are ways to create rows that have a default tag.
var defaultCreates = map[string]func(db *gorm.DB) (any, *gorm.DB){
	"do nothing": func(db *gorm.DB) (any, *gorm.DB) {
		g := []Gadget{{Name: "a", Code: "1"}, {Name: "b", Code: "2"}}
		return &g, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&g)
	},
	"do nothing again": func(db *gorm.DB) (any, *gorm.DB) {
		g := Gadget{Name: "a", Code: "x1"}
		if err := db.Create(&g).Error; err != nil {
			return nil, asError(db, err)
		}
		again := []Gadget{{Name: "a", Code: "x1"}, {Name: "c", Code: "x3"}}
		return &again, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&again)
	},
	"update all": func(db *gorm.DB) (any, *gorm.DB) {
		g := []Gadget{{ID: 10, Name: "a", Code: "4"}, {Name: "b", Code: "5"}}
		return &g, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&g)
	},
	"associations": func(db *gorm.DB) (any, *gorm.DB) {
		g := []Gadget{
			{Name: "a", Code: "6", Maker: &Maker{Name: "M"}, Parts: []Part{{Name: "p"}, {Name: "q"}}},
			{Name: "b", Code: "7", Maker: &Maker{Name: "N"}, Parts: []Part{{Name: "r"}}},
		}
		return &g, db.Create(&g)
	},
	"append": func(db *gorm.DB) (any, *gorm.DB) {
		g := Gadget{Name: "a", Code: "8"}
		if err := db.Create(&g).Error; err != nil {
			return nil, asError(db, err)
		}
		return &g, asError(db, db.Model(&g).Association("Parts").Append(&Part{Name: "new"}, &Part{Name: "newer"}))
	},
	"a part of the rows": func(db *gorm.DB) (any, *gorm.DB) {
		g := []Gadget{{Name: "a", Code: "9", TenantID: acme}, {Name: "b", Code: "10"}}
		return &g, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&g)
	},
}

// TestCreateWithDefaultTag: a tenant column with a default tag changes nothing of what Create returns, and associations are saved.
func TestCreateWithDefaultTag(t *testing.T) {
	gadgets := []any{&Maker{}, &Part{}, &Gadget{}}
	plain := testdb.OpenPlain(t, testdb.New(t).Owner.DSN, usual(logger.Discard))
	require.NoError(t, plain.AutoMigrate(gadgets...))
	for _, table := range []string{"makers", "parts", "gadgets"} {
		require.NoError(t, plain.Exec(`ALTER TABLE `+table+` ALTER tenant_id SET DEFAULT 'acme'`).Error)
	}
	d := newDatabase(t, gadgets...)
	guarded := d.Open(t, tenancy.Config{}, usual(logger.Discard)).WithContext(as(acme))

	ids := 1000
	for name, create := range defaultCreates {
		t.Run(name, func(t *testing.T) {
			ids += 100 // the same on both sides
			for _, table := range []string{"makers", "parts", "gadgets"} {
				for _, db := range []*gorm.DB{plain, d.OwnerDB} {
					require.NoError(t, db.Exec(`SELECT setval(pg_get_serial_sequence(?, 'id'), ?)`, table, ids).Error)
				}
			}
			want, wantTx := create(plain)
			got, tx := create(guarded)
			require.NoError(t, wantTx.Error)
			require.NoError(t, tx.Error)
			require.Equal(t, want, got)
			require.Equal(t, wantTx.RowsAffected, tx.RowsAffected)
		})
	}
}
