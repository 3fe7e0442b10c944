package tenancy

import (
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// writeWhere adds the tenant condition to a WHERE clause.
func (p *Plugin) writeWhere(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	if stmt.DB.Error != nil { // it is refused and not sent, and a cache of queries must not find it
		c.Expression = clause.Expr{SQL: "FALSE"}
		return c
	}
	c = p.bindIn(stmt, c)
	if stmt.DB.Statement != stmt {
		return c // GORM puts the text into another statement, in which placeholders have other numbers
	}
	tenant, ok := p.conditionOf(stmt)
	switch where := c.Expression.(type) {
	case noConditions:
		if c.Expression = nil; ok {
			c.Expression = tenant
		}
	case clause.Where:
		switch {
		case !ok:
		case p.config.OmitTenantCondition:
			c.Expression = clause.Where{Exprs: tenant.complete(where.Exprs)}
		default:
			c.Expression = conditioned{tenant, tenant.without(tenant.complete(where.Exprs))}
		}
	}
	return c
}

// conditioned is a WHERE with the tenant condition before those of the application.
type conditioned struct {
	tenant condition
	exprs  []clause.Expression
}

func (w conditioned) Build(b clause.Builder) {
	w.tenant.Build(b)
	if len(w.exprs) == 0 {
		return
	}
	_, _ = b.WriteString(clause.AndWithSpace)
	if !slices.ContainsFunc(w.exprs, mayHoldOr) {
		clause.Where{Exprs: w.exprs}.Build(b)
		return
	}
	stmt, _ := b.(*gorm.Statement)
	start := stmt.SQL.Len()
	_ = b.WriteByte('(')
	clause.Where{Exprs: w.exprs}.Build(b)
	if strings.Contains(stmt.SQL.String()[start:], "--") {
		_ = b.WriteByte('\n') // the parenthesis would be a part of the comment
	}
	_ = b.WriteByte(')')
}

// mayHoldOr reports whether an expression that is joined to another by AND needs parentheses. In doubt it returns true, because
// parentheses harm nothing.
func mayHoldOr(e clause.Expression) bool {
	switch e := e.(type) {
	case clause.Eq:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.Neq:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.Gt:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.Gte:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.Lt:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.Lte:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.Like:
		return isSQL(e.Column) || isSQL(e.Value)
	case clause.IN:
		return isSQL(e.Column) || slices.ContainsFunc(e.Values, isSQL)
	case clause.Expr:
		return slices.ContainsFunc([]string{"or", "Or", "oR", "OR", "--", "/*"}, func(s string) bool { return strings.Contains(e.SQL, s) }) ||
			slices.ContainsFunc(e.Vars, isSQL)
	default:
		return true
	}
}

// isSQL reports whether GORM writes a column or a value as SQL of the caller, without parentheses of its own.
func isSQL(v any) bool {
	switch v := v.(type) {
	case clause.Column:
		return v.Raw
	case clause.Expression, gorm.Valuer:
		return true
	default:
		return false
	}
}

// without removes conditions that equal the tenant condition. Beside an OR they stay: T OR x is true for all of the tenant's rows.
func (t condition) without(exprs []clause.Expression) []clause.Expression {
	same := func(e clause.Expression) bool {
		eq, ok := e.(clause.Eq)
		return ok && t.isColumn(eq.Column) && reflect.DeepEqual(eq.Value, t.value)
	}
	isOr := func(e clause.Expression) bool { _, ok := e.(clause.OrConditions); return ok }
	if !slices.ContainsFunc(exprs, same) || slices.ContainsFunc(exprs, isOr) {
		return exprs
	}
	return slices.DeleteFunc(slices.Clone(exprs), same)
}

// complete completes conditions on a key that contains the tenant column: a struct that leaves its tenant unset is one of this
// tenant.
func (t condition) complete(exprs []clause.Expression) []clause.Expression {
	for i, e := range exprs {
		if in, ok := e.(clause.IN); ok {
			if completed, ok := t.completed(in); ok {
				exprs = slices.Clone(exprs)
				exprs[i] = completed
			}
		}
	}
	return exprs
}

// isColumn reports whether the column of a condition is the tenant column of the statement's own table.
func (t condition) isColumn(column any) bool {
	switch c := column.(type) {
	case string:
		return c == t.column
	case clause.Column:
		return c.Name == t.column && c.Table == clause.CurrentTable
	default:
		return false
	}
}

// completed writes the tenant into the rows of a composite key that leave it unset.
func (t condition) completed(in clause.IN) (clause.IN, bool) {
	columns, _ := in.Column.([]clause.Column)
	at := slices.IndexFunc(columns, func(c clause.Column) bool { return c.Name == t.column })
	if at < 0 || len(columns) < 2 {
		return in, false
	}
	values := slices.Clone(in.Values)
	for i := range values {
		if row, ok := values[i].([]any); ok && len(row) == len(columns) && isUnset(row[at]) {
			row = slices.Clone(row)
			row[at] = t.value
			values[i] = row
		}
	}
	in.Values = values
	return in, true
}
