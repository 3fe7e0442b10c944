package rls_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMigrateRefusesRoles(t *testing.T) {
	d := newDatabase(t)
	bypassing := "bypassing_" + d.Name
	d.AsSuperuser(t, "CREATE ROLE "+bypassing+" BYPASSRLS")
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE "+bypassing) })

	for name, test := range map[string]struct {
		isolation rls.Isolation
		says      []string
	}{
		"app missing": {rls.Isolation{AppRole: "missing_app"},
			[]string{`role "missing_app" does not exist`, `CREATE ROLE "missing_app" LOGIN NOINHERIT`}},
		"admin missing": {rls.Isolation{AdminRole: `no"body`},
			[]string{`does not exist`, `CREATE ROLE "no""body" NOLOGIN`}},
		"superuser": {rls.Isolation{AppRole: d.superuser(t)},
			[]string{"is a superuser", "NOSUPERUSER"}},
		"bypassing": {rls.Isolation{AppRole: bypassing},
			[]string{"has BYPASSRLS", `ALTER ROLE "` + bypassing + `" NOBYPASSRLS`}},
		// These two are built in, and the first inherits from the second.
		"inheriting": {rls.Isolation{AppRole: "pg_monitor", AdminRole: "pg_read_all_stats"},
			[]string{`"pg_monitor" inherits from "pg_read_all_stats"`, "INHERIT"}},
		"inheriting the reader": {rls.Isolation{AppRole: "pg_monitor", ReadOnlyRole: "pg_read_all_stats"},
			[]string{`"pg_monitor" inherits from "pg_read_all_stats"`, "INHERIT"}},
		"reader missing": {rls.Isolation{ReadOnlyRole: "missing_reader"},
			[]string{`role "missing_reader" does not exist`, `CREATE ROLE "missing_reader" NOLOGIN`}},
		"reader and admin": {rls.Isolation{AdminRole: d.App.Role, ReadOnlyRole: d.App.Role},
			[]string{"ReadOnlyRole cannot be"}},
		"owner": {rls.Isolation{AppRole: d.Owner.Role},
			[]string{"owns table public.notes", "OWNER TO"}},
		"both": {rls.Isolation{AppRole: d.App.Role, AdminRole: d.App.Role},
			[]string{"AdminRole and AppRole cannot both be"}},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := test.isolation.Migrate(t.Context(), d.OwnerDB, &note{})
			changes := result.Changes
			require.Nil(t, changes)
			for _, says := range test.says {
				require.ErrorContains(t, err, says)
			}
			require.False(t, d.OwnerDB.Migrator().HasTable(&note{}), "all is rolled back")
		})
	}
}

// superuser returns the name of a superuser.
func (d database) superuser(t *testing.T) string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, "SELECT rolname FROM pg_roles WHERE rolsuper")[0]
}

func TestMigrateRefusesRowsWithoutTenant(t *testing.T) {
	const says = `table "public"."notes" has rows without a tenant: add the column "tenant_id" if it is missing, ` +
		`give every row its tenant with UPDATE "public"."notes" SET "tenant_id" = …, and migrate again`
	type strictNote struct {
		ID       int64
		TenantID string `gorm:"not null"`
	}
	for name, test := range map[string]struct {
		by    string
		table string
		model any
	}{
		"column is there":   {"CREATE TABLE notes (id bigserial PRIMARY KEY, tenant_id text, body text)", "notes", &note{}},
		"column is missing": {"CREATE TABLE notes (id bigserial PRIMARY KEY, body text)", "notes", &note{}},
		"column is NOT NULL in the model": {"CREATE TABLE notes (id bigserial PRIMARY KEY, body text)", "notes",
			&strictNote{}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsOwner(t, test.by, "INSERT INTO notes (body) VALUES ('secret')")
			_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB.Table("notes"), test.model)
			require.ErrorContains(t, err, says)

			d.AsOwner(t, "ALTER TABLE notes ADD COLUMN IF NOT EXISTS tenant_id text", "UPDATE notes SET tenant_id = 'acme'")
			d.migrate(t, &note{})
			require.Equal(t, []string{"secret"}, d.sees(t, "acme", bodies))
		})
	}
}

// A connection can have a tenant set, by ALTER ROLE or by an earlier statement. Old rows must not become that tenant's.
func TestMigrateDoesNotGiveOldRowsToItsTenant(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE notes (id bigserial PRIMARY KEY, body text)", "INSERT INTO notes (body) VALUES ('secret')")
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	d.AsOwner(t, "SET app.tenant_id = 'acme'")
	_, err = d.Isolation().Migrate(t.Context(), d.OwnerDB, &note{})
	require.ErrorContains(t, err, "rows without a tenant")
}

func TestMigrateErrorsHoldNoStoredValues(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &textRow{})
	d.as(t, "acme", "INSERT INTO rows DEFAULT VALUES")
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &uuidRow{})
	require.ErrorContains(t, err, "stored values do not fit")
	require.NotContains(t, err.Error(), "acme")
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "22P02", pg.Code)
	require.Equal(t, []string{"acme"}, d.sees(t, "acme", "SELECT tenant_id FROM rows"), "all is rolled back")
}

func TestMigrateErrorsOfPostgreSQL(t *testing.T) {
	d := newDatabase(t)
	db := testdb.OpenPlain(t, d.App.DSN)
	_, err := d.Isolation().Migrate(t.Context(), db, &note{})
	require.EqualError(t, err, "tenancy: ERROR: permission denied for schema public (SQLSTATE 42501)")

	require.NoError(t, d.OwnerDB.AutoMigrate(&note{}))
	d.AsSuperuser(t, "ALTER TABLE notes OWNER TO "+d.superuser(t), "GRANT SELECT ON notes TO "+d.Owner.Role)
	_, err = d.Isolation().Migrate(t.Context(), d.OwnerDB, &note{})
	require.EqualError(t, err, "tenancy: public.notes: require tenant_id: ERROR: must be owner of table notes (SQLSTATE 42501)")
}

func TestMigrateRefusesAHiddenColumn(t *testing.T) {
	type hidden struct {
		ID       int64
		TenantID string `gorm:"column:tenant_id;-:all"`
	}
	d := newDatabase(t)
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &hidden{})
	require.ErrorContains(t, err, "table public.hiddens has no column tenant_id")
	d.AsOwner(t, "CREATE TABLE hiddens (id bigserial PRIMARY KEY, tenant_id uuid)")
	d.migrate(t, &hidden{})
	require.Empty(t, d.migrate(t, &hidden{}), "a second run")
}

func TestMigrateRefusesModelsWithoutATable(t *testing.T) {
	d := newDatabase(t)
	for name, model := range map[string]any{
		"nil":       nil,
		"text":      "secret",
		"map":       map[string]any{"body": "secret"},
		"number":    42,
		"no fields": &struct{}{},
		"broken": &struct {
			ID    int64
			Notes []struct{ Body string }
		}{Notes: []struct{ Body string }{{"secret"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &note{}, model)
			require.ErrorContains(t, err, "has no table: pass a pointer to a struct")
			require.NotContains(t, err.Error(), `"secret"`)
			require.False(t, d.OwnerDB.Migrator().HasTable(&note{}), "all is rolled back")
		})
	}
}

func TestMigrateWithACancelledContext(t *testing.T) {
	d := newDatabase(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Isolation().Migrate(ctx, d.OwnerDB, &note{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestMigrateNoModels(t *testing.T) {
	d := newDatabase(t)
	require.Empty(t, d.migrate(t))
}
