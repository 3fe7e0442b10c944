package tenancy

import (
	"cmp"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// laterKey is where a statement notes that writeValues is to write the tenant.
const laterKey = "tenancy:later"

// writeValues writes the tenant into the rows of a VALUES clause that leave it unset, and DEFAULT for a statement that is observed.
func (p *Plugin) writeValues(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	values, ok := c.Expression.(clause.Values)
	if !ok { // another plugin's
		return c
	}
	switch stmt.Dest.(type) {
	case map[string]any, *map[string]any, []map[string]any, *[]map[string]any:
		values.Values = p.bindRows(stmt, values.Values)
		c.Expression = values
	}
	if _, later := stmt.Settings.LoadAndDelete(laterKey); !later {
		return c
	}
	s := p.statementOf(stmt)
	s.tenant = p.columnOf(stmt, "create")
	if s.isObserved() {
		c.Expression = s.defaultValues(values)
		return c
	}
	id, err := s.scope()
	value, fits := s.tenant.value(id)
	if err != nil || id == "" || !fits {
		_ = stmt.AddError(cmp.Or(err, errNoTenantForRow))
		return c
	}
	at := slices.IndexFunc(values.Columns, func(c clause.Column) bool { return s.tenant.is(c.Name) })
	if at < 0 {
		values.Columns = append(slices.Clip(values.Columns), clause.Column{Name: s.tenant.name})
	}
	if len(values.Values) == 0 {
		values.Values = [][]any{nil}
	}
	rows := make([][]any, len(values.Values))
	for i, row := range values.Values {
		rows[i] = slices.Clone(row)
		switch {
		case at < 0:
			rows[i] = append(rows[i], value)
		case isUnset(row[at]) || isDefaultValue(row[at]):
			rows[i][at] = value
		}
	}
	values.Values = rows
	c.Expression = values
	return c
}

// bindRows binds subqueries among the values of rows. Only maps can hold them.
func (p *Plugin) bindRows(stmt *gorm.Statement, rows [][]any) [][]any {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i], _ = p.bindVars(stmt, rows[i])
	}
	return rows
}

// isDefaultValue reports whether a value is what GORM writes for a field that is unset in some rows: DEFAULT.
func isDefaultValue(value any) bool {
	expr, ok := value.(clause.Expr)
	return ok && expr.SQL == "DEFAULT"
}
