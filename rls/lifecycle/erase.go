package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// PlanErase returns what Erase would delete, and what it would keep and why, and fails where Erase would refuse. It changes nothing.
func (t Tenants) PlanErase(ctx context.Context, tenant string) (Report, error) {
	report := Report{Tenant: tenant}
	err := t.run(ctx, OpPlan, tenant, func(s *session) error {
		return s.inTransaction(ctx, beginReading, func() (err error) {
			report, err = s.planErase(ctx)
			return err
		})
	})
	return report, err
}

// Erase deletes all rows of a tenant, children first, and its row in the table of tenants last. Then it counts them in one snapshot: without an
// error, no tenant table outside of Skip has a row of the tenant. The report has the rows deleted by this call, and what is kept.
//
// Rows are deleted in batches, each in a transaction of its own. After an error, or if the process is killed, the next call goes on. It fails
// before it deletes anything where a foreign key would delete or change rows that it keeps, or rows of other tenants. A circle of foreign keys is
// deleted from its leaves, and what has none in one statement.
//
// Backups, replicas that lag, materialized views and logs still have the rows. Stop the tenant's requests before: rows that come in meanwhile
// are ErrRemains.
func (t Tenants) Erase(ctx context.Context, tenant string) (Report, error) {
	report := Report{Tenant: tenant}
	err := t.run(ctx, OpErase, tenant, func(s *session) error { return s.erase(ctx, &report) })
	return report, err
}

func (s *session) erase(ctx context.Context, report *Report) error {
	var planned Report
	err := s.inTransaction(ctx, beginReading, func() (err error) {
		planned, err = s.planErase(ctx)
		return err
	})
	if err != nil {
		return err
	}
	report.Left = planned.Left
	e := &erasing{session: s, erased: map[string]int64{}, total: map[string]int64{}, left: report.Left}
	for _, table := range planned.Tables {
		e.total[table.Name] = table.Rows
	}
	err = e.run(ctx)
	for _, table := range planned.Tables {
		report.Tables = append(report.Tables, Table{Name: table.Name, Rows: e.erased[table.Name]})
	}
	return err
}

// planErase counts, and refuses what reaches beyond.
func (s *session) planErase(ctx context.Context) (Report, error) {
	report := Report{Tenant: s.tenant, Left: slices.Clone(s.scope.left)}
	if err := s.staysWithin(ctx); err != nil {
		return report, err
	}
	if err := s.countKept(ctx, report.Left); err != nil {
		return report, err
	}
	var err error
	report.Tables, err = s.count(ctx, s.scope.tables())
	s.rows = 0
	return report, err
}

// countKept counts the rows of the tenant in tables that are kept, where policies show all of them.
func (s *session) countKept(ctx context.Context, list []Left) error {
	for n, left := range list {
		for _, r := range s.scope.kept {
			if left.Object != r.name() || s.isolated(r, s.role, false) != nil {
				continue
			}
			counted, err := s.count(ctx, []*relation{r})
			if err != nil {
				return err
			}
			list[n].Rows = counted[0].Rows
		}
	}
	return nil
}

// staysWithin refuses foreign keys by which a deleted row takes others along that are not to be deleted: PostgreSQL asks no policy then.
func (s *session) staysWithin(ctx context.Context) error {
	erased := s.scope.tables()
	for _, r := range s.scope.all {
		for _, f := range r.ForeignKeys {
			to := s.scope.find(f.Schema, f.Table)
			if !slices.Contains(erased, to) {
				continue
			}
			var (
				acts   = f.OnDelete == "c" || f.OnDelete == "n" || f.OnDelete == "d"
				inside = slices.Contains(erased, r)
			)
			switch {
			case inside && (!acts || s.scope.tellsTenants(r, f)):
			case inside:
				return fmt.Errorf("%w: %s of %s does not include the tenant, and would delete or change rows of other tenants: let Migrate replace it",
					ErrBeyond, sqltext.Ident(f.Name), r.name())
			case acts:
				return fmt.Errorf("%w: %s of %s would delete or change rows that are kept: keep %s as well, by Skip", ErrBeyond, sqltext.Ident(f.Name), r.name(), to.name())
			case slices.Contains(s.scope.kept, r):
				if err := s.refersNowhere(ctx, r, f, to); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// refersNowhere refuses rows that are kept and refer to rows that would be deleted. PostgreSQL would refuse that in the middle of the run.
func (s *session) refersNowhere(ctx context.Context, r *relation, f foreignKey, to *relation) error {
	present, _ := f.join("p")
	n, err := s.number(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s c WHERE c.%s AND %s LIMIT 1) t", r.from(), r.condition(), present), s.tenant)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name(), explain(err))
	}
	if n > 0 {
		return fmt.Errorf("%w: rows of %s are kept and refer to %s by %s: keep %[3]s as well, by Skip", ErrBeyond, r.name(), to.name(), sqltext.Ident(f.Name))
	}
	return nil
}

// erasing is a run of Erase.
type erasing struct {
	*session
	erased, total map[string]int64
	left          []Left // of the report
}

func (e *erasing) run(ctx context.Context) error {
	for _, group := range slices.Backward(e.scope.group) {
		if err := e.group(ctx, group); err != nil {
			return err
		}
	}
	return e.prove(ctx)
}

// shortPasses is how often a circle of tables is gone through for leaves that are fewer than a batch.
const shortPasses = 50

// group deletes the rows of a table, or of tables in a circle: first those that no other row of the group refers to.
func (e *erasing) group(ctx context.Context, group []*relation) error {
	circle := false
	for _, r := range group {
		for _, f := range r.ForeignKeys {
			circle = circle || slices.Contains(group, e.scope.find(f.Schema, f.Table))
		}
	}
	for range shortPasses {
		deleted := int64(0)
		for _, r := range group {
			n, err := e.table(ctx, r, e.leaves(group, r))
			if err != nil {
				return err
			}
			deleted += n
		}
		if deleted == 0 || !circle {
			break
		}
	}
	if !circle {
		return nil
	}
	return e.rest(ctx, group)
}

// leaves is SQL for whether no other row of the group refers to a row t.
func (e *erasing) leaves(group []*relation, r *relation) string {
	var conditions []string
	for _, child := range group {
		for _, f := range child.ForeignKeys {
			if e.scope.find(f.Schema, f.Table) != r {
				continue
			}
			_, same := f.join("t")
			if child == r {
				same += " AND (c.tableoid, c.ctid) <> (t.tableoid, t.ctid)"
			}
			conditions = append(conditions, fmt.Sprintf(" AND NOT EXISTS (SELECT FROM %s c WHERE %s)", child.from(), same))
		}
	}
	return strings.Join(conditions, "")
}

// table deletes batches until one has fewer rows.
func (e *erasing) table(ctx context.Context, r *relation, leaves string) (int64, error) {
	size := e.BatchSize
	if size == 0 {
		size = defaultBatch
	}
	find := fmt.Sprintf("%s t WHERE t.%s%s LIMIT %d", r.from(), r.condition(), leaves, size)
	query := fmt.Sprintf("DELETE FROM %s WHERE %s AND ctid = ANY (ARRAY(SELECT t.ctid FROM %s))", r.from(), r.condition(), find)
	if r.Kind == "p" { // where a ctid is one of each partition
		query = fmt.Sprintf("DELETE FROM %s WHERE %s AND (tableoid, ctid) IN (SELECT t.tableoid, t.ctid FROM %s)", r.from(), r.condition(), find)
	}
	sum := int64(0)
	for {
		n, err := e.commit(ctx, []*relation{r}, query+" RETURNING 1", func(counts []int64, _ [][]byte) error { counts[0]++; return nil })
		sum += n
		if err != nil || n < int64(size) {
			return sum, err
		}
	}
}

// rest deletes rows that refer to each other in a circle, by one statement: PostgreSQL checks foreign keys at its end.
func (e *erasing) rest(ctx context.Context, group []*relation) error {
	parts, counts := make([]string, len(group)), make([]string, len(group))
	for n, r := range group {
		parts[n] = fmt.Sprintf("d%d AS (DELETE FROM %s WHERE %s RETURNING 1)", n, r.from(), r.condition())
		counts[n] = fmt.Sprintf("(SELECT count(*) FROM d%d)", n)
	}
	_, err := e.commit(ctx, group, "WITH "+strings.Join(parts, ", ")+" SELECT "+strings.Join(counts, ", "), func(counts []int64, row [][]byte) error {
		for n := range counts {
			if _, err := fmt.Sscan(string(row[n]), &counts[n]); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// commit runs a statement that deletes rows of tables, in a transaction of its own, and counts them.
func (e *erasing) commit(ctx context.Context, tables []*relation, query string, count func(counts []int64, row [][]byte) error) (sum int64, err error) {
	counts := make([]int64, len(tables))
	err = e.inTransaction(ctx, beginWriting, func() error {
		if err := e.exec(ctx, triggersPath); err != nil {
			return err
		}
		return e.each(ctx, query, func(row [][]byte) error { return count(counts, row) }, e.tenant)
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", tables[0].name(), explain(err))
	}
	for n, r := range tables {
		e.erased[r.name()] += counts[n]
		sum += counts[n]
		e.progress(r.name(), e.erased[r.name()], max(e.total[r.name()], e.erased[r.name()]))
	}
	e.rows += sum
	return sum, ctx.Err()
}

// prove counts what is left, in one snapshot, with the tables as the catalog has them now.
func (e *erasing) prove(ctx context.Context) error {
	e.scope = nil
	rows := e.rows
	defer func() { e.rows = rows }()
	return e.inTransaction(ctx, beginReading, func() error {
		left, err := e.count(ctx, e.scope.tables())
		if err != nil {
			return err
		}
		if err := e.countKept(ctx, e.left); err != nil { // triggers may have recorded what was deleted
			return err
		}
		var remains []string
		for _, t := range left {
			if t.Rows > 0 {
				remains = append(remains, fmt.Sprintf("%s (%d)", t.Name, t.Rows))
			}
		}
		if len(remains) > 0 {
			return fmt.Errorf("%w in %s: a trigger or a rule keeps them, or others have come in meanwhile", ErrRemains, strings.Join(remains, ", "))
		}
		return nil
	})
}
