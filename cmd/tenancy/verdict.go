package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// verdict describes for each tenant table how the plan finds the tenant's rows, and whether policies apply at all.
func verdict(scans []scan, tables map[string]tenantTable, column, role string) string {
	var sentences []string
	for _, s := range scans {
		t, isTenantTable := tables[s.name()]
		if !isTenantTable {
			continue
		}
		sentences = append(sentences, s.judge(t, column, role))
		if !t.secured {
			sentences = append(sentences, fmt.Sprintf("Attention: no policy applies to role %s on %s, so this is not the plan under a policy.",
				role, s.name()))
		}
	}
	if len(sentences) == 0 {
		return fmt.Sprintf("The plan reads no table that has the column %s.\n", column)
	}
	slices.Sort(sentences)
	return strings.Join(slices.Compact(sentences), "\n") + "\n"
}

// judge reports whether an index that leads with the tenant column is used.
func (s scan) judge(t tenantTable, column, role string) string {
	for _, index := range s.indexes {
		if slices.Contains(t.leading, index.Index) && mentions(index.Cond, column) {
			return fmt.Sprintf("Yes: %s is read through the index %s, which leads with %s.", s.name(), index.Index, column)
		}
	}
	how := s.how
	if len(s.indexes) > 0 {
		how += " of " + s.indexes[0].Index
	}
	limited := slices.ContainsFunc(s.conditions, func(condition string) bool { return mentions(condition, column) })
	if t.secured && !limited {
		return fmt.Sprintf("No: %s is read by %s, without a condition on %s: the policies for role %s let the rows of all tenants "+
			"through.", s.name(), how, column, role)
	}
	if len(t.leading) == 0 {
		return fmt.Sprintf("No: %s is read by %s, and no index leads with %s: \"tenancy check\" prints the statement that makes one.", s.name(), how, column)
	}
	return fmt.Sprintf("No: %s is read by %s, although %s leads with %s. PostgreSQL prefers that for small tables, without "+
		"statistics (run ANALYZE), or if another condition finds fewer rows.", s.name(), how, t.leading[0], column)
}

// mentions reports whether a condition, as PostgreSQL writes it, is about the column.
func mentions(condition, column string) bool {
	const before, after = `(?:^|[^\pL\pN_$"])`, `(?:$|[^\pL\pN_$"])`
	quoted := `"` + strings.ReplaceAll(column, `"`, `""`) + `"`
	name := regexp.MustCompile(before + "(?:" + regexp.QuoteMeta(column) + "|" + regexp.QuoteMeta(quoted) + ")" + after)
	return name.MatchString(condition)
}
