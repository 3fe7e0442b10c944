package rls_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
)

func TestMigrateGrantsExactlyWhatIsPromised(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &note{}, &country{})
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	for _, table := range []string{"notes", "countries"} {
		for _, login := range []string{d.App.Role, d.Admin.Role} {
			if table == "countries" && login == d.App.Role {
				continue // see TestSharedTables
			}
			require.Equal(t, []string{"DELETE", "INSERT", "SELECT", "UPDATE"}, collect(t, pool,
				`SELECT privilege FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) privilege
				WHERE has_table_privilege($1, $2, privilege) ORDER BY 1`, login, table))
			require.Equal(t, []string{"SELECT", "USAGE"}, collect(t, pool,
				`SELECT privilege FROM unnest('{SELECT,UPDATE,USAGE}'::text[]) privilege
				WHERE has_sequence_privilege($1, $2, privilege) ORDER BY 1`, login, table+"_id_seq"))
			require.Equal(t, []string{"USAGE"}, collect(t, pool,
				`SELECT privilege FROM unnest('{CREATE,USAGE}'::text[]) privilege
				WHERE has_schema_privilege($1, 'public', privilege) ORDER BY 1`, login))
		}
	}
	for _, statement := range []string{
		"TRUNCATE notes",
		"ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
		"DROP POLICY tenant_isolation ON notes",
		"SELECT setval('notes_id_seq', 1)",
		"CREATE TRIGGER mine AFTER INSERT ON notes EXECUTE FUNCTION suppress_redundant_updates_trigger()",
	} {
		requireCode(t, d.fails(t, "acme", statement), insufficientPrivilege)
	}
}

func TestMigrateWithoutRolesGrantsNothing(t *testing.T) {
	d := newDatabase(t)
	for _, change := range d.migrateWith(t, rls.Isolation{}, &note{}, &country{}) {
		require.NotContains(t, change, "grant")
	}
	requireCode(t, d.fails(t, "acme", "SELECT FROM notes"), insufficientPrivilege)
}

// TestMigrateChangesKind: a role that only reads a table needs its sequence too once it may write.
func TestMigrateChangesKind(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE hits (id bigserial PRIMARY KEY)", "CREATE TABLE notes (id bigserial PRIMARY KEY, tenant_id text, body text)",
		"GRANT SELECT ON hits, notes TO "+d.App.Role)
	d.migrate(t, &hit{}, &note{})
	require.Empty(t, d.migrate(t, &hit{}, &note{}), "a second run")
	d.as(t, "acme", "INSERT INTO hits VALUES (DEFAULT)", "INSERT INTO notes (body) VALUES ('x')")
}

func TestMigrateIdentityAndCompositeSequences(t *testing.T) {
	type counted struct {
		ID       int64  `gorm:"primaryKey;generated:identity"`
		TenantID string `gorm:"primaryKey"`
		Number   int32  `gorm:"autoIncrement"`
	}
	d := newDatabase(t)
	d.migrate(t, &counted{})
	require.Empty(t, d.migrate(t, &counted{}), "a second run")
	d.as(t, "acme", "INSERT INTO counteds DEFAULT VALUES", "INSERT INTO counteds DEFAULT VALUES")
	require.Equal(t, []string{"1", "2"}, d.sees(t, "acme", "SELECT number FROM counteds ORDER BY 1"))
}

func TestMigrateReportsAGrantWithoutEffect(t *testing.T) {
	d := newDatabase(t)
	// The owner of the table may use the schema, but not hand that on.
	foreign := fmt.Sprintf("foreign_%s", d.Name)
	d.AsSuperuser(t, "CREATE SCHEMA "+foreign, fmt.Sprintf("GRANT ALL ON SCHEMA %s TO %s", foreign, d.Owner.Role))
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB.Table(foreign+".notes"), &note{})
	require.ErrorContains(t, err, "PostgreSQL took the statement and changed nothing")
	require.ErrorContains(t, err, "GRANT USAGE ON SCHEMA")
	require.False(t, d.OwnerDB.Migrator().HasTable(foreign+".notes"), "all is rolled back")
}
