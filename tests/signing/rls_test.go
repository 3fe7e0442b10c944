package signing_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Models of each kind: a tenant table with a child and a join table, one whose key is a uuid, one that tenants have own rows of, and
// one that lookups read.
type (
	Page struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Text     string
		Marks    []Mark
		Labels   []Label `gorm:"many2many:page_labels"`
	}
	Mark struct {
		ID     int64
		PageID int64
		Text   string
	}
	Label struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Text     string
	}
	Member struct {
		ID       int64
		TenantID string `gorm:"not null"`
		UserID   int64
	}
)

var models = []any{&Page{}, &Mark{}, &Label{}, &Member{}}

// isolation is signed, with the roles of the database.
func (d *database) isolation() rls.Isolation {
	return rls.Isolation{
		AppRole: d.App.Role, AdminRole: d.Admin.Role, LookupRole: d.Lookup.Role, Signed: true, SignerRole: d.signer,
		Lookups: []rls.Lookup{{Model: &Member{}, Columns: []string{"tenant_id", "user_id"}}},
	}
}

// fill makes rows of two tenants.
func (d *database) fill(t *testing.T) {
	t.Helper()
	for _, statement := range []string{
		`INSERT INTO pages (id, tenant_id, text) VALUES (1, 'a', 'a'), (2, 'b', 'b')`,
		`INSERT INTO marks (tenant_id, page_id, text) VALUES ('a', 1, 'a'), ('b', 2, 'b')`,
		`INSERT INTO labels (id, tenant_id, text) VALUES (1, 'a', 'a'), (2, 'b', 'b')`,
		`INSERT INTO page_labels (tenant_id, page_id, label_id) VALUES ('a', 1, 1), ('b', 2, 2)`,
		`INSERT INTO members (tenant_id, user_id) VALUES ('a', 1), ('b', 2)`,
	} {
		require.NoError(t, d.AdminDB.Exec(statement).Error, statement)
	}
}

var tables = []string{"pages", "marks", "labels", "page_labels", "members"}

// rows counts the rows that SQL of the application's login sees after these settings, which it makes itself.
func rows(t *testing.T, conn *pgx.Conn, table, tenant, proof string) (count int) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }()
	_, err = tx.Exec(t.Context(), `SELECT set_config('app.tenant_id', $1, true), set_config('app.tenant_id_proof', $2, true)`, tenant, proof)
	require.NoError(t, err)
	require.NoError(t, tx.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&count))
	return count
}

// TestMigrateSigned: every table asks for the proof, and SQL that names a tenant sees nothing without it.
func TestMigrateSigned(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	result, err := d.isolation().Migrate(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.Empty(t, check.Report{Findings: result.Findings}.Findings)
	d.fill(t)
	again := d.Migrate(t, d.isolation(), models...)
	require.Empty(t, again)

	d.as(t, d.App, func(conn *pgx.Conn) {
		proof := string(d.key.Proof(claims(conn)))
		for _, table := range tables {
			require.Equal(t, 1, rows(t, conn, table, "a", proof), table)
			require.Zero(t, rows(t, conn, table, "a", ""), table)
			require.Zero(t, rows(t, conn, table, "b", ""), table)
			require.Zero(t, rows(t, conn, table, "b", proof), table)
		}
		// SQL that takes the lookup role sees nothing either: the proof is one of a tenant.
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SELECT set_config('app.tenant_id', 'a', true), set_config('app.tenant_id_proof', $1, true)`, proof)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SET LOCAL ROLE `+d.Lookup.Role)
		require.NoError(t, err)
		var users []int64
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT array_agg(user_id) FROM members`).Scan(&users))
		require.LessOrEqual(t, len(users), 1, "no other tenant's")
		require.NoError(t, tx.Rollback(t.Context()))
	})
}

// TestGuardReadsSignedTables as tenants and as lookups.
func TestGuardReadsSignedTables(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.Migrate(t, d.isolation(), models...)
	d.fill(t)
	cfg := guard.Config{Setting: setting, Signer: d.newSigner(time.Minute, false), LookupRole: d.Lookup.Role, CleanAlways: true}
	pool := guard.Borrow(testdb.OpenSQL(t, d.App.DSN), cfg)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	count := func(ctx context.Context, table string) (count int) {
		require.NoError(t, pool.QueryRowContext(ctx, `SELECT count(tenant_id) FROM `+table).Scan(&count))
		return count
	}
	for _, table := range tables {
		require.Equal(t, 1, count(as("a"), table), table)
		require.Zero(t, count(as("c"), table), table)
	}
	require.Equal(t, 2, count(guard.WithoutTenant(context.Background()), "members"))
	_, err := pool.ExecContext(as("a"), `INSERT INTO pages (id, text) VALUES (3, 'x')`)
	require.NoError(t, err)
	_, err = pool.ExecContext(as("a"), `INSERT INTO pages (id, tenant_id, text) VALUES (4, 'b', 'x')`)
	require.ErrorContains(t, err, "42501")
}

// TestUnsignedPluginRefusesSignedTables, and accepts those that take both forms.
func TestUnsignedPluginRefusesSignedTables(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	isolation := d.isolation()
	isolation.DangerouslyAcceptUnsigned = true
	d.Migrate(t, isolation, models...)
	d.fill(t)
	cfg := tenancy.Config{LookupRole: d.Lookup.Role, Logger: testdb.Quiet}
	find := func() (found []Page, err error) {
		err = d.Open(t, cfg).WithContext(tenancy.WithTenant(context.Background(), "a")).Find(&found).Error
		return found, err
	}
	found, err := find()
	require.NoError(t, err)
	require.Len(t, found, 1)

	d.Migrate(t, d.isolation(), models...)
	_, err = find()
	require.ErrorIs(t, err, tenancy.ErrNotIsolated)

	d.Migrate(t, isolation, models...) // and back
	found, err = find()
	require.NoError(t, err)
	require.Len(t, found, 1)

	// A function of that name that is not ours opens everything.
	d.asSigner(t, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), `CREATE OR REPLACE FUNCTION tenancy_signed.tenant_or_unsigned(setting text) RETURNS text
			LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN RETURN 'b'; END $$`)
		require.NoError(t, err)
	})
	_, err = find()
	require.ErrorIs(t, err, tenancy.ErrNotIsolated)
}

// TestCheckKnowsTheForms: what has another form than it should is a finding.
func TestCheckKnowsTheForms(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.Migrate(t, d.isolation(), models...)
	unsigned, either := d.isolation(), d.isolation()
	unsigned.Signed, either.DangerouslyAcceptUnsigned = false, true
	for _, c := range []struct {
		isolation rls.Isolation
		findings  bool
	}{{d.isolation(), false}, {unsigned, true}} {
		report, err := c.isolation.Check(t.Context(), d.OwnerDB, check.ModelsOnly(models...))
		require.NoError(t, err)
		require.Equal(t, c.findings, len(report.Findings) > 0)
	}
	d.Migrate(t, either, models...)
	report, err := d.isolation().Check(t.Context(), d.OwnerDB, check.ModelsOnly(models...))
	require.NoError(t, err)
	require.NotEmpty(t, report.Findings)
}

// TestSQLMakesSignedTables in one transaction, and changes nothing when it runs again.
func TestSQLMakesSignedTables(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	dry, err := gorm.Open(postgres.Open(""), &gorm.Config{DryRun: true, DisableAutomaticPing: true})
	require.NoError(t, err)
	t.Cleanup(func() { testdb.Close(t, dry) })
	up, down, err := d.isolation().SQL(dry, models...)
	require.NoError(t, err)
	owner, err := d.OwnerDB.DB()
	require.NoError(t, err)
	for range 2 {
		inTransaction(t, owner, up)
	}
	require.Empty(t, d.Migrate(t, d.isolation(), models...))
	d.fill(t)
	d.as(t, d.App, func(conn *pgx.Conn) {
		require.Equal(t, 1, rows(t, conn, "pages", "a", string(d.key.Proof(claims(conn)))))
		require.Zero(t, rows(t, conn, "pages", "a", ""))
	})
	inTransaction(t, owner, down)
	d.as(t, d.App, func(conn *pgx.Conn) {
		require.Equal(t, tenant, ask(t, conn, "a", d.key.Proof(claims(conn))), "keys and functions stay")
	})
}

func inTransaction(t *testing.T, pool *sql.DB, script string) {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), script)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
}

// TestMigrateRefusesSignerRoles that would give the keys away.
func TestMigrateRefusesSignerRoles(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	refused := func(role, words string) {
		t.Helper()
		isolation := d.isolation()
		isolation.SignerRole = role
		_, err := isolation.Migrate(t.Context(), d.OwnerDB, models...)
		require.ErrorContains(t, err, words)
	}
	refused("missing_"+d.Name, "does not exist")
	refused(d.Owner.Role, "can log in")
	d.AsSuperuser(t, `GRANT `+d.signer+` TO `+d.App.Role)
	refused(d.signer, "is a member of SignerRole")
	d.AsSuperuser(t, `REVOKE `+d.signer+` FROM `+d.App.Role, `DROP SCHEMA tenancy_signed CASCADE`, `REVOKE CREATE ON DATABASE `+d.Name+` FROM `+d.Owner.Role)
	refused(d.signer, "GRANT CREATE ON DATABASE "+sqltext.Ident(d.Name)+" TO "+sqltext.Ident(d.Owner.Role))
	d.AsSuperuser(t, `REVOKE `+d.signer+` FROM `+d.Owner.Role)
	refused(d.signer, "GRANT "+sqltext.Ident(d.signer)+" TO "+sqltext.Ident(d.Owner.Role))
}
