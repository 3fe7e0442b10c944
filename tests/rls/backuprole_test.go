package rls_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
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
