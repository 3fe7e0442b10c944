package rls_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestBackupRoleReadsAll reads as pg_dump does, with row_security off, which makes PostgreSQL refuse what a policy would hide.
func TestBackupRoleReadsAll(t *testing.T) {
	d := newDatabase(t)
	role := d.App.Role + "_backup"
	d.AsSuperuser(t, "CREATE ROLE "+role+" LOGIN BYPASSRLS PASSWORD 'secret'")
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	i := d.Isolation()
	i.BackupRole = role
	require.Contains(t, d.migrateWith(t, i, &note{}), "public.notes: grant SELECT to "+role)
	require.Empty(t, d.migrateWith(t, i, &note{}), "again")
	d.as(t, "acme", `INSERT INTO notes (id) VALUES (1)`)
	d.as(t, "globex", `INSERT INTO notes (id) VALUES (2)`)

	dsn, err := url.Parse(d.SuperuserDSN(t))
	require.NoError(t, err)
	dsn.User = url.UserPassword(role, "secret")
	backup := testdb.OpenSQL(t, dsn.String())
	count := "SET row_security = off; SELECT count(*) FROM notes"
	var n int
	require.NoError(t, backup.QueryRow("SELECT count(*) FROM notes").Scan(&n))
	require.Equal(t, 2, n)
	for _, refused := range []string{"DELETE FROM notes", "INSERT INTO notes (id) VALUES (3)", "TRUNCATE notes", "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY"} {
		_, err := backup.Exec(refused)
		requireCode(t, err, insufficientPrivilege)
	}
	owner, err := d.OwnerDB.DB()
	require.NoError(t, err)
	_, err = owner.Exec(count)
	requireCode(t, err, insufficientPrivilege)
	_, err = owner.Exec("RESET row_security")
	require.NoError(t, err)

	// What is granted beyond reading is taken back.
	d.AsOwner(t, "GRANT INSERT, TRUNCATE ON notes TO "+role)
	require.Len(t, d.migrateWith(t, i, &note{}), 1)
	_, err = backup.Exec("INSERT INTO notes (id) VALUES (3)")
	requireCode(t, err, insufficientPrivilege)
}

// TestBackupRoleReadsPartitions, which pg_dump reads by their own names: of tables that are made with them, of records, and one that is made by hand.
// No other role may.
func TestBackupRoleReadsPartitions(t *testing.T) {
	models := []any{&parcelled{}, &piece{}}
	t.Run("Migrate", func(t *testing.T) {
		testBackupRoleReadsPartitions(t, func(t *testing.T, d database, i rls.Isolation) { d.migrateWith(t, i, models...) }, models)
	})
	t.Run("SQL", func(t *testing.T) { testBackupRoleReadsPartitions(t, makeByScript, models) })
}

func testBackupRoleReadsPartitions(t *testing.T, run func(t *testing.T, d database, i rls.Isolation), models []any) {
	t.Helper()
	d := newDatabase(t)
	role := d.App.Role + "_backup"
	d.AsSuperuser(t, "CREATE ROLE "+role+" LOGIN BYPASSRLS PASSWORD 'secret'")
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	d.AsOwner(t, "ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO "+role+", "+d.App.Role)
	i := d.keyed()
	i.BackupRole = role
	i.Partition = []rls.Partitioned{{Model: &parcelled{}, ByList: true, Hash: 2, List: []string{"huge"}}, {Model: &piece{}, Hash: 2}}
	i.Audits = []rls.Audit{{Model: &parcelled{}}}
	run(t, d, i)
	require.Empty(t, d.migrateWith(t, i, models...), "again")
	d.AsOwner(t, "CREATE SCHEMA parts", "CREATE TABLE parts.big PARTITION OF parcelleds FOR VALUES IN ('big')", "REVOKE ALL ON parts.big FROM "+role+", "+d.App.Role)
	changes := d.migrateWith(t, i, models...)
	require.Contains(t, changes, "parts.big: grant SELECT to "+role)
	require.Contains(t, changes, "parts.big: grant USAGE on schema parts to "+role)
	_, err := i.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{Ahead: 2})
	require.NoError(t, err)
	require.Empty(t, d.migrateWith(t, i, models...), "after the partitions of records")

	pool := testdb.OpenSQL(t, d.SuperuserDSN(t))
	const parts = "SELECT oid::regclass::text FROM pg_class WHERE relispartition AND relkind IN ('r', 'p') ORDER BY 1"
	require.Len(t, collect(t, pool, parts), 5+2+4, "parcelleds, pieces, records")
	const granted = `SELECT DISTINCT concat_ws(' ', pg_get_userbyid(grantee), privilege_type) FROM pg_class, aclexplode(relacl)
		WHERE relispartition AND relkind IN ('r', 'p') AND grantee <> relowner`
	require.Equal(t, []string{role + " SELECT"}, collect(t, pool, granted))
	dsn, err := url.Parse(d.SuperuserDSN(t))
	require.NoError(t, err)
	dsn.User = url.UserPassword(role, "secret")
	backup := testdb.OpenSQL(t, dsn.String())
	for _, part := range collect(t, pool, parts) {
		var n int
		require.NoError(t, backup.QueryRow("SELECT count(*) FROM "+part).Scan(&n), part)
		requireCode(t, d.fails(t, "acme", "SELECT FROM "+part), insufficientPrivilege)
	}
	d.AsOwner(t, "ALTER DEFAULT PRIVILEGES REVOKE SELECT, INSERT ON TABLES FROM "+role+", "+d.App.Role)
	report, err := i.Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

// TestBackupRoleRefusesMembers refuses each kind of membership, also one that is for administering only.
func TestBackupRoleRefusesMembers(t *testing.T) {
	d := newDatabase(t)
	role := d.App.Role + "_backup"
	d.AsSuperuser(t, "CREATE ROLE "+role+" BYPASSRLS")
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	i := d.Isolation()
	i.BackupRole = role
	grants := []string{"GRANT " + role + " TO " + d.App.Role + " WITH ADMIN OPTION"}
	if pgserver.Shared(t).Version() >= 160000 {
		grants = append(grants, "GRANT "+role+" TO "+d.App.Role+" WITH INHERIT FALSE, SET FALSE, ADMIN TRUE",
			"GRANT "+role+" TO "+d.App.Role+" WITH INHERIT TRUE, SET FALSE")
	}
	for _, grant := range grants {
		d.AsSuperuser(t, grant)
		_, err := i.Migrate(t.Context(), d.OwnerDB, &note{})
		require.ErrorContains(t, err, "is a member of the backup role", grant)
		d.AsSuperuser(t, "REVOKE "+role+" FROM "+d.App.Role)
	}
	i.BackupRole = d.Admin.Role
	_, err := i.Migrate(t.Context(), d.OwnerDB, &note{})
	require.ErrorContains(t, err, "BackupRole cannot be")
	i.BackupRole, i.AppRole = role, ""
	d.migrateWith(t, i, &note{})
}
