package guard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// tracer writes down what pgx's tracers are told.
type tracer struct {
	events   []string
	open     int
	seen     strings.Builder // everything, to look for what must not be there
	startKey any
}

type traceKey struct{}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	tr.open++
	tr.events = append(tr.events, fmt.Sprintf("start %s %v", d.SQL, d.Args))
	fmt.Fprintf(&tr.seen, "%+v\n", d)
	return context.WithValue(ctx, traceKey{}, tr)
}

func (tr *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	tr.open--
	tr.startKey = ctx.Value(traceKey{})
	tr.events = append(tr.events, fmt.Sprintf("end %s %v", d.CommandTag, code(d.Err)))
	fmt.Fprintf(&tr.seen, "%+v\n", d)
}

func (tr *tracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	tr.open++
	tr.events = append(tr.events, "prepare "+d.SQL)
	if ctx.Value(traceKey{}) != any(tr) {
		tr.events = append(tr.events, "not within the query's context")
	}
	return context.WithValue(ctx, traceKey{}, "prepare")
}

func (tr *tracer) TracePrepareEnd(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareEndData) {
	tr.open--
	if ctx.Value(traceKey{}) != "prepare" {
		tr.events = append(tr.events, "not within the preparation's context")
	}
	tr.events = append(tr.events, fmt.Sprintf("prepared %v", code(d.Err)))
}

func (tr *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		fmt.Fprintf(&tr.seen, "%s %v %+v\n", q.SQL, q.Arguments, q)
	}
	return ctx
}

func (tr *tracer) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	fmt.Fprintf(&tr.seen, "%+v\n", d)
}

func (tr *tracer) TraceBatchEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	fmt.Fprintf(&tr.seen, "%+v\n", d)
}

func code(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return fmt.Sprint(err)
}

// take returns the events since the last call, without those of preparing, which depend on the mode.
func (tr *tracer) take(t *testing.T) []string {
	t.Helper()
	require.Zero(t, tr.open, "each start has its end")
	var events []string
	for _, e := range tr.events {
		require.NotContains(t, e, "not within")
		if !strings.HasPrefix(e, "prepare") {
			events = append(events, e)
		}
	}
	tr.events = nil
	require.Equal(t, any(tr), tr.startKey, "the context that the start returned")
	return events
}

// TestTracers: users' tracing hangs on pgx's tracers. They see the user's statements and nothing of the tenant.
func TestTracers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		tr := &tracer{}
		cfg := config(t, d.App, way.mode)
		cfg.Tracer = tr
		p := guarded(t, way, cfg, guard.Config{})
		const secret = "the-tenants-secret-id"
		ctx := tenant(t, secret)

		tr.requireStatements(ctx, t, p)
		tr.requireErrors(ctx, t, p)
		tr.requireOddErrors(ctx, t, p)

		tx := begin(ctx, t, p, nil)
		_, err := way.exec(ctx, t, tx, `SELECT 1`)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		require.Equal(t, []string{
			"start SELECT 1 []", "end SELECT 1 <nil>", "start commit []", "end COMMIT <nil>",
		}, tr.take(t))

		_, err = p.ExecContext(context.Background(), `SELECT 1`)
		require.ErrorIs(t, err, guard.ErrNoTenant)
		require.Empty(t, tr.events, "nothing happened")
		require.NotContains(t, tr.seen.String(), secret)
	})
}

// requireStatements requires the start and the end of statements that succeed, the end not before that of their rows.
func (tr *tracer) requireStatements(ctx context.Context, t *testing.T, p *pool) {
	t.Helper()
	_, err := texts(p.query(ctx, t, p, `SELECT generate_series(1, 3)`))
	require.NoError(t, err)
	require.Equal(t, []string{"start SELECT generate_series(1, 3) []", "end SELECT 3 <nil>"}, tr.take(t))

	_, err = p.exec(ctx, t, p, `INSERT INTO shared VALUES ($1, $2)`, 1, "x")
	require.NoError(t, err)
	require.Equal(t, []string{"start INSERT INTO shared VALUES ($1, $2) [1 x]", "end INSERT 0 1 <nil>"}, tr.take(t))

	rows, err := p.query(ctx, t, p, `SELECT g FROM generate_series(1, $1::int) g`, 2000)
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.Equal(t, 1, tr.open, "not ended before its rows are")
	require.NoError(t, rows.Close())
	require.Equal(t, []string{"start SELECT g FROM generate_series(1, $1::int) g [2000]", "end SELECT 2000 <nil>"}, tr.take(t))
}

// requireErrors requires the end of statements that fail at once.
func (tr *tracer) requireErrors(ctx context.Context, t *testing.T, p *pool) {
	t.Helper()
	for sql, state := range map[string]string{`SELEC 1`: "42601", `SELECT 1/0`: "22012", `DROP TABLE notes`: "42501"} {
		_, err := p.exec(ctx, t, p, sql)
		require.Error(t, err)
		require.Equal(t, []string{"start " + sql + " []", "end  " + state}, tr.take(t))
		_, err = p.query(ctx, t, p, sql)
		require.Error(t, err)
		require.Equal(t, []string{"start " + sql + " []", "end  " + state}, tr.take(t))
	}
}

// requireOddErrors requires the end of a statement that fails after some rows, and of one that cannot be sent.
func (tr *tracer) requireOddErrors(ctx context.Context, t *testing.T, p *pool) {
	t.Helper()
	rows, err := p.query(ctx, t, p, `SELECT 1 / (g - 500) FROM generate_series(1, 1000) g`)
	require.NoError(t, err)
	for rows.Next() {
	}
	require.ErrorContains(t, rows.Err(), "22012")
	require.Equal(t, "22012", code(rows.Err()))
	events := tr.take(t)
	require.Len(t, events, 2)
	require.Contains(t, events[1], "22012")

	_, err = p.exec(ctx, t, p, `SELECT $1::int`, make(chan int))
	require.Error(t, err)
	events = tr.take(t)
	require.Len(t, events, 2)
	require.NotContains(t, events[1], "<nil>")
}

// TestTracePrepare: preparing is traced when it happens, under the user's SQL.
func TestTracePrepare(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		tr := &tracer{}
		cfg := config(t, d.App, way.mode)
		cfg.Tracer = tr
		p := guarded(t, way, cfg, guard.Config{})
		const sql = `SELECT $1::int`
		prepares := func() (n int) {
			tr.events = nil
			require.Equal(t, "1", way.one(tenant(t, "a"), t, p, sql, 1))
			for i, e := range tr.events {
				if e == "prepare "+sql {
					require.Equal(t, "prepared <nil>", tr.events[i+1])
					n++
				}
			}
			return n
		}
		first, then := prepares(), prepares()
		switch {
		case way.prepared, way.mode == pgx.QueryExecModeCacheStatement, way.mode == pgx.QueryExecModeCacheDescribe:
			require.Equal(t, [2]int{1, 0}, [2]int{first, then})
		case way.mode == pgx.QueryExecModeDescribeExec:
			require.Equal(t, [2]int{1, 1}, [2]int{first, then})
		default:
			require.Zero(t, first+then)
		}
		tr.events = nil
		_, err := way.query(tenant(t, "a"), t, p, `SELECT $1 FROM nowhere`, 1)
		require.Error(t, err)
		if way.prepared || way.mode != pgx.QueryExecModeExec && way.mode != pgx.QueryExecModeSimpleProtocol {
			require.Contains(t, tr.events, "prepared 42P01")
		}
	})
}
