package docs

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// TestRolesWithoutSuperuser runs the SQL of docs/roles.md as the admin user of a provider has it, and README's program with the roles.
func TestRolesWithoutSuperuser(t *testing.T) {
	t.Run("as made", func(t *testing.T) { rolesWithoutSuperuser(t, "") })
	if pgserver.Shared(t).Version() >= 160000 {
		t.Run("members of what they make", func(t *testing.T) { rolesWithoutSuperuser(t, "set, inherit") })
	}
}

func rolesWithoutSuperuser(t *testing.T, selfGrant string) {
	var cloud string
	super, err := pgx.Connect(t.Context(), pgserver.Shared(t).DSN())
	require.NoError(t, err)
	t.Cleanup(func() { // after the roles that it has made
		conn, err := pgx.Connect(context.Background(), pgserver.Shared(t).DSN())
		require.NoError(t, err)
		_, err = conn.Exec(context.Background(), "DROP ROLE IF EXISTS "+cloud)
		require.NoError(t, err)
		require.NoError(t, conn.Close(context.Background()))
	})
	s := newShop(t)
	cloud = s.name + "_cloud"
	_, err = super.Exec(t.Context(), "CREATE ROLE "+cloud+" LOGIN CREATEROLE CREATEDB NOSUPERUSER PASSWORD 'secret'")
	require.NoError(t, err)
	if selfGrant != "" {
		_, err = super.Exec(t.Context(), "ALTER ROLE "+cloud+" SET createrole_self_grant = '"+selfGrant+"'")
		require.NoError(t, err)
	}
	require.NoError(t, super.Close(t.Context()))

	dsn, err := url.Parse(s.dsn)
	require.NoError(t, err)
	dsn.User = url.UserPassword(cloud, "secret")
	admin, err := pgx.Connect(t.Context(), dsn.String())
	require.NoError(t, err)
	script, _ := readPage(t, "docs/roles.md").sql("CREATE DATABASE")
	for statement := range strings.SplitSeq(s.rename(script), ";\n") {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	_, err = admin.Exec(t.Context(), s.rename("CREATE ROLE shop_backup BYPASSRLS"))
	require.ErrorContains(t, err, "42501", "the admin user has no BYPASSRLS itself")
	query, found := readPage(t, "docs/roles.md").sql("rolbypassrls")
	require.True(t, found)
	rows, err := admin.Query(t.Context(), query)
	require.NoError(t, err)
	rows.Close()
	require.NoError(t, rows.Err())
	require.NoError(t, admin.Close(t.Context()))

	_, program := readPage(t, "README.md").program(t)
	s.run(t, program, "globex sees 0 users", "no tenant: true", "the admin sees 1 users")
}

// sql returns the first SQL of a page that contains the text.
func (p page) sql(containing string) (code string, found bool) {
	for _, s := range p.snippets() {
		if s.language == "sql" && strings.Contains(s.code, containing) {
			return s.code, true
		}
	}
	return "", false
}
