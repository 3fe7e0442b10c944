package check_test

import (
	"context"
	"database/sql"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/check"
)

// TestCheckNotesTemporaryTables: without the plugin, a temporary table of one tenant takes what the next one writes.
func TestCheckNotesTemporaryTables(t *testing.T) {
	d := cleanDatabase(t)
	pool, err := sql.Open("pgx", d.app)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })

	attack := func() (taken int, err error) {
		t.Helper()
		conn, err := pool.Conn(t.Context())
		require.NoError(t, err)
		defer func() {
			_, err := conn.ExecContext(context.WithoutCancel(t.Context()), "DISCARD ALL")
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		}()
		if _, err := conn.ExecContext(t.Context(), "SET app.tenant_id = 'acme'; CREATE TEMP TABLE notes (LIKE public.notes)"); err != nil {
			return 0, err
		}
		_, err = conn.ExecContext(t.Context(), "SET app.tenant_id = 'globex'; INSERT INTO notes (id, tenant_id) VALUES (1, 'globex')")
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "SET app.tenant_id = 'acme'")
		require.NoError(t, err)
		return taken, conn.QueryRowContext(t.Context(), "SELECT count(*) FROM notes WHERE tenant_id = 'globex'").Scan(&taken)
	}
	note := func() (check.Finding, bool) {
		t.Helper()
		report, err := d.isolation().Check(t.Context(), open(t, d.Owner.DSN, &gorm.Config{}), d.allowances()...)
		require.NoError(t, err)
		require.NoError(t, report.Err())
		n := slices.IndexFunc(report.Notes, func(f check.Finding) bool { return f.Code == check.TemporaryTables })
		if n < 0 {
			return check.Finding{}, false
		}
		return report.Notes[n], true
	}

	taken, err := attack()
	require.NoError(t, err)
	require.Equal(t, 1, taken)
	finding, found := note()
	require.True(t, found)
	require.Equal(t, check.Info, finding.Severity)

	d.run(t, d.super, finding.Fix)
	_, err = attack()
	require.ErrorContains(t, err, "42501")
	_, found = note()
	require.False(t, found)
}
