package tenancy

import (
	"database/sql"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// GORM begins a transaction for each Create, Update and Delete, because hooks, associations and other plugins may send more
// statements. If there are none, the transaction holds one statement, which PostgreSQL runs as a transaction of its own anyway.
// So the guard, which has not sent BEGIN yet when the statement comes, leaves BEGIN and COMMIT out: see guard.Origin. The guard
// knows what came before the statement; this file finds out whether anything comes after it.

// planAutocommit gives the guard a function that finds out, when the statement is sent, whether it can be sent without GORM's
// default transaction. That transaction has not begun yet.
func (s *statement) planAutocommit(db *gorm.DB, chain *chain) {
	if s.Statement == nil || s.bypass != nil || s.DryRun || db.SkipDefaultTransaction || gormtx.In(s.ConnPool) {
		return
	}
	o := guard.OriginOf(s.Context)
	if !o.Of(&s.SQL) {
		return
	}
	o.CanAutocommit = func() bool {
		_, plain := db.Statement.ConnPool.(*sql.Tx) // and no prepared statement of GORM's
		return plain && !hooked(db.Statement, chain.op) && !savesAfter(db.Statement, chain.op) && readsSafely(db, chain.op) &&
			chain.isGORMs()
	}
}

// beforeCommit is the last callback before the commit.
func beforeCommit(db *gorm.DB) {
	if keepFirstError(db); db.Error == nil {
		leaveTransaction(db)
	}
}

// leaveTransaction lets the commit of a transaction that was left out succeed. PostgreSQL has committed already, and a context
// that ends now would fail the commit.
func leaveTransaction(db *gorm.DB) {
	o := guard.OriginOf(db.Statement.Context)
	if tx, ok := db.Statement.ConnPool.(*sql.Tx); ok && o.Of(&db.Statement.SQL) && o.Autocommitted {
		db.Statement.ConnPool = &committed{tx}
	}
}

// committed is a transaction that has nothing left to commit.
type committed struct{ *sql.Tx }

// Commit gives the connection back.
func (c *committed) Commit() error {
	_ = c.Tx.Commit() // its context may be over
	return nil
}

// hooked reports whether the model has a hook for the statement.
func hooked(stmt *gorm.Statement, op string) bool {
	s := stmt.Schema
	if s == nil || stmt.SkipHooks {
		return false
	}
	switch op {
	case "create":
		return s.BeforeSave || s.BeforeCreate || s.AfterCreate || s.AfterSave
	case "update":
		return s.BeforeSave || s.BeforeUpdate || s.AfterUpdate || s.AfterSave
	default:
		return s.BeforeDelete || s.AfterDelete
	}
}

// savesAfter reports whether GORM would save associations after the statement. The guard has seen those that GORM saves before.
func savesAfter(stmt *gorm.Statement, op string) bool {
	s := stmt.Schema
	if s == nil || op == "delete" {
		return false
	}
	var selected map[string]bool
	var restricted, asked bool
	r := &s.Relationships
	for _, relations := range [...][]*schema.Relationship{r.HasOne, r.HasMany, r.Many2Many} {
		for _, relation := range relations {
			if !hasValue(stmt, relation) {
				continue
			}
			if !asked {
				selected, restricted = stmt.SelectAndOmitColumns(op == "create", op == "update")
				asked = true
			}
			if v, ok := selected[relation.Name]; v || !ok && !restricted {
				return true
			}
		}
	}
	return false
}

// hasValue reports whether one of the statement's rows has something in an association.
func hasValue(stmt *gorm.Statement, relation *schema.Relationship) bool {
	rows := stmt.ReflectValue
	switch rows.Kind() {
	case reflect.Struct:
		return valueIn(stmt, relation, rows)
	case reflect.Slice, reflect.Array:
		for i := range rows.Len() {
			row := reflect.Indirect(rows.Index(i))
			if row.Kind() == reflect.Interface {
				return true // GORM may find anything in it
			}
			if row.Kind() == reflect.Struct && valueIn(stmt, relation, row) {
				return true
			}
		}
	}
	return false
}

func valueIn(stmt *gorm.Statement, relation *schema.Relationship, row reflect.Value) bool {
	if row.Type() != stmt.Schema.ModelType {
		return true // GORM would read the field of another struct
	}
	v, zero := relation.Field.ValueOf(stmt.Context, row)
	if zero {
		return false
	}
	many := reflect.Indirect(reflect.ValueOf(v))
	return many.Kind() != reflect.Slice || many.Len() > 0
}

// readsSafely reports whether GORM cannot fail to read what the statement returns: such an error would roll back what is
// committed already. A column is read safely into one of Go's own types that holds all values of the column.
func readsSafely(db *gorm.DB, op string) bool {
	stmt := db.Statement
	c, ok := stmt.Clauses["RETURNING"]
	if !ok { // GORM asks for the last id if a dialect has no RETURNING, and fails
		return op != "create" || slices.Contains(db.Callback().Create().Clauses, "RETURNING")
	}
	returning, ok := c.Expression.(clause.Returning)
	if !ok || stmt.Schema == nil || len(stmt.ColumnMapping) > 0 || stmt.RaiseErrorOnNotFound {
		return false
	}
	all := len(returning.Columns) == 0 || len(returning.Columns) == 1 && returning.Columns[0].Name == "*"
	if !readsIntoModel(stmt, op, all) {
		return false
	}
	if all {
		for _, f := range stmt.Schema.Fields {
			if f.DBName != "" && !isSafe(f) {
				return false
			}
		}
		return true
	}
	for _, column := range returning.Columns {
		f := stmt.Schema.LookUpField(column.Name)
		if column.Raw || f == nil || !f.Readable || !isSafe(f) {
			return false
		}
	}
	return true
}

// readsIntoModel reports whether rows are read into the model, or into a slice of it that can take them, or into a map.
func readsIntoModel(stmt *gorm.Statement, op string, all bool) bool {
	if op == "create" {
		switch dest := stmt.Dest.(type) {
		case map[string]any:
			return dest != nil
		case *map[string]any:
			return true
		}
	}
	v := stmt.ReflectValue
	t := v.Type()
	switch v.Kind() {
	case reflect.Struct:
		return t == stmt.Schema.ModelType && v.CanSet()
	case reflect.Slice:
		if t = t.Elem(); t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		intoRows := op == "create" && !all && v.Len() > 0 // into existing rows, whose values GORM has read
		return t == stmt.Schema.ModelType && (intoRows || all && v.CanSet())
	default:
		return false
	}
}

// isSafe reports whether the values of a field's column can always be read: the type is one of Go's own, and holds all of them.
// Integers of 64 bits do, if a uint column has no negative values. Times do not, because PostgreSQL has an infinite one.
func isSafe(f *schema.Field) bool {
	t := f.IndirectFieldType
	if f.Serializer != nil || reflect.PointerTo(t).Implements(scannerType) {
		return false
	}
	name, _, _ := strings.Cut(strings.ToLower(string(f.DataType)), "(")
	switch t.Kind() {
	case reflect.String:
		return slices.Contains(textTypes, name)
	case reflect.Bool:
		return name == "bool" || name == "boolean"
	case reflect.Int64, reflect.Uint64, reflect.Int, reflect.Uint:
		return t.Bits() == 64 && slices.Contains(integerTypes, name)
	default:
		return false
	}
}

var (
	scannerType  = reflect.TypeFor[sql.Scanner]()
	textTypes    = []string{"string", "text", "varchar", "character varying", "uuid"}
	integerTypes = []string{
		"int", "uint", "smallint", "integer", "bigint", "int2", "int4", "int8", "smallserial", "serial", "bigserial",
	}
)
