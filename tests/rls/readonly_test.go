package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/check"
)

// reader makes a role that reads, which the application may take.
func (d database) reader(t *testing.T) string {
	t.Helper()
	role := d.App.Role + "_reader"
	d.AsSuperuser(t, "CREATE ROLE "+role, "GRANT "+role+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	return role
}

func TestReadOnlyRoleMigrates(t *testing.T) {
	d := newDatabase(t)
	before := d.migrate(t, &note{})
	reader := d.reader(t)
	i := d.Isolation()
	i.ReadOnlyRole = reader
	require.Equal(t, []string{
		"public.notes: create policy tenant_read_only",
		"public.notes: grant SELECT to " + reader,
	}, without(d.migrateWith(t, i, &note{}), "public.notes: grant USAGE on schema public to "+reader))
	require.Empty(t, d.migrateWith(t, i, &note{}), "again")

	report, err := i.Check(t.Context(), d.OwnerDB, check.Models(&note{}))
	require.NoError(t, err)
	require.Empty(t, report.Findings)

	d.as(t, "acme", `INSERT INTO notes (id) VALUES (1)`)
	d.as(t, "globex", `INSERT INTO notes (id) VALUES (2)`)
	tx := d.begin(t, "")
	require.NoError(t, tx.exec("SET LOCAL ROLE "+reader))
	require.Equal(t, []string{"1", "2"}, tx.strings(t, "SELECT id FROM notes ORDER BY id"))
	requireCode(t, tx.exec("DELETE FROM notes"), "42501")
	require.NoError(t, tx.Rollback())
	require.Equal(t, []string{"1"}, d.sees(t, "acme", "SELECT id FROM notes"), "nothing changes for tenants")

	// What was altered by hand is set right.
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	for _, statement := range []string{
		"GRANT INSERT, UPDATE, TRUNCATE ON notes TO " + reader,
		"ALTER POLICY tenant_read_only ON notes USING (false)",
		"DROP POLICY tenant_read_only ON notes; CREATE POLICY tenant_read_only ON notes FOR ALL TO " + reader + " USING (true)",
	} {
		_, err := pool.Exec(statement)
		require.NoError(t, err)
		require.NotEmpty(t, d.migrateWith(t, i, &note{}), statement)
		require.Empty(t, d.migrateWith(t, i, &note{}), statement)
	}
	require.Equal(t, []string{"public.notes: drop outdated policy tenant_read_only"}, d.migrate(t, &note{}), "without the role")
	require.NotEmpty(t, before)
}

func TestReadOnlyRoleInScript(t *testing.T) {
	migrated, scripted := newDatabase(t), newDatabase(t)
	for _, d := range []database{migrated, scripted} {
		d.AsOwner(t, "CREATE SCHEMA billing")
	}
	i := migrated.Isolation()
	i.ReadOnlyRole = migrated.reader(t)
	models := append([]any{&user{}, &invoice{}}, shop...)
	t.Cleanup(func() { scripted.AsSuperuser(t, "DROP OWNED BY "+i.ReadOnlyRole) })
	migrated.migrateWith(t, i, models...)
	up, _, err := i.SQL(offline(t, &gorm.Config{}), models...)
	require.NoError(t, err)
	scripted.script(t, up)
	require.Equal(t, migrated.dump(t), scripted.dump(t))
	scripted.AsOwner(t, "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA public TO "+i.ReadOnlyRole,
		"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "+i.ReadOnlyRole)
	scripted.script(t, up)
	require.Equal(t, migrated.dump(t), scripted.dump(t), "what is granted too much is revoked")
}

func TestReadOnlyRoleInherited(t *testing.T) {
	d := newDatabase(t)
	i := d.Isolation()
	i.ReadOnlyRole = d.reader(t)
	d.migrateWith(t, i, &note{})
	d.AsSuperuser(t, "CREATE ROLE inheriting_reader INHERIT IN ROLE "+i.ReadOnlyRole)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE inheriting_reader") })
	i.AppRole = "inheriting_reader"
	report, err := i.Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	require.Len(t, report.Findings, 1)
	require.Equal(t, check.RoleInheritsAdmin, report.Findings[0].Code)
	require.Contains(t, report.Findings[0].Problem, "the read-only role "+i.ReadOnlyRole)
	_, err = i.Migrate(t.Context(), d.OwnerDB, &note{})
	require.ErrorContains(t, err, `"inheriting_reader" inherits from "`+i.ReadOnlyRole+`"`)
}

// without returns the texts that are not the other.
func without(texts []string, other string) []string {
	var rest []string
	for _, text := range texts {
		if text != other {
			rest = append(rest, text)
		}
	}
	return rest
}
