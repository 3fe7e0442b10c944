package tenancy

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// Upserts. What the tags of a model make unique, rls.Migrate makes unique within each tenant: the index has one column more than
// the model says, and PostgreSQL would find no index for ON CONFLICT (42P10). The clause gets that column while it is written as
// SQL, so the caller's value and the statement stay as they are.

// writeConflict completes a clause ON CONFLICT.
func (p *Plugin) writeConflict(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	if conflict, ok := c.Expression.(clause.OnConflict); ok {
		conflict.DoUpdates, _ = p.bindSet(stmt, conflict.DoUpdates)
		conflict.Where.Exprs, _ = p.bindAll(stmt, conflict.Where.Exprs)
		c.Expression = p.withTenant(stmt, conflict)
	}
	return c
}

// withTenant returns the clause with the tenant column in its target, if the index has it, and not among what it updates.
func (p *Plugin) withTenant(stmt *gorm.Statement, c clause.OnConflict) clause.OnConflict {
	tenant := p.columnOf(stmt, "upsert")
	if tenant.field == nil && !p.isChild(stmt) {
		return c // a shared table, or no model that names indexes
	}
	tenant.name = p.config.Column
	s, within := p.statementOf(stmt), false // within: the rows that it can conflict with are of the same tenant
	if c.OnConstraint == "" && len(c.Columns) > 0 {
		within = slices.ContainsFunc(c.Columns, func(c clause.Column) bool { return tenant.is(c.Name) })
		if !within && !s.isObserved() && p.areWithinTenant(stmt, tenant, c.Columns) {
			within = true
			c.Columns = append([]clause.Column{{Name: tenant.name}}, c.Columns...)
		}
	}
	// A tenant can conflict with its own rows only. The admin client can conflict with others, by a key without the column, and then
	// the whole row changes its tenant.
	tenants := s.bypass == nil
	if within || tenants {
		c.DoUpdates = withoutTenant(c.DoUpdates, func(a clause.Assignment) bool {
			return tenant.is(a.Column.Name) && (tenants || tenant.isExcluded(a.Value))
		})
	}
	return c
}

// isChild reports whether the table has the tenant column without a field of the model, as rls.Isolation.Migrate gives it to tables
// that refer to a tenant table. Its unique indexes have the column then.
func (p *Plugin) isChild(stmt *gorm.Statement) bool {
	return stmt.Schema != nil && stmt.Schema.FieldsByDBName[p.config.Column] == nil && !policy.IsShared(stmt.Schema) &&
		p.isIsolated(stmt, subject{table: stmt.Table, kind: kindTable})
}

// withoutTenant removes assignments that would change nothing, but not the last one: without it the row would be neither counted
// nor returned.
func withoutTenant(set clause.Set, drop func(clause.Assignment) bool) clause.Set {
	if !slices.ContainsFunc(set, drop) {
		return set
	}
	rest := slices.DeleteFunc(slices.Clone(set), drop)
	if len(rest) == 0 {
		return set
	}
	return rest
}

// isExcluded reports whether an assigned value is that of the row which was to be inserted.
func (c tenantColumn) isExcluded(value any) bool {
	column, ok := value.(clause.Column)
	return ok && strings.EqualFold(column.Table, "excluded") && c.is(column.Name)
}

// uniques are the unique keys of a model's table according to its tags: columns, sorted and without the tenant column.
type uniques struct {
	primary       []string
	primaryTenant bool // the primary key of the model has the tenant column
	within        [][]string
}

// areWithinTenant reports whether the columns are unique within a tenant only. The primary key is compared first, because
// rls.Migrate leaves it as it is, unless TenantKeys puts the tenant column into it.
func (p *Plugin) areWithinTenant(stmt *gorm.Statement, tenant tenantColumn, columns []clause.Column) bool {
	u := p.uniquesOf(stmt)
	names := make([]string, len(columns))
	for n, column := range columns {
		names[n] = plainName(column.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(u.primary) > 0 && slices.Equal(names, u.primary) {
		return u.primaryTenant || p.isKeyed(stmt, tenant)
	}
	return slices.ContainsFunc(u.within, func(unique []string) bool { return slices.Equal(unique, names) })
}

// plainName makes names and expressions comparable that are the same to PostgreSQL.
func plainName(name string) string {
	name = strings.ToLower(strings.Join(strings.Fields(name), ""))
	if inner, ok := strings.CutPrefix(name, "("); ok {
		name = strings.TrimSuffix(inner, ")")
	}
	return strings.Trim(name, `"`)
}

// uniquesOf returns the unique keys of the statement's model.
func (p *Plugin) uniquesOf(stmt *gorm.Statement) *uniques {
	if known, ok := p.uniques.Load(stmt.Schema); ok {
		return known.(*uniques)
	}
	known, _ := p.uniques.LoadOrStore(stmt.Schema, p.parseUniques(stmt))
	return known.(*uniques)
}

func (p *Plugin) parseUniques(stmt *gorm.Statement) *uniques {
	u := &uniques{}
	// GORM writes to the schema while it parses indexes, so this one is a copy.
	s, err := schema.Parse(reflect.New(stmt.Schema.ModelType).Interface(), &sync.Map{}, stmt.NamingStrategy)
	if err != nil {
		return u
	}
	u.primary, u.primaryTenant = p.restOf(s.PrimaryFieldDBNames)
	add := func(names []string) {
		if rest, _ := p.restOf(names); len(rest) > 0 {
			u.within = append(u.within, rest)
		}
	}
	for _, unique := range s.ParseUniqueConstraints() {
		add([]string{unique.Field.DBName})
	}
	for _, index := range s.ParseIndexes() {
		if index.Class != "UNIQUE" {
			continue
		}
		var names []string
		for _, field := range index.Fields {
			name := field.DBName
			if field.Expression != "" {
				name = field.Expression
			}
			names = append(names, name)
		}
		add(names)
	}
	return u
}

// restOf returns names in the form of plainName, sorted and without the tenant column, and whether that was among them.
func (p *Plugin) restOf(names []string) (rest []string, tenant bool) {
	for _, name := range names {
		if name == p.config.Column {
			tenant = true
			continue
		}
		rest = append(rest, plainName(name))
	}
	slices.Sort(rest)
	return rest, tenant
}
