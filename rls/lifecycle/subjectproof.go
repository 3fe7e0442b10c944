package lifecycle

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// prove counts what is left, in one snapshot, with the tables as the catalog has them now. It looks for the rows by what the holdings say, and by
// what they were found by before: where a parent is deleted or anonymised, its children are found no more.
func (e *subjectErasing) prove(ctx context.Context) error {
	before := e.holdings
	e.scope = nil
	return e.inTransaction(ctx, beginReading, func() error {
		if err := e.resolve(ctx); err != nil {
			return err
		}
		if len(before) != len(e.holdings) {
			return fmt.Errorf("%w: the holdings have changed during the run", ErrUndeclared)
		}
		for n, h := range e.holdings {
			h.found = before[n].found
		}
		var remains []string
		for n, h := range e.holdings {
			rows, err := e.remaining(ctx, h)
			if err != nil {
				return fmt.Errorf("%s: %w", h.name(), explain(err))
			}
			if h.Erasure.kind == erasureRetain {
				e.report.Holdings[n].Rows = rows
				continue
			}
			if rows > 0 {
				remains = append(remains, fmt.Sprintf("%s (%d)", h.name(), rows))
			}
			if rows, err = e.unmasked(ctx, h); err != nil {
				return fmt.Errorf("%s: %w", e.records.name(), explain(err))
			}
			if rows > 0 {
				remains = append(remains, fmt.Sprintf("%s, about %s (%d)", e.records.name(), h.name(), rows))
			}
		}
		if len(remains) > 0 {
			return fmt.Errorf("%w of the person in %s: a trigger or a rule keeps them, or others have come in meanwhile", ErrRemains, strings.Join(remains, ", "))
		}
		return nil
	})
}

// statementArgs are the parameters of a statement that is being written.
type statementArgs []string

// add adds a value, and returns its parameter.
func (a *statementArgs) add(value string) string {
	*a = append(*a, value)
	return "$" + strconv.Itoa(len(*a)) + "::text"
}

// foundRows is SQL for whether a row t is one of the holding, or was.
func (e *subjectErasing) foundRows(h *holding, args *statementArgs) string {
	if h.Link.kind == linkKey {
		return e.rows(h, "t")
	}
	list := args.add(jsonArray(h.found...))
	return fmt.Sprintf("(%s OR %s AND %s = ANY (ARRAY(SELECT pg_catalog.jsonb_array_elements_text(%s::pg_catalog.jsonb))))",
		e.rows(h, "t"), tenantIs(h.relation, "t"), tuple("t", h.Link.columns), list)
}

// remaining counts the rows of a holding that are not as they are to be, or those that are retained.
func (e *subjectErasing) remaining(ctx context.Context, h *holding) (rows int64, err error) {
	args := statementArgs(e.args())
	condition := e.foundRows(h, &args)
	for _, other := range e.holdings {
		if other.relation == h.relation && other != h && other.Erasure.kind == erasureRetain {
			condition += " AND " + e.foundRows(other, &args) + " IS NOT TRUE"
		}
	}
	switch h.Erasure.kind {
	case erasureAnonymise:
		err = e.eachAnonymous(ctx, h, condition, args, func(row anonymous) {
			if !row.done {
				rows++
			}
		})
		return rows, err
	case erasureUnlink:
		for _, c := range h.unlinked() {
			condition += " AND t." + sqltext.Ident(c) + " IS NOT NULL"
		}
	}
	return e.number(ctx, e.countRows(h.relation, condition), args...)
}

// unmasked counts the records about rows of a holding that still hold values.
func (e *subjectErasing) unmasked(ctx context.Context, h *holding) (int64, error) {
	if e.records == nil {
		return 0, nil
	}
	condition := e.recordsOf(h)
	if h.Erasure.kind == erasureUnlink {
		condition = e.ofTable(h) + " AND " + e.matches(h)
	}
	var some []string
	for _, image := range []string{"a.before", "a.after", "a.key"} {
		_, has := h.masked(image)
		some = append(some, has)
	}
	var n int64
	err := e.asLogin(ctx, func() (err error) {
		n, err = e.number(ctx, fmt.Sprintf("SELECT count(*) FROM %s a WHERE %s AND (%s)", e.records.quoted(), condition, strings.Join(some, " OR ")),
			e.tenant, jsonArray(h.found...))
		return err
	})
	return n, err
}
