package rls

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/model"
)

var _ gorm.Plugin = Isolation{}

// Name returns the key under which GORM keeps an Isolation that is used as a plugin.
func (Isolation) Name() string { return "tenancy:rls" }

// Initialize makes AutoMigrate leave alone what Migrate has made; (*gorm.DB).Use calls it, and so does the plugin of package
// tenancy. GORM knows only what struct tags say, and would take NOT NULL and the default away from the tenant column each time,
// and make unique constraints that are there. Use it on the *gorm.DB of the owner, or of a migration tool such as gormigrate, that
// has no other plugin of ours:
//
//	err := ownerDB.Use(rls.Isolation{})
//
// From then on AutoMigrate adapts nothing but the comment of a tenant column that is there, and makes no unique constraint whose
// name is taken. What is new it makes as ever, without regard to tenants, until Migrate runs. Only Column counts. The database
// is not asked anything.
//
// Without it, AutoMigrate leaves the tenant column alone where it has the tag -:migration, or is in the primary key; and what has
// the tag uniqueIndex, but not what has the tag unique.
//
// Initialize exchanges the Dialector of db for another one, whose type is not that of gorm.io/driver/postgres. It returns an error
// if i is invalid, or db has been given an Isolation with another column.
func (i Isolation) Initialize(db *gorm.DB) error {
	p, err := i.planner()
	if err != nil {
		return err
	}
	if err := model.Keep(db, p.Column); err != nil {
		return fmt.Errorf("tenancy: %w", err)
	}
	return nil
}
