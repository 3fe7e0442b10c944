package check

import (
	"slices"
	"strings"
)

// ModelsOnly is Models, and narrows the report to what is found of their tables: their policies, keys, columns, triggers and grants.
func ModelsOnly(models ...any) Option {
	return func(c *checker) { c.models, c.narrowed = append(c.models, models...), true }
}

// reports reports whether a finding belongs into the report.
func (c *checker) reports(f Finding) bool {
	return !c.narrowed || slices.ContainsFunc(c.tables, func(table string) bool {
		return f.Object == table || strings.HasSuffix(f.Object, " on "+table) || slices.ContainsFunc(c.facts.Uniques, func(u unique) bool {
			return u.String() == f.Object && u.table.String() == table
		})
	})
}
