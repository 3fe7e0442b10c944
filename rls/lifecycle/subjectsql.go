package lifecycle

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// The rows of a person in SQL: a table is t there, $1 is the tenant, $2 the key of the person, and what a statement needs besides follows.

// rows is SQL for whether a row, by its alias, is one of the holding. It says so of rows of the tenant alone, also within.
func (p *subject) rows(h *holding, alias string) string {
	own := tenantIs(h.relation, alias)
	if h.Link.kind == linkKey {
		c := h.column(h.Link.columns[0])
		return fmt.Sprintf("(%s AND %s.%s = $2::text::%s)", own, alias, sqltext.Ident(c.Name), c.Base)
	}
	above := alias + "p"
	same := []string{p.owned(h.target, above)}
	for n, c := range h.Link.columns {
		same = append(same, fmt.Sprintf("%s.%s = %s.%s", alias, sqltext.Ident(c), above, sqltext.Ident(h.keys[n])))
	}
	return fmt.Sprintf("(%s AND EXISTS (SELECT FROM %s %s WHERE %s))", own, h.target.from(), above, strings.Join(same, " AND "))
}

// owned is SQL for whether a row, by its alias, is about the person by any holding of its table.
func (p *subject) owned(r *relation, alias string) string {
	var some []string
	for _, h := range p.owners(r) {
		some = append(some, p.rows(h, alias))
	}
	return "(" + strings.Join(some, " OR ") + ")"
}

// work is SQL for whether a row t is one that Erase changes for the holding: what another holding retains stays.
func (p *subject) work(h *holding) string {
	condition := p.rows(h, "t")
	for _, other := range p.holdings {
		if other.relation == h.relation && other != h && other.Erasure.kind == erasureRetain {
			condition += " AND " + p.rows(other, "t") + " IS NOT TRUE"
		}
	}
	return condition
}

func tenantIs(r *relation, alias string) string {
	return fmt.Sprintf("%s.%s = $1::text::%s", alias, sqltext.Ident(r.key.Name), r.key.Base)
}

// args are the parameters of each statement.
func (p *subject) args(more ...string) []string { return append([]string{p.tenant, p.key}, more...) }

// countRows counts rows t of a table.
func (p *subject) countRows(r *relation, condition string) (query string) {
	return fmt.Sprintf("SELECT count(*) FROM %s t WHERE %s", r.from(), condition)
}

// tuple is SQL for the values of columns of a row as a text, an array of JSON, by which rows and records are compared.
func tuple(alias string, columns []string) string {
	list := make([]string, len(columns))
	for n, c := range columns {
		list[n] = alias + "." + sqltext.Ident(c) + "::text"
	}
	return "pg_catalog.jsonb_build_array(" + strings.Join(list, ", ") + ")::text"
}
