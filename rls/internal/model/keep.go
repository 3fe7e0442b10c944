package model

import (
	"fmt"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// Keep exchanges the Dialector of db for one whose migrator leaves alone what Migrate has made. It returns an error if db has been
// given one for another column.
func Keep(db *gorm.DB, column string) error {
	if k, ok := db.Dialector.(keeper); ok {
		if k.column != column {
			return fmt.Errorf("the *gorm.DB keeps the tenant column %q already, and cannot keep %q as well", k.column, column)
		}
		return nil
	}
	db.Dialector = keeper{Dialector: db.Dialector, column: column}
	return nil
}

// keeper is the application's dialector, with a migrator that leaves alone what Migrate has made.
type keeper struct {
	gorm.Dialector
	column string
}

var (
	_ gorm.SavePointerDialectorInterface = keeper{}
	_ gorm.ErrorTranslator               = keeper{}
)

// unkept returns the application's own dialector.
func unkept(d gorm.Dialector) gorm.Dialector {
	if k, ok := d.(keeper); ok {
		return k.Dialector
	}
	return d
}

// Migrator returns the migrator of AutoMigrate. One that is not of gorm.io/driver/postgres stays as it is.
func (k keeper) Migrator(db *gorm.DB) gorm.Migrator {
	own := k.Dialector.Migrator(db)
	if m, ok := own.(postgres.Migrator); ok {
		return keepingMigrator{Migrator: m, column: k.column}
	}
	return own
}

// SavePoint makes a savepoint, as the dialector does.
func (k keeper) SavePoint(tx *gorm.DB, name string) error {
	if d, ok := k.Dialector.(gorm.SavePointerDialectorInterface); ok {
		return d.SavePoint(tx, name)
	}
	return gorm.ErrUnsupportedDriver
}

// RollbackTo returns to a savepoint, as the dialector does.
func (k keeper) RollbackTo(tx *gorm.DB, name string) error {
	if d, ok := k.Dialector.(gorm.SavePointerDialectorInterface); ok {
		return d.RollbackTo(tx, name)
	}
	return gorm.ErrUnsupportedDriver
}

// Translate translates errors of PostgreSQL into those of GORM, as the dialector does.
func (k keeper) Translate(err error) error {
	if d, ok := k.Dialector.(gorm.ErrorTranslator); ok {
		return d.Translate(err)
	}
	return err
}

// keepingMigrator is GORM's migrator for PostgreSQL, for applications that call AutoMigrate themselves. Migrate uses Migrator, which
// also makes what is missing.
type keepingMigrator struct {
	postgres.Migrator
	column string
}

// MigrateColumn adapts an existing column to its field, of the tenant column only the comment.
func (m keepingMigrator) MigrateColumn(value any, field *schema.Field, live gorm.ColumnType) error {
	if field.DBName == m.column && !policy.IsShared(field.Schema) {
		field = onlyComment(field)
	}
	return m.Migrator.MigrateColumn(value, field, live)
}

// MigrateColumnUnique makes or drops the unique constraint of one column, unless its name is taken: GORM does not see one of
// several columns, nor, on a table that another role owns, any.
func (m keepingMigrator) MigrateColumnUnique(value any, field *schema.Field, live gorm.ColumnType) error {
	if !field.Unique {
		return m.Migrator.MigrateColumnUnique(value, field, live)
	}
	return m.RunWithValue(value, func(stmt *gorm.Statement) error {
		if m.HasIndex(value, identifier(stmt, m.DB.NamingStrategy.UniqueName(stmt.Table, field.DBName))) {
			return nil
		}
		return m.Migrator.MigrateColumnUnique(value, field, live)
	})
}

// onlyComment returns a field of which GORM adapts nothing but the comment, as if its column were the primary key's.
func onlyComment(field *schema.Field) *schema.Field {
	comment := *field
	comment.PrimaryKey = true
	return &comment
}
