package tenancy

import (
	"regexp"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// The tenant condition, "notes"."tenant_id" = $1, is in the SQL that GORM builds, in addition to the policy that PostgreSQL
// applies. The policy decides which rows are seen. The condition tells the planner the tenant, which a policy does not, and
// tells apart the SQL of two tenants, for example in a cache of queries. where.go and join.go write it.

// ensureWhere gives a statement without conditions a WHERE clause, because GORM builds only clauses that exist. dropWhere
// removes it when the statement is over: GORM takes a statement that has one for no global update.
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

// comparisonOf returns what the tenant condition on the statement's own table compares, and false if there is no condition.
func (p *Plugin) comparisonOf(stmt *gorm.Statement) (column tenantColumn, id string, ok bool) {
	if id = p.conditionTenant(stmt); id == "" || keepsOtherRows(stmt) {
		return tenantColumn{}, "", false
	}
	column = p.conditionColumn(stmt)
	return column, id, column.name != ""
}

// conditionOf returns the tenant condition on the statement's own table, even if Config.OmitTenantCondition is set.
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

// varsGrow is how many arguments of a statement are made room for at once. GORM, which appends one by one, would allocate for each.
const varsGrow = 4

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
	stmt.Vars = append(slices.Grow(stmt.Vars, varsGrow), t.value)
	stmt.Dialector.BindVarTo(stmt, stmt, t.value)
}

// conditionTenant returns the tenant that a statement is built for, and "" if there is none or it is not known.
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

// conditionColumn returns the tenant column of the statement's own table, and none if the table is not known to have it. A table
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

// tableIn returns the table that an expression names, with or without an alias, and "" for any other expression.
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
	tenant, _ := guard.Tenant(stmt.Context)
	on, err := p.serverFor(stmt.Context, pool, tenant, bypassOf(stmt.ConnPool) != nil)
	if err != nil {
		return false
	}
	known := on.proofs.of(key)
	if known == nil { // asked about as the table of a model
		known = on.proofs.of(subject{table: strings.Trim(tableNamed(key), `"`), kind: kindTenant})
	}
	return known != nil && known.holdsTenants()
}

// tableNamed returns the table of a subject, without an alias.
func tableNamed(key subject) string {
	if key.sql {
		return tableIn(&clause.Expr{SQL: key.table})
	}
	return key.table
}

// selectsFromTable reports whether the statement is about its own table: clause.From can name other tables.
func selectsFromTable(stmt *gorm.Statement) bool {
	from, _ := stmt.Clauses["FROM"].Expression.(clause.From)
	return len(from.Tables) == 0 || strings.HasPrefix(stmt.SQL.String(), "UPDATE") ||
		slices.ContainsFunc(from.Tables, func(t clause.Table) bool {
			return !t.Raw && (t.Name == clause.CurrentTable || t.Name == stmt.Table) && (t.Alias == "" || t.Alias == stmt.Table)
		})
}

// keepsOtherRows reports whether a join may return rows without a row of the statement's own table. A condition on that table
// would remove them.
func keepsOtherRows(stmt *gorm.Statement) bool {
	for i := range stmt.Joins {
		if isOuter(stmt.Joins[i].JoinType) || outerJoin.MatchString(stmt.Joins[i].Name) && relations(stmt.Schema, stmt.Joins[i].Name) == nil {
			return true
		}
	}
	from, _ := stmt.Clauses["FROM"].Expression.(clause.From)
	for i := range from.Joins {
		raw, _ := from.Joins[i].Expression.(clause.NamedExpr)
		expr, _ := from.Joins[i].Expression.(clause.Expr)
		if isOuter(from.Joins[i].Type) || outerJoin.MatchString(raw.SQL) || outerJoin.MatchString(expr.SQL) {
			return true
		}
	}
	return false
}

func isOuter(join clause.JoinType) bool {
	kind := strings.ToUpper(string(join))
	return strings.Contains(kind, "RIGHT") || strings.Contains(kind, "FULL")
}

// outerJoin finds a RIGHT or FULL JOIN in SQL of the caller, with a comment in between as well.
var outerJoin = regexp.MustCompile(`(?i)\b(?:RIGHT|FULL)\s*(?:OUTER\b|JOIN\b|--|/\*)`)

// Condition returns the tenant condition, "n"."tenant_id" = $1, on a table or alias of SQL that GORM does not build, to be used
// for a placeholder:
//
//	db.Raw("SELECT … FROM notes n JOIN tags t ON … WHERE ? AND ?", tenancy.Condition("n"), tenancy.Condition("t"))
//
// PostgreSQL's policies isolate such SQL without it; with it the planner knows the tenant. The column is Config.Column, and the
// tenant that of the statement's context or transaction. For a statement of Bypass, and under WithoutTenant, it is TRUE, and the
// policies decide. Without the plugin it adds ErrNotInstalled to the statement.
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
