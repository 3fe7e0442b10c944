package rls

import (
	"strings"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// session returns a session of db whose migrator respects isolation.
//
// Foreign keys and unique constraints are left to the plan, which makes them under the names that GORM would have given
// them: a later AutoMigrate, the user's own too, finds them there and makes none that ignore tenants.
func (i Isolation) session(db *gorm.DB) *gorm.DB {
	state := &state{
		tenants: map[*schema.Schema]bool{},
		related: !db.DisableForeignKeyConstraintWhenMigrating && !db.IgnoreRelationshipsWhenMigrating,
	}
	session := db.Session(&gorm.Session{})
	session.Dialector = dialector{Dialector: unkept(db.Dialector), column: i.Column, state: state}
	session.DisableForeignKeyConstraintWhenMigrating = true
	return session
}

// state is what the migrators of one session have in common.
type state struct {
	tenants map[*schema.Schema]bool // the models whose tables are tenants'
	related bool                    // relations become foreign keys

	recorded   *[]string // takes the statements; nil to run them
	concurrent bool      // indexes are made concurrently
}

// dialector is the user's own, with a migrator that respects isolation.
type dialector struct {
	gorm.Dialector
	column string
	*state
}

func (d dialector) Migrator(db *gorm.DB) gorm.Migrator {
	return migrator{Migrator: d.Dialector.Migrator(db).(postgres.Migrator), column: d.column, state: d.state}
}

// migrator is GORM's migrator for PostgreSQL, except that it leaves alone what Isolation put on a tenant's table. GORM knows
// of a column only what the struct tags say: it would take away the default and NOT NULL each time, and could not change
// the type of a column that a policy reads.
type migrator struct {
	postgres.Migrator
	column string
	*state
}

// MigrateColumn adapts an existing column to its field.
func (m migrator) MigrateColumn(value any, field *schema.Field, live gorm.ColumnType) error {
	if field.DBName != m.column || field.PrimaryKey || field.IgnoreMigration || isShared(field.Schema) {
		return m.Migrator.MigrateColumn(value, field, live)
	}
	if err := m.retype(value, field, live); err != nil {
		return err
	}
	return m.Migrator.MigrateColumn(value, onlyComment(field), live)
}

// MigrateColumnUnique makes or drops the unique constraint of one column, except for those that the plan makes. GORM does
// not see that they are there, because they have two columns.
func (m migrator) MigrateColumnUnique(value any, field *schema.Field, live gorm.ColumnType) error {
	if field.Unique && field.DBName != m.column {
		name := m.DB.NamingStrategy.UniqueName(field.Schema.Table, field.DBName)
		if m.tenants[field.Schema] || m.HasConstraint(value, name) {
			return nil
		}
	}
	return m.Migrator.MigrateColumnUnique(value, field, live)
}

// AddColumn adds a column. The tenant column is added bare: a default of its tag would give the rows that are there to some
// tenant, and NOT NULL comes when they have theirs.
func (m migrator) AddColumn(value any, name string) error {
	return m.RunWithValue(value, func(stmt *gorm.Statement) error {
		field := stmt.Schema.LookUpField(name)
		if field == nil || field.DBName != m.column || field.IgnoreMigration && !m.makes(field) || !m.tenants[stmt.Schema] {
			return m.Migrator.AddColumn(value, name)
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
func (m migrator) makes(field *schema.Field) bool {
	return field.DBName == m.column && field.DataType != "" && m.isTenant(field.Schema)
}

// addColumns adds the columns of a model that its table lacks.
func (m migrator) addColumns(model any) error {
	types, err := m.ColumnTypes(model)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, live := range types {
		there[live.Name()] = true
	}
	_, s, err := m.parse(model)
	if err != nil {
		return err
	}
	for _, name := range s.DBNames {
		if !there[name] {
			if err := m.AddColumn(model, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// retype gives the tenant column the type of its field, where that differs. The policy and the default hold the old type:
// they must go first, and the plan makes them anew in the same transaction.
func (m migrator) retype(value any, field *schema.Field, live gorm.ColumnType) error {
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
		if err := m.DB.Exec("DROP POLICY IF EXISTS ? ON ?", clause.Column{Name: tenantPolicy}, table).Error; err != nil {
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
func (m migrator) ColumnTypes(value any) ([]gorm.ColumnType, error) {
	name, s, err := m.parse(value)
	if err != nil {
		return nil, err
	}
	reader := m.Migrator
	if strings.ContainsAny(s.Table, " `") {
		reader.DB = m.DB.Clauses(clause.From{Tables: []clause.Table{{Name: name, Raw: true}}}).Session(&gorm.Session{})
	}
	return reader.ColumnTypes(value)
}
