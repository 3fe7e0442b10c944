package audit_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// procedures returns the client of Bypass of an AdminDB, whose CALL may commit, and the proxy before that pool.
func (d database) procedures(t *testing.T, mode string) (*gorm.DB, *wire.Proxy) {
	t.Helper()
	d.AsOwner(t, `CREATE PROCEDURE put(first bigint, tenant text) LANGUAGE plpgsql AS $$BEGIN
			INSERT INTO accounts (id, tenant_id, name) VALUES (first, tenant, first); COMMIT;
			INSERT INTO accounts (id, tenant_id, name) VALUES (first + 1, tenant, first + 1);
		END$$`, "GRANT EXECUTE ON PROCEDURE put TO PUBLIC")
	proxy, dsn := wire.Start(t, testdb.WithParam(d.Admin.DSN, "default_query_exec_mode", mode))
	pool, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	config := d.Config()
	config.AdminRole, config.AdminDB = "", pool
	return tenancy.Bypass(d.Open(t, config), "a correction"), proxy
}

func TestActorOfProceduresThatCommit(t *testing.T) {
	for _, mode := range testdb.Modes {
		t.Run(testdb.ModeName(mode), func(t *testing.T) {
			d := newDatabase(t)
			admin, proxy := d.procedures(t, testdb.ModeName(mode))
			said := tenancy.WithRequestID(tenancy.WithActor(t.Context(), "Zoë"), "req-1")
			run := func(ctx context.Context, statement string) int64 {
				before := proxy.RoundTrips()
				require.NoError(t, admin.WithContext(ctx).Exec(statement).Error)
				return proxy.RoundTrips() - before
			}
			const told = " Zoë req-1 a correction"
			const block = "DO $$BEGIN INSERT INTO accounts (id, tenant_id, name) VALUES (5, 'acme', '5'); END$$"
			for n := range 4 { // the first find out about the session
				run(said, fmt.Sprintf("CALL put(%d, 'acme')", 101+2*n))
			}
			with := run(said, "CALL put(1, 'acme')")
			without := run(t.Context(), "CALL put(3, 'acme')")
			require.Equal(t, without, with)
			run(said, block)
			run(t.Context(), "INSERT INTO accounts (id, tenant_id, name) VALUES (9, 'acme', '9')")
			require.Equal(t, []string{
				"INSERT 1" + told, "INSERT 2" + told, "INSERT 3 - - a correction", "INSERT 4 - - a correction",
				"INSERT 5" + told, "INSERT 9 - - a correction",
			}, d.records(t, sayings)[8:])
		})
	}
}

// A held connection is not cleaned between its statements: what was said about a CALL ends with it all the same.
func TestActorOfProcedureEndsWithIt(t *testing.T) {
	d := newDatabase(t)
	admin, _ := d.procedures(t, "cache_statement")
	require.NoError(t, admin.Connection(func(tx *gorm.DB) error {
		require.NoError(t, tx.WithContext(tenancy.WithActor(t.Context(), "u-1")).Exec("CALL put(1, 'acme')").Error)
		require.NoError(t, tx.WithContext(t.Context()).Exec("INSERT INTO accounts (id, tenant_id, name) VALUES (3, 'acme', '3')").Error)
		return tx.WithContext(t.Context()).Exec("CALL put(4, 'acme')").Error
	}))
	require.Equal(t, []string{
		"INSERT 1 u-1 - a correction", "INSERT 2 u-1 - a correction", "INSERT 3 - - a correction", "INSERT 4 - - a correction", "INSERT 5 - - a correction",
	}, d.records(t, sayings))
}

// Behind a pooler, the session of a CALL may be that of another client next.
func TestActorOfProcedureIsNotTakenByAnotherStatement(t *testing.T) {
	d := newDatabase(t)
	d.AsSuperuser(t,
		`SET tenancy.audit = '{"actor": "u-1", "call": "not the hash of the next statement"}'`,
		"INSERT INTO accounts (id, tenant_id, name) VALUES (1, 'acme', '1')")
	require.Equal(t, []string{"INSERT 1 - - -"}, d.records(t, sayings))
}

func TestActorOfProceduresOfATenant(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, `CREATE PROCEDURE one(id bigint) LANGUAGE sql AS 'INSERT INTO accounts (id, name) VALUES (id, id)'`, "GRANT EXECUTE ON PROCEDURE one TO PUBLIC")
	ctx := tenancy.WithActor(tenancy.WithTenant(t.Context(), "acme"), "u-1")
	require.NoError(t, d.app.WithContext(ctx).Exec("CALL one(1)").Error)
	require.NoError(t, d.app.WithContext(ctx).Exec("DO 'BEGIN CALL public.one(2); END'").Error)
	require.NoError(t, tenancy.Bypass(d.app, "by role").WithContext(tenancy.WithActor(t.Context(), "u-2")).
		Exec("DO $$BEGIN INSERT INTO accounts (id, tenant_id, name) VALUES (3, 'acme', '3'); END$$").Error)
	require.Equal(t, []string{"INSERT 1 u-1 - -", "INSERT 2 u-1 - -", "INSERT 3 u-2 - by role"}, d.records(t, sayings))
}
