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
	case clause.Eq, clause.Neq, clause.Gt, clause.Gte, clause.Lt, clause.Lte, clause.Like, clause.IN:
		return false
	case clause.Expr:
		return slices.ContainsFunc([]string{"or", "Or", "oR", "OR", "--", "/*"}, func(s string) bool { return strings.Contains(e.SQL, s) })
	default:
		return true
	}
}

// without removes conditions that equal the tenant condition.
func (t condition) without(exprs []clause.Expression) []clause.Expression {
	same := func(e clause.Expression) bool {
		eq, ok := e.(clause.Eq)
		return ok && t.isColumn(eq.Column) && reflect.DeepEqual(eq.Value, t.value)
	}
	if !slices.ContainsFunc(exprs, same) {
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
