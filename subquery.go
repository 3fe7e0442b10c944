package tenancy

import (
	"database/sql"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// Subqueries. GORM builds a subquery that is given as a *gorm.DB by a dry run, which knows nothing of the statement around it.
// If its context names no tenant, the plugin gives it that of the statement while the clause around it is written, on a copy, so
// that the subquery gets its tenant condition.

// bindIn returns a clause whose subqueries have the statement's tenant.
func (p *Plugin) bindIn(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	if bound, changed := p.bind(stmt, c.Expression); changed {
		c.Expression = bound
	}
	return c
}

// bind returns an expression whose subqueries have the statement's tenant, and false if none of them needs it. In that case it
// returns nil, because returning e would allocate.
func (p *Plugin) bind(stmt *gorm.Statement, e clause.Expression) (clause.Expression, bool) {
	switch e := e.(type) {
	case clause.Expr:
		if bound, ok := p.bindVars(stmt, e.Vars); ok {
			e.Vars = bound
			return e, true
		}
	case clause.NamedExpr:
		if bound, ok := p.bindVars(stmt, e.Vars); ok {
			e.Vars = bound
			return e, true
		}
	case clause.Eq, clause.Neq, clause.Gt, clause.Gte, clause.Lt, clause.Lte, clause.IN:
		return p.bindComparison(stmt, e)
	case clause.AndConditions, clause.OrConditions, clause.NotConditions, clause.Where, clause.GroupBy:
		return p.bindConditions(stmt, e)
	case clause.Select:
		if bound, ok := p.bind(stmt, e.Expression); ok {
			e.Expression = bound
			return e, true
		}
	case clause.OrderBy:
		if bound, ok := p.bind(stmt, e.Expression); ok {
			e.Expression = bound
			return e, true
		}
	case clause.Set:
		if bound, ok := p.bindSet(stmt, e); ok {
			return bound, true
		}
	}
	return nil, false
}

// bindComparison is bind for what compares a column with a value or several.
func (p *Plugin) bindComparison(stmt *gorm.Statement, e clause.Expression) (clause.Expression, bool) {
	switch e := e.(type) {
	case clause.Eq:
		if bound, ok := p.bindVar(stmt, e.Value); ok {
			e.Value = bound
			return e, true
		}
	case clause.Neq:
		if bound, ok := p.bindVar(stmt, e.Value); ok {
			e.Value = bound
			return e, true
		}
	case clause.Gt:
		if bound, ok := p.bindVar(stmt, e.Value); ok {
			e.Value = bound
			return e, true
		}
	case clause.Gte:
		if bound, ok := p.bindVar(stmt, e.Value); ok {
			e.Value = bound
			return e, true
		}
	case clause.Lt:
		if bound, ok := p.bindVar(stmt, e.Value); ok {
			e.Value = bound
			return e, true
		}
	case clause.Lte:
		if bound, ok := p.bindVar(stmt, e.Value); ok {
			e.Value = bound
			return e, true
		}
	case clause.IN:
		if bound, ok := p.bindVars(stmt, e.Values); ok {
			e.Values = bound
			return e, true
		}
	}
	return nil, false
}

// bindConditions is bind for what holds a list of conditions.
func (p *Plugin) bindConditions(stmt *gorm.Statement, e clause.Expression) (clause.Expression, bool) {
	switch e := e.(type) {
	case clause.AndConditions:
		if bound, ok := p.bindAll(stmt, e.Exprs); ok {
			e.Exprs = bound
			return e, true
		}
	case clause.OrConditions:
		if bound, ok := p.bindAll(stmt, e.Exprs); ok {
			e.Exprs = bound
			return e, true
		}
	case clause.NotConditions:
		if bound, ok := p.bindAll(stmt, e.Exprs); ok {
			e.Exprs = bound
			return e, true
		}
	case clause.Where:
		if bound, ok := p.bindAll(stmt, e.Exprs); ok {
			e.Exprs = bound
			return e, true
		}
	case clause.GroupBy:
		if bound, ok := p.bindAll(stmt, e.Having); ok {
			e.Having = bound
			return e, true
		}
	}
	return nil, false
}

func (p *Plugin) bindSet(stmt *gorm.Statement, set clause.Set) (_ clause.Set, changed bool) {
	for i := range set {
		if value, bound := p.bindVar(stmt, set[i].Value); bound {
			if !changed {
				set, changed = slices.Clone(set), true
			}
			set[i].Value = value
		}
	}
	return set, changed
}

func (p *Plugin) bindAll(stmt *gorm.Statement, exprs []clause.Expression) (_ []clause.Expression, changed bool) {
	for i, e := range exprs {
		if e, bound := p.bind(stmt, e); bound {
			if !changed {
				exprs, changed = slices.Clone(exprs), true
			}
			exprs[i] = e
		}
	}
	return exprs, changed
}

func (p *Plugin) bindVars(stmt *gorm.Statement, vars []any) (_ []any, changed bool) {
	for i, v := range vars {
		if v, bound := p.bindVar(stmt, v); bound {
			if !changed {
				vars, changed = slices.Clone(vars), true
			}
			vars[i] = v
		}
	}
	return vars, changed
}

func (p *Plugin) bindVar(stmt *gorm.Statement, v any) (_ any, changed bool) {
	switch v := v.(type) {
	case *gorm.DB:
		if v.Statement == nil || v.Error != nil || v.Plugins["tenancy"] != gorm.Plugin(p) || bypassOf(v.Config.ConnPool) != nil ||
			guard.CheckTenant(v.Statement.Context) != guard.ErrNoTenant { //nolint:errorlint // an error that wraps it means that the context says something
			return nil, false
		}
		if id := p.conditionTenant(stmt); id != "" {
			return v.WithContext(guard.WithTenant(v.Statement.Context, id)), true
		}
	case []any: // as GORM writes one in parentheses
		if bound, ok := p.bindVars(stmt, v); ok {
			return bound, true
		}
	case map[string]any: // of named arguments
		return p.bindNamed(stmt, v)
	case sql.NamedArg:
		if value, ok := p.bindVar(stmt, v.Value); ok {
			v.Value = value
			return v, true
		}
	case clause.Expression:
		if bound, ok := p.bind(stmt, v); ok {
			return bound, true
		}
		return p.bindGeneric(stmt, v)
	}
	return nil, false
}

func (p *Plugin) bindNamed(stmt *gorm.Statement, vars map[string]any) (_ map[string]any, changed bool) {
	for name, v := range vars {
		if v, bound := p.bindVar(stmt, v); bound {
			if !changed {
				vars, changed = maps.Clone(vars), true
			}
			vars[name] = v
		}
	}
	return vars, changed
}

// bindGeneric is bindVar for a query of GORM's generics, such as gorm.G[Note](db).Select("id"). GORM builds it under
// context.Background(), whatever the context of db. It has a type for each model, so only reflection reaches its method Scopes.
func (p *Plugin) bindGeneric(stmt *gorm.Statement, query clause.Expression) (_ any, changed bool) {
	v := reflect.ValueOf(query)
	if t := reflect.Indirect(v).Type(); t.PkgPath() != "gorm.io/gorm" || !strings.HasSuffix(t.Name(), "]") {
		return nil, false
	}
	scopes := v.MethodByName("Scopes")
	id := p.conditionTenant(stmt)
	if !scopes.IsValid() || id == "" {
		return nil, false
	}
	inherit := func(of *gorm.Statement) {
		if guard.CheckTenant(of.Context) == guard.ErrNoTenant { //nolint:errorlint // as in bindVar
			of.Context = guard.WithTenant(of.Context, id)
		}
	}
	return scopes.Call([]reflect.Value{reflect.ValueOf(inherit)})[0].Interface(), true
}
