package guard_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// copyInto loads one column by COPY, through the pool's connection.
func copyInto(ctx context.Context, t *testing.T, conn *sql.Conn, table, column string, src pgx.CopyFromSource) (n int64, err error) {
	t.Helper()
	err = conn.Raw(func(dc any) error {
		n, err = dc.(copier).CopyFrom(ctx, pgx.Identifier{table}, []string{column}, src)
		return err
	})
	return n, err
}

func values(vs ...any) pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(vs), func(i int) ([]any, error) { return []any{vs[i]}, nil })
}

// TestCopyFrom loads shared tables, and is refused where PostgreSQL can't apply policies.
func TestCopyFrom(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		count := func(q queryer) string { return p.one(ctx, t, q, `SELECT count(*)::text FROM shared`) }
		conn, err := p.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()

		n, err := copyInto(ctx, t, conn, "shared", "id", values(1, 2, 3))
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		require.Equal(t, "3", count(conn))

		_, err = copyInto(ctx, t, conn, "notes", "body", values("x"))
		require.Equal(t, "0A000", code(err), "COPY FROM under row-level security")
		_, err = copyInto(ctx, t, conn, "shared", "id", values(1, "no number"))
		require.Error(t, err)
		broken := errors.New("broken source")
		_, err = copyInto(ctx, t, conn, "shared", "id", pgx.CopyFromFunc(func() ([]any, error) { return nil, broken }))
		require.ErrorContains(t, err, broken.Error())
		_, err = copyInto(ctx, t, conn, "shared", "nothing", values(1))
		require.Equal(t, "42703", code(err))
		_, err = copyInto(context.Background(), t, conn, "shared", "id", values(1))
		require.ErrorIs(t, err, guard.ErrNoTenant)
		require.Equal(t, "3", count(conn), "nothing of what failed")

		// In a transaction.
		tx, err := conn.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = copyInto(tenant(t, "b"), t, conn, "shared", "id", values(4))
		require.ErrorIs(t, err, guard.ErrTenantMismatch)
		_, err = copyInto(ctx, t, conn, "shared", "id", values(4))
		require.NoError(t, err)
		require.Equal(t, "4", count(tx))
		require.NoError(t, tx.Rollback())
		require.Equal(t, "3", count(conn))

		tx, err = conn.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.Exec(`COMMIT`)
		require.NoError(t, err)
		_, err = copyInto(ctx, t, conn, "shared", "id", values(4))
		require.ErrorContains(t, err, "already ended")
		require.NoError(t, tx.Rollback())

		_, err = conn.ExecContext(ctx, `DELETE FROM shared`)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		p.requireFree(t)
	})
}

// TestCopyBypass loads rows of all tenants.
func TestCopyBypass(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachPool(t, func(t *testing.T, way way) {
		if way.direct {
			return
		}
		// The admin's policy is one too, so COPY needs a table without any, or a role that needs none.
		d.AsOwner(t, `ALTER TABLE notes DISABLE ROW LEVEL SECURITY`)
		defer d.AsOwner(t, `ALTER TABLE notes ENABLE ROW LEVEL SECURITY`)
		p := d.bypass(t, way, nil)
		ctx := bypassing(guard.Bypass{Reason: "load"})
		conn, err := p.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		tx, err := conn.BeginTx(ctx, nil)
		require.NoError(t, err)
		require.NoError(t, conn.Raw(func(dc any) error {
			n, err := dc.(copier).CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"tenant_id", "body"},
				pgx.CopyFromRows([][]any{{"a", "a9"}, {"b", "b9"}}))
			require.EqualValues(t, 2, n)
			return err
		}))
		require.Equal(t, []string{"a1", "a2", "a9", "b1", "b9"}, way.notesOf(ctx, t, tx))
		require.NoError(t, tx.Rollback())
	})
}
