package guard_test

import (
	"context"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// ledger collects the events of a bypass pool.
type ledger struct{ events []guard.Event }

func (l *ledger) report(_ context.Context, e guard.Event) { l.events = append(l.events, e) }

// begun requires that all there is is the begin of one statement, and returns it.
func (l *ledger) begun(t *testing.T, mark guard.Bypass) guard.Event {
	t.Helper()
	require.Len(t, l.events, 1)
	begin := l.events[0]
	require.Equal(t, guard.Event{Bypass: mark, ID: begin.ID}, begin)
	require.Regexp(t, eventID, begin.ID)
	return begin
}

var eventID = regexp.MustCompile(`^[A-Z2-7]{13}-[0-9a-z]+$`)

// one requires that all there is are the two events of one statement, and returns the end.
func (l *ledger) one(t *testing.T, mark guard.Bypass) guard.Event {
	t.Helper()
	require.Len(t, l.events, 2)
	end := l.events[1]
	l.events = l.events[:1]
	begin := l.begun(t, mark)
	l.events = nil
	require.Equal(t, begin.ID, end.ID)
	require.True(t, end.End)
	require.Equal(t, mark, end.Bypass)
	require.Positive(t, end.Duration)
	require.Less(t, end.Duration, waitTime)
	return end
}

// outcome is what the end of one statement reports: its tag, or the SQLSTATE with which it failed.
type outcome struct {
	tag, kind string
	rows      int64
	failed    string
}

func (o outcome) require(t *testing.T, e guard.Event) {
	t.Helper()
	if o.failed == "" {
		require.NoError(t, e.Err)
		require.Equal(t, []string{o.tag}, e.Tags)
	} else {
		require.Equal(t, o.failed, code(e.Err))
		require.Empty(t, e.Tags)
	}
	require.Equal(t, o.kind, e.Kind)
	require.Equal(t, o.rows, e.Rows)
}

// reported are statements without rows, in the order in which they are sent.
var reported = []struct {
	sql  string
	args []any
	want outcome
}{
	{`UPDATE notes SET body = body`, nil, outcome{"UPDATE 3", "UPDATE", 3, ""}},
	{`INSERT INTO notes (tenant_id, body) VALUES ('c', $1)`, []any{"c1"}, outcome{"INSERT 0 1", "INSERT", 1, ""}},
	{`DELETE FROM notes WHERE tenant_id = 'c'`, nil, outcome{"DELETE 1", "DELETE", 1, ""}},
	{`CREATE TEMPORARY TABLE x (a int)`, nil, outcome{"CREATE TABLE", "CREATE TABLE", 0, ""}},
	{`SELEC 1`, nil, outcome{"", "", 0, "42601"}},
}

// TestReportOfOneStatement: each is reported before it is sent, and when it is over.
func TestReportOfOneStatement(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		l := &ledger{}
		p := d.bypass(t, way, l.report)
		mark := guard.Bypass{Reason: "audit", Table: "notes"}
		ctx := bypassing(mark)
		ids := map[string]bool{}
		expect := func(want outcome) {
			t.Helper()
			e := l.one(t, mark)
			require.False(t, ids[e.ID])
			ids[e.ID] = true
			want.require(t, e)
		}

		require.Equal(t, everything, p.notes(ctx, t))
		expect(outcome{"SELECT 3", "SELECT", 3, ""})
		for _, s := range reported {
			_, err := way.exec(ctx, t, p, s.sql, s.args...)
			require.Equal(t, s.want.failed != "", err != nil, "%s: %v", s.sql, err)
			expect(s.want)
		}
		_, err := way.query(ctx, t, p, `SELECT 1/$1::int`, 0)
		require.Error(t, err)
		expect(outcome{"", "", 0, "22012"})

		tx := begin(ctx, t, p, nil)
		_, err = way.exec(context.Background(), t, tx, `UPDATE notes SET body = body`)
		require.NoError(t, err)
		expect(outcome{"UPDATE 3", "UPDATE", 3, ""})
		require.NoError(t, tx.Commit())

		conn, err := p.Conn(ctx)
		require.NoError(t, err)
		require.NoError(t, conn.Raw(func(dc any) error {
			_, err := dc.(copier).CopyFrom(ctx, pgx.Identifier{"shared"}, []string{"id"}, pgx.CopyFromRows([][]any{{1}, {2}}))
			return err
		}))
		require.NoError(t, conn.Close())
		expect(outcome{"COPY 2", "COPY", 2, ""})
	})
}

// TestReportOfRows: their end is reported where they end, closed or not; those that do not end have begun.
func TestReportOfRows(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		l := &ledger{}
		p := d.bypass(t, way, l.report)
		mark := guard.Bypass{Reason: "audit"}
		const five = `SELECT generate_series(1, 5)`

		rows, err := way.query(bypassing(mark), t, p, five)
		require.NoError(t, err)
		for rows.Next() {
			l.begun(t, mark)
		}
		require.EqualValues(t, 5, l.one(t, mark).Rows, "not closed")
		require.NoError(t, rows.Close())
		require.Empty(t, l.events, "once")

		rows, err = way.query(bypassing(mark), t, p, five)
		require.NoError(t, err)
		require.True(t, rows.Next())
		l.begun(t, mark)
		require.NoError(t, rows.Close())
		require.Equal(t, []string{"SELECT 5"}, l.one(t, mark).Tags)
	})
}

// TestReportOfPanic: a statement that panics has begun, and one whose begin cannot be reported is not sent.
func TestReportOfPanic(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		l := &ledger{}
		p := d.bypass(t, way, l.report)
		mark := guard.Bypass{Reason: "audit"}
		_, err := way.exec(bypassing(mark), t, p, `UPDATE notes SET body = $1`, panicking{})
		require.Error(t, err)
		require.NotEmpty(t, l.events)
		l.events = l.events[:1]
		l.begun(t, mark)

		for _, end := range []bool{false, true} {
			p := d.bypass(t, way, func(_ context.Context, e guard.Event) {
				if e.End == end {
					panic("the hook's")
				}
			})
			_, err := way.exec(bypassing(mark), t, p, `CREATE TABLE IF NOT EXISTS never ()`)
			var panicked *panicError
			if !end {
				require.ErrorAs(t, err, &panicked)
				require.Equal(t, "OnBypass", panicked.in)
				require.Zero(t, p.inUse())
			}
			rows, err := way.query(bypassing(mark), t, p, `SELECT generate_series(1, 3)`)
			if !end {
				require.ErrorAs(t, err, &panicked)
				continue
			}
			require.NoError(t, err)
			for rows.Next() {
			}
			require.ErrorAs(t, rows.Err(), &panicked, "and on a goroutine of database/sql it would end the process")
		}
	})
}

// TestReportOfSeveralStatements: the report of a text names all of its statements.
func TestReportOfSeveralStatements(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE TABLE goods AS SELECT generate_series(1, 3) AS id; GRANT ALL ON goods TO PUBLIC`)
	eachPool(t, func(t *testing.T, way way) {
		l := &ledger{}
		p := d.bypass(t, way, l.report)
		mark := guard.Bypass{Reason: "audit"}
		ctx := bypassing(mark)
		refill := func() {
			t.Helper()
			d.AsOwner(t, `TRUNCATE goods; INSERT INTO goods SELECT generate_series(1, 3)`)
		}

		refill()
		_, err := p.ExecContext(ctx, `DELETE FROM goods; SELECT 1`)
		require.NoError(t, err)
		e := l.one(t, mark)
		require.Equal(t, []string{"DELETE 3", "SELECT 1"}, e.Tags)
		require.Equal(t, "DELETE; SELECT", e.Kind)
		require.EqualValues(t, 4, e.Rows)

		refill()
		_, err = p.ExecContext(ctx, `DELETE FROM goods; COMMIT; SELECT 1/0; SELECT 2`)
		require.Equal(t, "22012", code(err))
		e = l.one(t, mark)
		require.Equal(t, []string{"DELETE 3", "COMMIT"}, e.Tags, "what was completed")
		require.Equal(t, "22012", code(e.Err))

		refill()
		rows, err := p.QueryContext(ctx, `SELECT 1; DELETE FROM goods; SELECT 2`)
		if way.mode != pgx.QueryExecModeSimpleProtocol {
			require.Equal(t, "42601", code(err))
			require.Empty(t, l.one(t, mark).Tags)
			return
		}
		require.NoError(t, err)
		require.NoError(t, rows.Close())
		e = l.one(t, mark)
		require.Equal(t, []string{"SELECT 1", "DELETE 3", "SELECT 1"}, e.Tags)
		require.EqualValues(t, 5, e.Rows)

		for _, prepared := range []bool{false, true} {
			way.prepared = prepared
			_, err = way.exec(ctx, t, p, `DELETE FROM goods WHERE id = $1; SELECT 1`, 1)
			require.Equal(t, "42601", code(err), "as in all other modes")
			require.Empty(t, l.one(t, mark).Tags)
		}
		_, err = p.ExecContext(ctx, `INSERT INTO goods VALUES ($1)`, 1)
		require.NoError(t, err)
		require.Equal(t, []string{"INSERT 0 1"}, l.one(t, mark).Tags)
	})
}
