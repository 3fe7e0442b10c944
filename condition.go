package tenancy

import (
	"database/sql"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// The tenant condition, "notes"."tenant_id" = $1, which stands in the SQL that GORM builds beside the policy that PostgreSQL
// applies. The policy decides which rows are seen. The condition tells the planner the tenant, which it does not know of a
// policy; and what looks at SQL, such as a cache of queries, which tenant a statement is for.

// ensureWhere gives a statement without conditions a WHERE clause, because only clauses that are there are built. dropWhere takes it
// away when the statement is over: to GORM a statement that has one is not a global update.
func (s *statement) ensureWhere() {
	if s.Statement == nil || s.SQL.Len() > 0 {
		return
	}
	c, ok := s.Clauses["WHERE"]
	if ok && c.Expression != nil || s.DB.Error == nil && !s.hasCondition() {
		return
	}
	c.Name, c.Expression = "WHERE", noConditions{}
	s.Clauses["WHERE"] = c
}

func dropWhere(stmt *gorm.Statement) {
	if _, ok := stmt.Clauses["WHERE"].Expression.(noConditions); ok {
		delete(stmt.Clauses, "WHERE")
	}
}

// noConditions is the WHERE of a statement that has no condition but the tenant's.
type noConditions struct{}

// Build writes nothing.
func (noConditions) Build(clause.Builder) {}

// hasCondition reports whether the statement gets the tenant condition.
func (s *statement) hasCondition() bool {
	if s.plugin.config.OmitTenantCondition {
		return false
	}
	_, _, ok := s.plugin.comparisonOf(s.Statement)
	return ok
}

// comparisonOf returns what the tenant condition on the statement's own table compares, and false if it has none.
func (p *Plugin) comparisonOf(stmt *gorm.Statement) (column tenantColumn, id string, ok bool) {
	if id = p.conditionTenant(stmt); id == "" || keepsOtherRows(stmt) {
		return tenantColumn{}, "", false
	}
	column = p.conditionColumn(stmt)
	return column, id, column.name != ""
}

// conditionOf returns the tenant condition on the statement's own table, also where the Config leaves it out.
func (p *Plugin) conditionOf(stmt *gorm.Statement) (condition, bool) {
	column, id, ok := p.comparisonOf(stmt)
	if !ok {
		return condition{}, false
	}
	value, ok := column.value(id) // or the statement is refused, or left to PostgreSQL
	return condition{clause.CurrentTable, column.name, value}, ok
}

// condition compares a column with the tenant.
type condition struct {
	table, column string
	value         any // one that GORM writes as a single parameter
}

// Build writes without the interfaces of package clause, each of which would cost an allocation.
func (t condition) Build(b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		_ = b.AddError(ErrNotInstalled)
		return
	}
	table := t.table
	if table == clause.CurrentTable {
		table = stmt.Table
	}
	stmt.Dialector.QuoteTo(stmt, table)
	_ = stmt.WriteByte('.')
	stmt.Dialector.QuoteTo(stmt, t.column)
	_, _ = stmt.WriteString(" = ")
	stmt.Vars = append(stmt.Vars, t.value)
	stmt.Dialector.BindVarTo(stmt, stmt, t.value)
}

// conditionTenant returns the tenant that a statement is built for, and "" if there is none, or if it is not known.
func (p *Plugin) conditionTenant(stmt *gorm.Statement) string {
	if bypassOf(stmt.DB.Config.ConnPool) != nil {
		return ""
	}
	s := statement{Statement: stmt, plugin: p}
	id, err := s.scope()
	if err != nil {
		return "" // the statement is refused
	}
	return id
}

// conditionColumn returns the tenant column of the statement's own table, and none where it is not known to have one. A table
// that the caller has named need not be the model's.
func (p *Plugin) conditionColumn(stmt *gorm.Statement) tenantColumn {
	model := stmt.Schema
	if model != nil && policy.IsShared(model) || !selectsFromTable(stmt) {
		return tenantColumn{}
	}
	var field *schema.Field
	if model != nil {
		field = p.fieldOf(model)
	}
	key := subject{table: stmt.Table, kind: kindTable}
	if stmt.TableExpr != nil {
		table := tableIn(stmt.TableExpr)
		if table == "" {
			return tenantColumn{}
		}
		key = subject{table: stmt.TableExpr.SQL, sql: true, kind: kindTable}
		if model == nil || table != model.Table && table != stmt.Quote(model.Table) {
			field = nil
		}
	}
	switch {
	case field != nil:
		return tenantColumn{name: field.DBName, field: field}
	case p.isIsolated(stmt, key):
		return tenantColumn{name: p.config.Column}
	default:
		return tenantColumn{}
	}
}

// tableIn returns the table that an expression names, with or without an alias, and "" if it is another expression.
func tableIn(e *clause.Expr) string {
	if m := aliased.FindStringSubmatch(e.SQL); m != nil && len(e.Vars) == 0 {
		return m[1]
	}
	return ""
}

// aliased is a table name, with or without an alias.
var aliased = regexp.MustCompile(`^\s*(` + qualifiedName + `)(?:\s+(?:(?i:AS)\s+)?` + name + `)?\s*$`)

// isIsolated reports whether PostgreSQL has said that a table has the tenant column.
func (p *Plugin) isIsolated(stmt *gorm.Statement, key subject) bool {
	pool := p.knownPool(stmt.ConnPool)
	if pool == nil {
		return false
	}
	known := pool.proofs.of(key)
	return known != nil && known.has(isolated)
}

// selectsFromTable reports whether the statement's own table is among those that it is about: clause.From can name others.
func selectsFromTable(stmt *gorm.Statement) bool {
	from, _ := stmt.Clauses["FROM"].Expression.(clause.From)
	return len(from.Tables) == 0 || strings.HasPrefix(stmt.SQL.String(), "UPDATE") ||
		slices.ContainsFunc(from.Tables, func(t clause.Table) bool {
			return !t.Raw && (t.Name == clause.CurrentTable || t.Name == stmt.Table) && (t.Alias == "" || t.Alias == stmt.Table)
		})
}

// keepsOtherRows reports whether a join may return rows without a row of the statement's own table, which a condition on that
// would take away.
func keepsOtherRows(stmt *gorm.Statement) bool {
	for i := range stmt.Joins {
		if outer(string(stmt.Joins[i].JoinType)) || outer(stmt.Joins[i].Name) && relations(stmt.Schema, stmt.Joins[i].Name) == nil {
			return true
		}
	}
	from, _ := stmt.Clauses["FROM"].Expression.(clause.From)
	for i := range from.Joins {
		raw, _ := from.Joins[i].Expression.(clause.NamedExpr)
		expr, _ := from.Joins[i].Expression.(clause.Expr)
		if outer(string(from.Joins[i].Type)) || outer(raw.SQL) || outer(expr.SQL) {
			return true
		}
	}
	return false
}

func outer(join string) bool {
	join = strings.ToUpper(join)
	return strings.Contains(join, "RIGHT") || strings.Contains(join, "FULL")
}

// writeWhere adds the tenant condition to a WHERE clause.
func (p *Plugin) writeWhere(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	if stmt.DB.Error != nil { // it is refused, and not sent; a cache must not find it
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
		_ = b.WriteByte('\n') // or it would be a part of the comment
	}
	_ = b.WriteByte(')')
}

// mayHoldOr reports whether an expression, joined to another by AND without parentheses, may mean something else. It need not be
// exact: parentheses harm nothing.
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

// without leaves out conditions that say the same as the tenant condition.
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

// complete completes conditions on a key that the tenant is a part of: a struct that does not name its tenant is one of this
// tenant's.
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

// isColumn reports whether a column of a condition is the tenant column of the statement's own table.
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

// writeFrom adds the tenant condition to what joined tables are joined on, so that a LEFT JOIN stays one.
func (p *Plugin) writeFrom(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	if stmt.TableExpr != nil && len(stmt.TableExpr.Vars) > 0 {
		if vars, changed := p.bindVars(stmt, stmt.TableExpr.Vars); changed {
			stmt.TableExpr = &clause.Expr{SQL: stmt.TableExpr.SQL, Vars: vars, WithoutParentheses: stmt.TableExpr.WithoutParentheses}
		}
	}
	from, ok := c.Expression.(clause.From)
	if !ok || len(from.Joins) == 0 || p.config.OmitTenantCondition {
		return c
	}
	id := p.conditionTenant(stmt)
	if id == "" {
		return c
	}
	joins := slices.Clone(from.Joins)
	for i := range joins {
		if bound, ok := p.bind(stmt, joins[i].Expression); ok {
			joins[i].Expression = bound
		}
		joins[i].ON.Exprs, _ = p.bindAll(stmt, joins[i].ON.Exprs)
		if joins[i].Expression != nil || len(joins[i].ON.Exprs) == 0 {
			continue // SQL of the caller, or a join on nothing
		}
		column := p.joinedColumn(stmt, joins[i].Table)
		value, ok := column.value(id)
		if column.name == "" || !ok {
			continue
		}
		on := condition{nameIn(joins[i].Table), column.name, value}
		joins[i].ON.Exprs = append(slices.Clone(joins[i].ON.Exprs), on)
	}
	from.Joins = joins
	c.Expression = from
	return c
}

// planJoins has PostgreSQL plan a SELECT with joins for its tenant each time. A plan that it keeps for all tenants is one for a
// tenant of average size, and to it the policy of a joined table makes the rows look so few that it reads all of a tenant's, where 20
// are asked for: seconds for a large tenant, in place of less than a millisecond. To plan takes some 0.1 ms.
func (s *statement) planJoins() {
	if len(s.Joins) > 0 && s.SQL.Len() == 0 && s.bypass == nil && !s.plugin.config.OmitTenantCondition {
		originOf(s.Statement).PlansEach = true
	}
}

// nameIn is the name that a table has in its statement.
func nameIn(t clause.Table) string {
	if t.Alias != "" {
		return t.Alias
	}
	return t.Name
}

// joinedColumn returns the tenant column of a joined table, and none where it is not known to have one.
func (p *Plugin) joinedColumn(stmt *gorm.Statement, table clause.Table) tenantColumn {
	if table.Raw {
		return tenantColumn{}
	}
	for i := range stmt.Joins {
		for _, relation := range relations(stmt.Schema, stmt.Joins[i].Name) {
			if relation.Table != table.Name {
				continue
			}
			if policy.IsShared(relation) {
				return tenantColumn{}
			}
			if field := p.fieldOf(relation); field != nil {
				return tenantColumn{name: field.DBName, field: field}
			}
		}
	}
	if p.isIsolated(stmt, subject{table: table.Name, kind: kindTable}) {
		return tenantColumn{name: p.config.Column}
	}
	return tenantColumn{}
}

// Condition returns the tenant condition, "n"."tenant_id" = $1, on a table or alias of SQL that GORM does not build, for a
// placeholder in it:
//
//	db.Raw("SELECT … FROM notes n JOIN tags t ON … WHERE ? AND ?", tenancy.Condition("n"), tenancy.Condition("t"))
//
// PostgreSQL's policies isolate such SQL without it; with it the planner knows the tenant. The column is Config.Column, and the
// tenant that of the statement's context or transaction. For a statement of Bypass, and under WithoutTenant, it is TRUE: what
// is seen is up to the policies. Without the plugin it adds ErrNotInstalled to the statement.
func Condition(table string) clause.Expression { return rawCondition(table) }

type rawCondition string

func (c rawCondition) Build(b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		_ = b.AddError(ErrNotInstalled)
		return
	}
	p, ok := stmt.Plugins["tenancy"].(*Plugin)
	if !ok {
		_ = b.AddError(ErrNotInstalled)
		return
	}
	id := p.conditionTenant(stmt)
	if id == "" {
		_, _ = b.WriteString("TRUE")
		return
	}
	stmt.Settings.Store(conditionKey, id)
	condition{string(c), p.config.Column, id}.Build(b)
}

// knownPool returns the guarded pool that a statement goes to, and nil if it has not been seen.
func (p *Plugin) knownPool(c gorm.ConnPool) *pool {
	c = plain(unbound(plain(c)))
	db, ok := c.(*sql.DB)
	if !ok {
		db = source(c)
	}
	known, _ := p.pools.Load(db)
	pool, _ := known.(*pool)
	return pool
}
