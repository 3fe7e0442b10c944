package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Records of changes (rls.Audit) hold values of rows, also of rows that are gone. What they hold of a person becomes "***", which is what they
// have for columns in Audit.Mask. Time, actor and the key of the row stay.

// findLinks reads what the holdings find their rows by: the values of the person's rows, and those that records have of rows that are gone. The
// proof looks for them when the rows they are from are no more.
func (p *subject) findLinks(ctx context.Context) error {
	for n := len(p.holdings) - 1; n >= 0; n-- { // those that lead to others come before them
		h := p.holdings[n]
		if h.Link.kind == linkKey {
			row, err := p.row(ctx, "SELECT pg_catalog.jsonb_build_array($1::text)::text", p.key)
			if err != nil {
				return err
			}
			h.found = []string{string(row[0])}
			continue
		}
		values, err := p.valuesOf(ctx, h.target, h.keys)
		if err != nil {
			return fmt.Errorf("%s: %w", h.name(), explain(err))
		}
		h.found = values
	}
	return nil
}

// valuesOf reads columns of the person's rows in a table, as tuples.
func (p *subject) valuesOf(ctx context.Context, r *relation, columns []string) ([]string, error) {
	query := fmt.Sprintf("SELECT DISTINCT %s FROM %s t WHERE %s%s", tuple("t", columns), r.from(), p.owned(r, "t"),
		present("t.%s", columns, func(c string) string { return sqltext.Ident(c) }))
	list, err := p.texts(ctx, query, p.args()...)
	if err != nil || p.records == nil {
		return list, err
	}
	for _, h := range p.owners(r) {
		query := fmt.Sprintf("SELECT DISTINCT %s FROM %s a, LATERAL (VALUES (a.before), (a.after), (a.key)) v (i) WHERE %s%s",
			jsonTuple("v.i", columns), p.records.quoted(), p.recordsOf(h), present("v.i ->> %s", columns, sqltext.Literal))
		err := p.asLogin(ctx, func() error {
			more, err := p.texts(ctx, query, p.tenant, jsonArray(h.found...))
			list = append(list, more...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// present is SQL that adds to a condition that no column is NULL: such a row refers to none.
func present(format string, columns []string, quote func(string) string) string {
	text := ""
	for _, c := range columns {
		text += fmt.Sprintf(" AND "+format+" IS NOT NULL", quote(c))
	}
	return text
}

// asLogin runs statements about records, which are the right of the login. The setting of the tenant stays.
func (p *subject) asLogin(ctx context.Context, do func() error) error {
	const set = "SELECT pg_catalog.set_config('role', $1, true)"
	if _, err := p.row(ctx, set, p.login); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_, err := p.row(ctx, set, p.role)
	return err
}

// ofTable is SQL for whether a record a is about the table of a holding. For rows of partitions, it has the schema of the partition.
func (p *subject) ofTable(h *holding) string {
	condition := fmt.Sprintf("%s AND a.table_name = %s", tenantIs(p.records, "a"), sqltext.Literal(h.Table))
	if slices.ContainsFunc(p.scope.all, func(r *relation) bool { return r != h.relation && r.Table == h.Table }) {
		condition += " AND a.table_schema = " + sqltext.Literal(h.Schema)
	}
	return condition
}

// matches is SQL for whether a record a has what the holding finds rows by: an array of JSON, $2, of tuples.
func (p *subject) matches(h *holding) string {
	var some []string
	for _, image := range []string{"a.before", "a.after", "a.key"} {
		some = append(some, jsonTuple(image, h.Link.columns)+" = ANY (ARRAY(SELECT pg_catalog.jsonb_array_elements_text($2::text::pg_catalog.jsonb)))")
	}
	return "(" + strings.Join(some, " OR ") + ")"
}

// recordsOf is SQL for whether a record a is about a row that is or was one of the holding.
func (p *subject) recordsOf(h *holding) string {
	return fmt.Sprintf("%s AND (%s OR a.key IN (SELECT a.key FROM %s a WHERE %[1]s AND %[2]s))", p.ofTable(h), p.matches(h), p.records.quoted())
}

// masked is SQL for an image of a record without personal values, and whether it has some.
func (h *holding) masked(image string) (value, has string) {
	is := fmt.Sprintf("NOT e.key = ANY (%s)", textArray(h.kept()))
	value = fmt.Sprintf(`CASE WHEN %[1]s IS NOT NULL THEN coalesce((SELECT pg_catalog.jsonb_object_agg(e.key, CASE WHEN %[2]s THEN '"***"'::pg_catalog.jsonb ELSE e.value END)
		FROM pg_catalog.jsonb_each(%[1]s) e), '{}'::pg_catalog.jsonb) END`, image, is)
	has = fmt.Sprintf(`EXISTS (SELECT FROM pg_catalog.jsonb_each(%s) e WHERE %s AND e.value <> '"***"'::pg_catalog.jsonb)`, image, is)
	return value, has
}

// kept are the columns that records keep: those that Erase leaves as they are.
func (h *holding) kept() []string {
	var list []string
	changed := h.changed()
	for _, c := range h.Columns {
		stays := slices.Contains(h.Primary, c.Name) && !h.personal(c.Name) || c.Name == h.relation.key.Name
		switch h.Erasure.kind {
		case erasureAnonymise:
			stays = stays || !slices.ContainsFunc(changed, func(other column) bool { return other.Name == c.Name }) && !c.Generated
		case erasureUnlink:
			stays = !slices.Contains(h.unlinked(), c.Name)
		}
		if stays {
			list = append(list, c.Name)
		}
	}
	return list
}

// mask masks records a that meet a condition, and returns how many. Parameters are the tenant and what the condition has.
func (p *subject) mask(ctx context.Context, h *holding, condition string, args ...string) (masked int64, err error) {
	var set, some []string
	for _, image := range []string{"before", "after", "key"} {
		value, has := h.masked("a." + image)
		set, some = append(set, image+" = "+value), append(some, has)
	}
	query := fmt.Sprintf("UPDATE %s a SET %s WHERE %s AND (%s) RETURNING 1", p.records.quoted(), strings.Join(set, ", "), condition, strings.Join(some, " OR "))
	err = p.asLogin(ctx, func() error {
		return p.each(ctx, query, func([][]byte) error { masked++; return nil }, append([]string{p.tenant}, args...)...)
	})
	return masked, err
}

// maskRows masks the records of rows that a batch has changed.
func (p *subject) maskRows(ctx context.Context, h *holding, keys []string) (masked int64, err error) {
	if p.records == nil {
		return 0, nil
	}
	if err := p.exec(ctx, plainPath); err != nil {
		return 0, err
	}
	condition, args := p.ofTable(h)+" AND "+p.matches(h), []string{jsonArray(h.found...)}
	if h.Erasure.kind != erasureUnlink { // by which the other records of a row are about others
		condition = fmt.Sprintf("%s AND (%s OR a.key = ANY (ARRAY(SELECT pg_catalog.jsonb_array_elements($3::text::pg_catalog.jsonb))))", p.ofTable(h), p.matches(h))
		args = append(args, "["+strings.Join(keys, ",")+"]")
	}
	if masked, err = p.mask(ctx, h, condition, args...); err != nil {
		return 0, err
	}
	return masked, p.exec(ctx, triggersPath)
}

// maskHistory masks the records of rows that were gone before.
func (e *subjectErasing) maskHistory(ctx context.Context, h *holding) error {
	if e.records == nil || h.Erasure.kind == erasureRetain || len(h.found) == 0 {
		return nil
	}
	condition := e.recordsOf(h)
	if h.Erasure.kind == erasureUnlink {
		condition = e.ofTable(h) + " AND " + e.matches(h)
	}
	masked := int64(0)
	err := e.inTransaction(ctx, beginWriting, func() (err error) {
		masked, err = e.mask(ctx, h, condition, jsonArray(h.found...))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", e.records.name(), explain(err))
	}
	e.report.Records += masked
	return nil
}

// recordKey is SQL for the primary key of a row as records have it.
func (h *holding) recordKey(alias string) string {
	if len(h.Primary) == 0 {
		return "'null'"
	}
	var list []string
	for _, name := range h.Primary {
		list = append(list, sqltext.Literal(name), alias+"."+sqltext.Ident(name))
	}
	return "pg_catalog.jsonb_build_object(" + strings.Join(list, ", ") + ")::text"
}

// jsonTuple is tuple of an image in a record.
func jsonTuple(image string, columns []string) string {
	list := make([]string, len(columns))
	for n, c := range columns {
		list[n] = image + " ->> " + sqltext.Literal(c)
	}
	return "pg_catalog.jsonb_build_array(" + strings.Join(list, ", ") + ")::text"
}

func textArray(list []string) string {
	literals := make([]string, len(list))
	for n, s := range list {
		literals[n] = sqltext.Literal(s)
	}
	return "ARRAY[" + strings.Join(literals, ", ") + "]::text[]"
}

// jsonArray writes texts as PostgreSQL writes them in jsonb_build_array.
func jsonArray(list ...string) string {
	text, err := json.Marshal(append([]string{}, list...))
	if err != nil { // texts can always be written
		return "[]"
	}
	return string(text)
}
