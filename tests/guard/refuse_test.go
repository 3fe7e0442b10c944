package guard_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestRefusedStatementIsNotSent sends statements that the guard refuses, and sees that nothing arrives.
func TestRefusedStatementIsNotSent(t *testing.T) {
	t.Parallel()
	for name, ctx := range map[string]context.Context{
		"no decision":   context.Background(),
		"empty":         guard.WithTenant(context.Background(), ""),
		"NUL":           guard.WithTenant(context.Background(), "a\x00b"),
		"invalid UTF-8": guard.WithTenant(context.Background(), "a\xffb"),
		"too long":      guard.WithTenant(context.Background(), strings.Repeat("x", 2048)),
		"bypass mark":   guard.WithBypass(context.Background(), guard.Bypass{Reason: "nobody looks at it"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			since, d := logEnd(t), newDatabase(t)
			for _, direct := range []bool{false, true} {
				for _, mode := range testdb.Modes {
					p := d.app(t, way{mode: mode, direct: direct})
					require.NoError(t, p.PingContext(ctx), "a ping needs no tenant")
					before := p.sent.Load()
					refuseAll(ctx, t, p)
					require.Equal(t, before, p.sent.Load(), "nothing may be sent")
				}
			}
			require.Empty(t, d.arrived(t, d.App, since))
			p := d.app(t, way{mode: pgx.QueryExecModeExec})
			p.requireFree(t)
			require.NotEmpty(t, d.arrived(t, d.App, since), "the log would have shown it")
		})
	}
}

func refuseAll(ctx context.Context, t *testing.T, p *pool) {
	t.Helper()
	const query = `SELECT body FROM notes`
	refused := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, guard.ErrNoTenant)
	}
	for _, prepared := range []bool{false, true} {
		way := way{prepared: prepared}
		_, err := way.query(ctx, t, p, query)
		refused(err)
		_, err = way.query(ctx, t, p, query+` WHERE id = $1`, 1)
		refused(err)
		_, err = way.exec(ctx, t, p, `DELETE FROM notes`)
		refused(err)
		_, err = way.exec(ctx, t, p, `DELETE FROM notes WHERE id = $1`, 1)
		refused(err)
	}
	begins := func(begin func(context.Context, *sql.TxOptions) (*sql.Tx, error)) {
		t.Helper()
		tx, err := begin(ctx, nil)
		if err != nil { // a context that names a tenant which cannot be one
			refused(err)
			return
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM notes`)
		refused(err)
		_, err = tx.QueryContext(ctx, query)
		refused(err)
		require.NoError(t, tx.Commit())
	}
	begins(p.BeginTx)
	var body string
	refused(p.QueryRowContext(ctx, query).Scan(&body))
	conn, err := p.Conn(ctx)
	require.NoError(t, err)
	_, err = conn.ExecContext(ctx, `SET app.tenant_id = 'a'`)
	refused(err)
	begins(conn.BeginTx)
	refused(conn.Raw(func(dc any) error {
		_, err := dc.(copier).CopyFrom(ctx, []string{"shared"}, []string{"id"}, nil)
		return err
	}))
	require.NoError(t, conn.Close())

}

// TestTransactionTenantIsInheritedBySilentContextOnly: a context that says nothing inherits its transaction's tenant; one that says nonsense does not.
func TestTransactionTenantIsInheritedBySilentContextOnly(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.app(t, way{mode: pgx.QueryExecModeCacheStatement})
	tx, err := p.BeginTx(tenant(t, "a"), nil)
	require.NoError(t, err)
	defer tx.Rollback()
	require.Equal(t, []string{"a1", "a2"}, p.notesOf(context.Background(), t, tx))
	_, err = tx.QueryContext(tenant(t, ""), `SELECT body FROM notes`)
	require.ErrorIs(t, err, guard.ErrNoTenant)
	require.Equal(t, []string{"a1", "a2"}, p.notesOf(context.Background(), t, tx), "nothing was lost by it")
}

// TestTransactionWithoutStatementCostsNothing sees that a transaction without a statement costs nothing.
func TestTransactionWithoutStatementCostsNothing(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		ctx, cancel := context.WithCancel(tenant(t, "a"))
		defer cancel()
		require.NoError(t, p.PingContext(ctx))
		before := p.sent.Load()
		for range 3 {
			tx, err := p.BeginTx(ctx, nil)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			tx, err = p.BeginTx(ctx, nil)
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
		}
		require.Equal(t, before, p.sent.Load())
		p.requireFree(t)
	})
}
