package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// PlanErase returns what Erase would do, and fails where Erase would refuse. It changes nothing.
func (s Subjects) PlanErase(ctx context.Context, tenant, key string) (SubjectReport, error) {
	report := SubjectReport{Tenant: tenant, Request: s.Request}
	err := s.run(ctx, OpSubjectPlan, tenant, key, func(p *subject) error {
		return p.inTransaction(ctx, beginReading, func() error { return p.plan(ctx, &report) })
	})
	return report, err
}

// Erase does with the rows of a person what the holdings say, and proves it.
//
// Rows go in batches, each in a transaction of its own, and what is found by others goes first. After an error, or if the process is killed, the
// next call goes on. In the transaction of a batch, the values that records of changes (rls.Audit) hold of its rows are masked, and in the
// beginning those of rows that were gone before. At the end all is counted in one snapshot: without an error, no row of the person is left but those
// that the report lists as retained or anonymised, with the reasons.
//
// Backups, replicas that lag, materialized views, logs and files still have what they had. Stop writing for the person before: rows that come
// in meanwhile are ErrRemains.
func (s Subjects) Erase(ctx context.Context, tenant, key string) (SubjectReport, error) {
	report := SubjectReport{Tenant: tenant, Request: s.Request}
	err := s.run(ctx, OpSubjectErase, tenant, key, func(p *subject) error {
		e := &subjectErasing{subject: p, report: &report}
		err := p.inTransaction(ctx, beginReading, func() error {
			if err := p.plan(ctx, &report); err != nil {
				return err
			}
			return p.findLinks(ctx)
		})
		for n := range report.Holdings {
			e.total = append(e.total, report.Holdings[n].Rows)
			if p.holdings != nil && report.Holdings[n].Erasure != erasureRetain.String() {
				report.Holdings[n].Rows = 0
			}
		}
		if err != nil {
			return err
		}
		return e.run(ctx)
	})
	return report, err
}

// plan counts the rows, and refuses what could not be done.
func (p *subject) plan(ctx context.Context, report *SubjectReport) error {
	if err := p.resolve(ctx); err != nil {
		return err
	}
	report.Left = slices.Clone(p.scope.left)
	if p.records != nil {
		report.Left = slices.DeleteFunc(report.Left, func(l Left) bool { return l.Object == p.records.name() })
		report.Left = append(report.Left, Left{Object: p.records.name(), Reason: "records of changes, in which values of the person's rows are masked, but of those that are retained"})
	}
	for _, h := range p.holdings {
		n, err := p.number(ctx, p.countRows(h.relation, p.work(h)), p.args()...)
		if err != nil {
			return fmt.Errorf("%s: %w", h.name(), explain(err))
		}
		p.progress(h.name(), 0, n)
		rows := SubjectRows{Table: h.name(), Erasure: h.Erasure.kind.String(), Rows: n, Basis: h.basis}
		if !h.until.IsZero() {
			rows.Until = &h.until
		}
		report.Holdings = append(report.Holdings, rows)
		for _, c := range h.Columns {
			if v := h.values[c.Name]; v.kind == valueKeep {
				report.Kept = append(report.Kept, SubjectColumn{h.name(), c.Name, v.text})
			}
		}
	}
	return p.refersToNoneDeleted(ctx)
}

// refersToNoneDeleted refuses rows that stay, and refer to rows that would be deleted.
func (p *subject) refersToNoneDeleted(ctx context.Context) error {
	for _, r := range p.scope.all {
		for _, f := range r.ForeignKeys {
			to := p.scope.find(f.Schema, f.Table)
			for _, h := range p.owners(to) {
				if h.Erasure.kind != erasureDelete || p.goesBefore(r, f) || r.key == nil {
					continue
				}
				present, same := f.join("t")
				n, err := p.number(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s t, %s c WHERE %s AND %s AND %s AND %s LIMIT 1) x",
					to.from(), r.from(), p.work(h), tenantIs(r, "c"), present, same), p.args()...)
				if err != nil {
					return fmt.Errorf("%s: %w", r.name(), explain(err))
				}
				if n > 0 {
					return fmt.Errorf("%w: rows of %s stay and refer by %s to rows of %s that would be deleted: anonymise these, or delete or unlink those",
						ErrBeyond, r.name(), sqltext.Ident(f.Name), to.name())
				}
			}
		}
	}
	return nil
}

// subjectErasing is a run of Erase.
type subjectErasing struct {
	*subject
	report *SubjectReport
	total  []int64
}

func (e *subjectErasing) run(ctx context.Context) error {
	for _, h := range e.holdings {
		if err := e.maskHistory(ctx, h); err != nil {
			return err
		}
	}
	for n, h := range e.holdings {
		var err error
		switch h.Erasure.kind {
		case erasureDelete:
			err = e.delete(ctx, n, h)
		case erasureUnlink:
			err = e.unlink(ctx, n, h)
		case erasureAnonymise:
			err = e.anonymise(ctx, n, h)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.name(), explain(err))
		}
	}
	return e.prove(ctx)
}

func (e *subjectErasing) size() int {
	if e.BatchSize == 0 {
		return defaultBatch
	}
	return e.BatchSize
}

// commit runs a batch in a transaction of its own, with the records of its rows, which it returns the keys of.
func (e *subjectErasing) commit(ctx context.Context, n int, h *holding, change func() (keys []string, err error)) (rows int, err error) {
	masked := int64(0)
	err = e.inTransaction(ctx, beginWriting, func() error {
		if err := e.exec(ctx, triggersPath); err != nil {
			return err
		}
		keys, err := change()
		if rows = len(keys); err != nil || rows == 0 {
			return err
		}
		masked, err = e.maskRows(ctx, h, keys)
		return err
	})
	if err != nil {
		return 0, err
	}
	e.report.Records += masked
	e.report.Holdings[n].Rows += int64(rows)
	e.session.rows += int64(rows)
	e.progress(h.name(), e.report.Holdings[n].Rows, max(e.total[n], e.report.Holdings[n].Rows))
	return rows, ctx.Err()
}

// some is SQL for a batch of the rows t that a holding has work with.
func (e *subjectErasing) some(h *holding) string {
	find := fmt.Sprintf("%s t WHERE %s LIMIT %d", h.from(), e.work(h), e.size())
	if h.Kind == "p" { // where a ctid is one of each partition
		return fmt.Sprintf("(tableoid, ctid) IN (SELECT t.tableoid, t.ctid FROM %s)", find)
	}
	return fmt.Sprintf("ctid = ANY (ARRAY(SELECT t.ctid FROM %s))", find)
}

// repeat runs a statement again and again until it finds less than a batch.
func (e *subjectErasing) repeat(ctx context.Context, n int, h *holding, query string) error {
	for {
		rows, err := e.commit(ctx, n, h, func() ([]string, error) { return e.texts(ctx, query, e.args()...) })
		if err != nil || rows < e.size() {
			return err
		}
	}
}

func (e *subjectErasing) delete(ctx context.Context, n int, h *holding) error {
	return e.repeat(ctx, n, h, fmt.Sprintf("DELETE FROM %s d WHERE %s AND %s RETURNING %s", h.from(), tenantIs(h.relation, "d"), e.some(h), h.recordKey("d")))
}

func (e *subjectErasing) unlink(ctx context.Context, n int, h *holding) error {
	var set []string
	for _, c := range h.unlinked() {
		set = append(set, sqltext.Ident(c)+" = NULL")
	}
	return e.repeat(ctx, n, h, fmt.Sprintf("UPDATE %s d SET %s WHERE %s AND %s RETURNING %s",
		h.from(), strings.Join(set, ", "), tenantIs(h.relation, "d"), e.some(h), h.recordKey("d")))
}

// changed are the columns that get other values.
func (h *holding) changed() []column {
	var list []column
	for _, c := range h.Columns {
		if v := h.values[c.Name]; v.kind != 0 && v.kind != valueKeep {
			list = append(list, c)
		}
	}
	return list
}

// anonymise goes through the rows by their primary key, and changes those that are not yet as they are to be.
func (e *subjectErasing) anonymise(ctx context.Context, n int, h *holding) error {
	var after []string // the primary key of the last row
	for {
		last := 0
		_, err := e.commit(ctx, n, h, func() (keys []string, err error) {
			var rows []anonymous
			if rows, err = e.readAnonymous(ctx, h, after); err != nil || len(rows) == 0 {
				return nil, err
			}
			last, after = len(rows), rows[len(rows)-1].primary
			return e.setValues(ctx, h, rows)
		})
		if err != nil || last < e.size() {
			return err
		}
	}
}

// anonymous is a row that is to be anonymised.
type anonymous struct {
	primary []string // as texts
	key     string   // as records of changes have it
	want    [][]byte // of the changed columns
	done    bool     // it has these values
}

// readAnonymous reads a batch of rows, those behind a primary key if there is one, and locks them.
func (e *subjectErasing) readAnonymous(ctx context.Context, h *holding, after []string) (rows []anonymous, err error) {
	condition, primary := e.work(h), sqltext.Idents(h.Primary)
	if after != nil {
		var bounds []string
		for n, name := range h.Primary {
			bounds = append(bounds, fmt.Sprintf("$%d::text::%s", n+3, h.column(name).Base))
		}
		condition += fmt.Sprintf(" AND (%s) > (%s)", primary, strings.Join(bounds, ", "))
	}
	condition += fmt.Sprintf(" ORDER BY %s LIMIT %d FOR UPDATE", primary, e.size())
	err = e.eachAnonymous(ctx, h, condition, e.args(after...), func(row anonymous) { rows = append(rows, row) })
	return rows, err
}

// eachAnonymous reads rows t that meet a condition, and says what they are to be.
func (p *subject) eachAnonymous(ctx context.Context, h *holding, condition string, args []string, do func(row anonymous)) error {
	changed, list := h.changed(), []string{h.recordKey("t")}
	for _, name := range h.Primary {
		list = append(list, "t."+sqltext.Ident(name)+"::text")
	}
	for _, c := range changed {
		list = append(list, "t."+sqltext.Ident(c.Name)+"::text")
	}
	query := fmt.Sprintf("SELECT %s FROM %s t WHERE %s", strings.Join(list, ", "), h.from(), condition)
	return p.each(ctx, query, func(values [][]byte) error {
		row := anonymous{key: string(values[0]), done: true}
		for _, v := range values[1 : 1+len(h.Primary)] {
			row.primary = append(row.primary, string(v))
		}
		for n, c := range changed {
			want, is := h.values[c.Name].become(h, row.primary), values[1+len(h.Primary)+n]
			row.done = row.done && (want == nil) == (is == nil) && string(want) == string(is)
			row.want = append(row.want, want)
		}
		do(row)
		return nil
	}, args...)
}

// become is what a column becomes in a row, nil for NULL.
func (v Value) become(h *holding, primary []string) []byte {
	switch v.kind {
	case valueFixed:
		return []byte(v.text)
	case valueUnique:
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", h.name(), primary))
		return []byte(v.of(hex.EncodeToString(sum[:16])))
	}
	return nil
}

// setValues changes rows, and returns the keys of those that were not yet as they are to be.
func (e *subjectErasing) setValues(ctx context.Context, h *holding, rows []anonymous) (keys []string, err error) {
	var set, where []string
	changed := h.changed()
	if len(changed) == 0 {
		return nil, nil
	}
	for n, c := range changed {
		set = append(set, fmt.Sprintf("%s = $%d", sqltext.Ident(c.Name), n+2))
	}
	for n, name := range h.Primary {
		where = append(where, fmt.Sprintf("d.%s = $%d::text::%s", sqltext.Ident(name), n+2+len(changed), h.column(name).Base))
	}
	query := fmt.Sprintf("UPDATE %s d SET %s WHERE %s AND %s", h.from(), strings.Join(set, ", "), tenantIs(h.relation, "d"), strings.Join(where, " AND "))
	if _, err := e.conn.Prepare(ctx, "", query, nil); err != nil {
		return nil, err
	}
	batch := &pgconn.Batch{}
	for _, row := range rows {
		if row.done {
			continue
		}
		values := append([][]byte{[]byte(e.tenant)}, row.want...)
		batch.ExecPrepared("", append(values, bytesOf(row.primary)...), nil, nil)
		keys = append(keys, row.key)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return keys, e.conn.ExecBatch(ctx, batch).Close()
}
