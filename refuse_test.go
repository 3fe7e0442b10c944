package tenancy_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// statements are some of each of GORM's six kinds. What takes a connection before it reaches a callback, such as
// Transaction, the guard refuses, and tests/ tests.
var statements = map[string]func(db *gorm.DB) error{
	"create":      func(db *gorm.DB) error { return db.Create(&Patient{}).Error },
	"query":       func(db *gorm.DB) error { return db.First(&Patient{}).Error },
	"shared":      func(db *gorm.DB) error { return db.First(&Country{}).Error },
	"table":       func(db *gorm.DB) error { return db.Table("patients").Find(&[]map[string]any{}).Error },
	"preload":     func(db *gorm.DB) error { return db.Preload("Notes").Find(&[]Patient{}).Error },
	"update":      func(db *gorm.DB) error { return one(db).Update("name", "a").Error },
	"save":        func(db *gorm.DB) error { return db.Save(&Patient{ID: 1}).Error },
	"delete":      func(db *gorm.DB) error { return db.Delete(&Patient{ID: 1}).Error },
	"row":         func(db *gorm.DB) error { return db.Raw("SELECT 1").Row().Scan(new(int)) },
	"rows":        func(db *gorm.DB) error { _, err := db.Model(&Patient{}).Rows(); return err },
	"scan":        func(db *gorm.DB) error { return db.Raw("SELECT 1").Scan(new(int)).Error },
	"raw":         func(db *gorm.DB) error { return db.Exec("SELECT 1").Error },
	"association": func(db *gorm.DB) error { return one(db).Association("Notes").Append(&Note{}) },
	"generics":    func(db *gorm.DB) error { _, err := gorm.G[Patient](db).Find(db.Statement.Context); return err },
	"prepared": func(db *gorm.DB) error {
		return db.Session(&gorm.Session{PrepareStmt: true}).Raw("SELECT 1").Row().Scan(new(int))
	},
}

func TestNoTenant(t *testing.T) {
	// Nothing answers behind this pool, so that a refusal can only have come before.
	db := open(t, tenancy.Config{}, func(c *gorm.Config) { c.SkipDefaultTransaction = false })
	for name, statement := range statements {
		for what, ctx := range map[string]context.Context{
			"nothing said":     context.Background(),
			"empty":            tenancy.WithTenant(context.Background(), ""),
			"empty, hides one": tenancy.WithTenant(as(acme), ""),
			"zero":             tenancy.WithTenant(context.Background(), 0),
			"nil UUID":         tenancy.WithTenant(context.Background(), UUID{}),
			"with NUL":         as("a\x00b"),
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				require.ErrorIs(t, statement(db.WithContext(ctx)), tenancy.ErrNoTenant)
			})
		}
	}
}

func TestRefusalNamesTheStatement(t *testing.T) {
	db := open(t, tenancy.Config{})
	var refused *tenancy.Error
	require.ErrorAs(t, db.Create(&Patient{}).Error, &refused)
	require.Equal(t, tenancy.Error{Op: "create", Table: "patients", Err: tenancy.ErrNoTenant}, *refused)
	require.Equal(t, "tenancy: no tenant in context (create on patients)", refused.Error())
	require.ErrorAs(t, db.Exec("SELECT 1").Error, &refused)
	require.Equal(t, "tenancy: no tenant in context (raw)", refused.Error())
}

type Hook struct {
	ID       int64
	TenantID string
}

var hookRan bool

func (*Hook) BeforeCreate(*gorm.DB) error { hookRan = true; return nil }

func TestRefusalRunsNoHook(t *testing.T) {
	require.Error(t, open(t, tenancy.Config{}).Create(&Hook{}).Error)
	require.False(t, hookRan)
}

// GORM keeps only the newest error's chain.
func TestRefusalIsNotHidden(t *testing.T) {
	later := errors.New("later")
	db := dry(t, acme)
	fail := func(tx *gorm.DB) { _ = tx.AddError(later) }
	require.NoError(t, db.Callback().Query().After("gorm:query").Register("test:fail", fail))
	require.NoError(t, db.Callback().Create().After("gorm:create").Register("test:fail", fail))
	for _, err := range []error{
		db.Session(&gorm.Session{NewDB: true}).Create(&Patient{TenantID: other}).Error,
		db.Create(&Patient{Notes: []Note{{TenantID: other}}}).Error,
	} {
		require.ErrorIs(t, err, later)
		require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
	}
	db = open(t, tenancy.Config{})
	require.NoError(t, db.Callback().Query().After("gorm:query").Register("test:fail", fail))
	err := db.Find(&[]Patient{}).Error
	require.ErrorIs(t, err, later)
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
}

// A refused Row leaves the statement as it was, for those who go on with it.
func TestRefusedRowIsNotSticky(t *testing.T) {
	db := open(t, tenancy.Config{})
	tx := db.Model(&Patient{}).Where("1 = 1")
	require.ErrorIs(t, tx.Row().Err(), tenancy.ErrNoTenant)
	require.Same(t, db.Statement.ConnPool, tx.Statement.ConnPool)
}
