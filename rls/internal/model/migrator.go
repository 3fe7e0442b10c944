package model

import (
	"strings"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// Migrator returns a migrator of db that respects isolation.
//
// Foreign keys and unique constraints are left to the plan, which makes them under the names that GORM would have given
// them: a later AutoMigrate, the user's own too, finds them there and makes none that ignore tenants.
func (s *Set) Migrator(db *gorm.DB) Migrator {
	session := db.Session(&gorm.Session{})
	session.Dialector = dialector{Dialector: unkept(db.Dialector), recorder: &recorder{}, set: s}
	session.DisableForeignKeyConstraintWhenMigrating = true
	return session.Migrator().(Migrator)
}

// dialector is the user's own, with a migrator that respects isolation.
type dialector struct {
	gorm.Dialector
	*recorder
	set *Set
}

func (d dialector) Migrator(db *gorm.DB) gorm.Migrator {
	return Migrator{Migrator: d.Dialector.Migrator(db).(postgres.Migrator), recorder: d.recorder, set: d.set}
}

// Migrator is GORM's migrator for PostgreSQL, except that it leaves alone what Isolation put on a tenant table. GORM knows
// of a column only what the struct tags say: it would take away the default and NOT NULL each time, and could not change
// the type of a column that a policy reads.
type Migrator struct {
	postgres.Migrator
	*recorder // of all migrators of one session
	set       *Set
}

// MigrateColumn adapts an existing column to its field.
func (m Migrator) MigrateColumn(value any, field *schema.Field, live gorm.ColumnType) error {
	if field.DBName != m.set.column || field.PrimaryKey || field.IgnoreMigration || policy.IsShared(field.Schema) {
		return m.Migrator.MigrateColumn(value, field, live)
	}
	if err := m.retype(value, field, live); err != nil {
		return err
	}
	return m.Migrator.MigrateColumn(value, onlyComment(field), live)
}

// MigrateColumnUnique makes or drops the unique constraint of one column, except for those that the plan makes. GORM does
// not see that they are there, because they have two columns.
func (m Migrator) MigrateColumnUnique(value any, field *schema.Field, live gorm.ColumnType) error {
	if field.Unique && field.DBName != m.set.column {
		name := m.DB.NamingStrategy.UniqueName(field.Schema.Table, field.DBName)
		if m.set.tenants[field.Schema] || m.HasConstraint(value, name) {
			return nil
		}
	}
	return m.Migrator.MigrateColumnUnique(value, field, live)
}

// AddColumn adds a column. The tenant column is added bare: a default of its tag would give the rows that are there to some
// tenant, and NOT NULL comes when they have theirs.
func (m Migrator) AddColumn(value any, name string) error {
	return m.RunWithValue(value, func(stmt *gorm.Statement) error {
		field := stmt.Schema.LookUpField(name)
		if field == nil || field.DBName != m.set.column || field.IgnoreMigration && !m.makes(field) || !m.set.tenants[stmt.Schema] {
			return m.Migrator.AddColumn(value, name)
		}
		if m.rehearsed {
			return nil
		}
		err := m.exec("ALTER TABLE ? ADD ? ?", m.CurrentTable(stmt), clause.Column{Name: field.DBName}, clause.Expr{SQL: m.DataTypeOf(field)})
		if err != nil {
			return err
		}
		return m.comment(stmt, field)
	})
}

// makes reports whether the field is that of a tenant column, which Migrate makes also where the tag -:migration keeps GORM from
// it. The type of one that is there already then stays as it is.
func (m Migrator) makes(field *schema.Field) bool {
	return field.DBName == m.set.column && field.DataType != "" && m.set.isTenant(field.Schema)
}

// AddColumns adds the columns of the models that their tables lack, where these exist.
func (m Migrator) AddColumns() error {
	for _, model := range m.set.models {
		if !m.HasTable(model.value) {
			continue
		}
		types, err := m.ColumnTypes(model.value)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, live := range types {
			there[live.Name()] = true
		}
		for _, name := range model.Schema.DBNames {
			if !there[name] {
				if err := m.AddColumn(model.value, name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// retype gives the tenant column the type of its field, where that differs. The policy and the default hold the old type:
// they must go first, and the plan makes them again in the same transaction.
func (m Migrator) retype(value any, field *schema.Field, live gorm.ColumnType) error {
	wanted := m.DataTypeOf(field)
	canonical := m.DB.Raw("SELECT format_type(to_regtype(?), NULL) || coalesce(substring(? FROM '[(].*[)]'), '')", wanted, wanted)
	var name string
	if err := canonical.Scan(&name).Error; err != nil {
		return err
	}
	if is, _ := live.ColumnType(); is == name {
		return nil
	}
	return m.RunWithValue(value, func(stmt *gorm.Statement) error {
		table, column, typ := m.CurrentTable(stmt), clause.Column{Name: field.DBName}, clause.Expr{SQL: wanted}
		if err := m.DB.Exec("DROP POLICY IF EXISTS ? ON ?", clause.Column{Name: policy.Tenant}, table).Error; err != nil {
			return err
		}
		if err := m.DB.Exec("ALTER TABLE ? ALTER COLUMN ? DROP DEFAULT", table, column).Error; err != nil {
			return err
		}
		return m.DB.Exec("ALTER TABLE ? ALTER COLUMN ? TYPE ? USING ?::?", table, column, typ, column, typ).Error
	})
}

// ColumnTypes returns the columns of a table. GORM takes a table's name with a blank in it for SQL, so it is told then what
// to read from.
func (m Migrator) ColumnTypes(value any) ([]gorm.ColumnType, error) {
	model, err := parse(m, value)
	if err != nil {
		return nil, err
	}
	reader := m.Migrator
	if strings.ContainsAny(model.Schema.Table, " `") {
		reader.DB = m.DB.Clauses(clause.From{Tables: []clause.Table{{Name: model.name, Raw: true}}}).Session(&gorm.Session{})
	}
	return reader.ColumnTypes(value)
}
