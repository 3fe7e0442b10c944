package check_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// What Migrate makes is what Check asks for.
func TestCheckMigratedModels(t *testing.T) {
	type text struct {
		ID       int64
		TenantID string
		Name     string `gorm:"index"`
	}
	type varchar struct {
		ID       string `gorm:"default:gen_random_uuid()"`
		TenantID string `gorm:"size:40"`
	}
	type composite struct {
		TenantID int64 `gorm:"primaryKey;autoIncrement:false"`
		Number   int   `gorm:"primaryKey;autoIncrement:false"`
	}
	d := newDatabase(t)
	owner := open(t, d.Owner.DSN, &gorm.Config{})
	for schema, models := range map[string][]any{
		"public":     {&text{}, &country{}, &membership{}},
		"varchars":   {&varchar{}},
		"composites": {&composite{}},
	} {
		d.run(t, d.Owner.DSN, "CREATE SCHEMA IF NOT EXISTS "+schema+"; ALTER ROLE CURRENT_USER SET search_path = "+schema)
		db := open(t, d.Owner.DSN, &gorm.Config{})
		_, err := d.isolation().Migrate(t.Context(), db, models...)
		require.NoError(t, err)
	}
	d.run(t, d.Owner.DSN, "ALTER ROLE CURRENT_USER RESET search_path")
	report, err := d.isolation().Check(t.Context(), owner, d.patched(), check.Models(&text{}, &country{}, &membership{}))
	require.NoError(t, err)
	require.Empty(t, found(report))
	require.Equal(t, 3, report.Tables)
}

type (
	customer struct {
		ID       int64
		TenantID string
		Email    string  `gorm:"uniqueIndex"`
		Orders   []order `gorm:"constraint:OnDelete:CASCADE"`
		Tags     []label `gorm:"many2many:customer_labels"`
	}
	order struct {
		ID         int64
		TenantID   string
		CustomerID int64
		PreviousID *int64
		Previous   *order
	}
	label struct {
		ID       int64
		TenantID string
		Name     string `gorm:"unique"`
	}
)

func TestCheckMigratedRelations(t *testing.T) {
	d := newDatabase(t)
	owner := open(t, d.Owner.DSN, &gorm.Config{})
	require.NoError(t, owner.AutoMigrate(&customer{}, &order{}))
	report := d.check(t)
	require.Contains(t, found(report), "foreign-key-cascades: constraint fk_customers_orders on public.orders")
	require.Contains(t, found(report), "unique-without-tenant: index public.idx_customers_email")

	_, err := d.isolation().Migrate(t.Context(), owner, &customer{}, &order{})
	require.NoError(t, err)
	require.Empty(t, found(d.check(t, check.Models(&customer{}, &order{}))))
}

// The SQL that fixes a foreign key finds the rows that point at another tenant's, although policies are forced on the owner,
// as which PostgreSQL looks at them.
func TestCheckForeignKeyFixLooksAtRows(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.Owner.DSN, "ALTER TABLE comments DROP CONSTRAINT comments_note")
	require.NoError(t, d.as(t, d.app, "globex", "INSERT INTO comments (id, note_id) VALUES (3, 1)"), "the note is acme's")
	report := d.check(t, d.allowances()...)
	require.Equal(t, []string{"foreign-key-without-tenant: constraint fk_notes_comments on public.comments"}, found(report))

	owner := d.connect(t, d.Owner.DSN)
	_, err := owner.PgConn().Exec(t.Context(), report.SQL()).ReadAll()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "23503", pgErr.Code)

	require.NoError(t, d.as(t, d.app, "globex", "DELETE FROM comments WHERE id = 3"))
	d.run(t, d.Owner.DSN, report.SQL())
	require.Empty(t, found(d.check(t, d.allowances()...)), "and policies are forced again")
}

// How PostgreSQL writes a policy depends on the names in it.
func TestCheckOddNames(t *testing.T) {
	for _, i := range []rls.Isolation{
		{Column: "Mandant-Nr?@", Setting: "My.Tenant$"},
		{Column: "select", Setting: "a.b.c"},
		{Column: `we"ird`, Setting: "_._"},
	} {
		d := newDatabase(t)
		i.AppRole, i.AdminRole = d.role, d.Admin.Role
		owner := open(t, d.Owner.DSN, &gorm.Config{})
		table := pgx.Identifier{"what; -- \n'is' \"this\""}
		column := pgx.Identifier{i.Column}.Sanitize()
		for n, columnType := range []string{"text", "varchar(9)", "uuid", "smallint", "integer", "bigint"} {
			schema := pgx.Identifier{fmt.Sprintf("schema %d", n)}
			name := schema.Sanitize() + "." + table.Sanitize()
			d.run(t, d.Owner.DSN, fmt.Sprintf(`CREATE SCHEMA %[1]s; GRANT USAGE ON SCHEMA %[1]s TO {app};
				CREATE TABLE %[2]s (id bigint, %[3]s %[4]s UNIQUE, CONSTRAINT "odd ""one" UNIQUE (id)); CREATE UNIQUE INDEX "an ""index" ON %[2]s (id)`,
				schema.Sanitize(), name, column, columnType))
		}
		for range 2 { // what is made depends on types, whose fix comes first
			report, err := i.Check(t.Context(), owner, d.patched())
			require.NoError(t, err)
			require.NotContains(t, strings.Join(found(report), "\n"), "tenant-column-type")
			d.run(t, d.Owner.DSN, report.SQL())
		}
		report, err := i.Check(t.Context(), owner, d.patched())
		require.NoError(t, err)
		require.Empty(t, found(report))
		require.Equal(t, 6, report.Tables)
	}
}

type country struct {
	Name string `gorm:"primaryKey"`
}

// membership has the column and is shared.
type membership struct {
	ID       int64
	TenantID string
	Login    string `gorm:"unique"`
}

func (membership) TenantShared() {}

// One script fixes many holes, some of which meet in one object.
func TestCheckScriptForManyHoles(t *testing.T) {
	d := cleanDatabase(t)
	for name := range map[string]bool{
		"inherits the admin role": true, "not enabled": true, "partition granted": true, "child granted": true,
		"parent that is no tenant's": true, "nullable": true, "default of another": true, "of another type": true, "not indexed": true,
		"unique constraint": true, "unique index": true, "unique index of a partitioned table": true, "foreign key": true,
		"foreign key to itself": true, "foreign key that sets null": true,
		"always true, beside ours": true, "always true, instead of ours": true, "check always true": true, "casts the column": true,
		"materialized view": true, "definer function": true,
		"definer procedure without search_path": true, "trigger of a superuser": true, "truncate": true, "trigger": true,
		"references": true, "create in a schema": true, "default privileges": true, "published": true, "foreign table": true,
	} {
		hole := holes[name]
		require.NotEmpty(t, hole.open, name)
		d.run(t, d.loginFor(hole.open), hole.open)
	}
	// A foreign key that needs the very constraint that is to be widened.
	d.run(t, d.Owner.DSN, `CREATE TABLE codes (tenant_id text, code text CONSTRAINT one_code UNIQUE);
		CREATE TABLE uses (tenant_id text, code text REFERENCES codes (code) ON DELETE CASCADE)`)

	report := d.check(t, d.allowances()...)
	require.Greater(t, len(report.Findings), 40)
	require.True(t, sorted(report), "the worst first")
	d.run(t, d.super, report.SQL())
	require.Empty(t, found(d.check(t, d.allowances()...)))
	require.True(t, leaks("of globex", allNotes)(t, d), "what is a tenant's own it still sees")
	require.False(t, leaks(ofAcme, allNotes)(t, d))
}

func sorted(report check.Report) bool {
	for n, f := range report.Findings[1:] {
		if f.Severity > report.Findings[n].Severity {
			return false
		}
	}
	return true
}

func TestCheckWithoutAppRole(t *testing.T) {
	d := cleanDatabase(t)
	i := rls.Isolation{AdminRole: d.Admin.Role}
	report, err := i.Check(t.Context(), open(t, d.app, &gorm.Config{}), d.allowances()...)
	require.NoError(t, err)
	require.Equal(t, d.role, report.Role)
	require.Empty(t, found(report))

	report, err = i.Check(t.Context(), open(t, d.super, &gorm.Config{}), d.allowances()[:2]...)
	require.NoError(t, err)
	require.NotEqual(t, d.role, report.Role)
	require.Contains(t, found(report), "role-superuser: role "+report.Role)

	report, err = i.Check(t.Context(), open(t, d.Owner.DSN, &gorm.Config{}), d.allowances()[:2]...)
	require.NoError(t, err)
	require.Contains(t, found(report), "role-owns-tables: role "+d.Owner.Role)
}

// guarded opens a pool that the guard borrows.
func (d database) guarded(t *testing.T) *gorm.DB {
	t.Helper()
	inner, err := open(t, d.app, &gorm.Config{}).DB()
	require.NoError(t, err)
	pool := guard.Borrow(inner, guard.Config{Setting: "app.tenant_id"})
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	require.NoError(t, err)
	return db
}

// plugged opens a client with the plugin.
func (d database) plugged(t *testing.T) *gorm.DB {
	t.Helper()
	db := open(t, d.app, &gorm.Config{})
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	return db
}

// plain opens a client without a guard.
func (d database) plain(config gorm.Config) func(*testing.T) *gorm.DB {
	return func(t *testing.T) *gorm.DB { return open(t, d.app, &config) }
}

// connection is one on which a check can be made, and what is done to its context.
type connection struct {
	db  func(*testing.T) *gorm.DB
	ctx func(context.Context) context.Context
}

func (d database) connections() map[string]connection {
	return map[string]connection{
		"plain":                   {db: d.plain(gorm.Config{})},
		"prepared":                {db: d.plain(gorm.Config{PrepareStmt: true})},
		"no nested transactions":  {db: d.plain(gorm.Config{DisableNestedTransaction: true})},
		"guarded, undecided":      {db: d.guarded},
		"guarded, without tenant": {db: d.guarded, ctx: tenancy.WithoutTenant},
		"guarded, with tenant":    {db: d.guarded, ctx: func(ctx context.Context) context.Context { return tenancy.WithTenant(ctx, "acme") }},
		"plugin":                  {db: d.plugged},
		"read-only sessions": {db: func(t *testing.T) *gorm.DB {
			return open(t, d.app+"&default_transaction_read_only=on", &gorm.Config{})
		}},
		"a search_path that deceives": {db: func(t *testing.T) *gorm.DB {
			d.run(t, d.app, `CREATE OR REPLACE FUNCTION scratch.has_schema_privilege(oid, oid, text) RETURNS bool LANGUAGE sql AS 'SELECT 1/0 = 1'`)
			return open(t, d.app+"&search_path=scratch,pg_catalog", &gorm.Config{})
		}},
	}
}

func TestCheckOnEveryConnection(t *testing.T) {
	d := cleanDatabase(t)
	for name, test := range d.connections() {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if test.ctx != nil {
				ctx = test.ctx(ctx)
			}
			db := test.db(t)
			for range 2 {
				report, err := d.isolation().Check(ctx, db, d.allowances()...)
				require.NoError(t, err)
				require.Empty(t, found(report))
			}
		})
	}
	t.Run("in a transaction, which is left as it was", func(t *testing.T) {
		db := open(t, d.app, &gorm.Config{DisableNestedTransaction: true})
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			var before, after string
			require.NoError(t, tx.Raw("SHOW search_path").Scan(&before).Error)
			report, err := d.isolation().Check(t.Context(), tx, d.allowances()...)
			require.NoError(t, err)
			require.Empty(t, found(report))
			require.NoError(t, tx.Raw("SHOW search_path").Scan(&after).Error)
			require.Equal(t, before, after)
			return nil
		}))
	})
}

func TestCheckAllow(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.Owner.DSN, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
	report := d.check(t, append(d.allowances(), check.Allow(check.TableNotEnabled, "public.notes", "tomorrow"))...)
	require.Empty(t, found(report))
	require.Len(t, report.Allowed, 2)
	for _, allowed := range report.Allowed {
		if allowed.Code == check.TableNotEnabled {
			require.Equal(t, "tomorrow", allowed.Reason)
			require.Equal(t, "public.notes", allowed.Object)
			require.NotEmpty(t, allowed.Fix)
		}
	}
	report = d.check(t, append(d.allowances(), check.Allow(check.TableNotEnabled, "public.topics", "another table"))...)
	require.Equal(t, []string{"table-not-enabled: public.notes", "allow-stale: table-not-enabled on public.topics"}, found(report))

	db := open(t, d.app, &gorm.Config{})
	for says, opt := range map[string]check.Option{
		`tenancy: allowed code "table-not-forcd" does not exist`:                          check.Allow("table-not-forcd", "public.notes", "why not"),
		`tenancy: allowed code "table-not-forced" has no object`:                          check.Allow(check.TableNotForced, "", "why not"),
		`tenancy: allowed code "table-not-forced" on public.notes has no reason: say why`: check.Allow(check.TableNotForced, "public.notes", " "),
	} {
		_, err := d.isolation().Check(t.Context(), db, opt)
		require.ErrorContains(t, err, says)
	}
}

func TestCheckSchemas(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.Owner.DSN, `ALTER TABLE notes DISABLE ROW LEVEL SECURITY; ALTER TABLE "of text"."Odd ""rows" DISABLE ROW LEVEL SECURITY`)
	report := d.check(t, check.Schemas("of text", "of uuid"))
	require.Equal(t, []string{`table-not-enabled: of text.Odd "rows`}, found(report))
	require.Equal(t, 2, report.Tables)
	_, err := d.isolation().Check(t.Context(), open(t, d.app, &gorm.Config{}), check.Schemas("public", "typo"))
	require.EqualError(t, err, `tenancy: schema "typo" does not exist`)
}

func TestCheckModelsOfOtherKinds(t *testing.T) {
	d := cleanDatabase(t)
	report := d.check(t, check.Models(&membership{}, &country{}), d.allowances()[2])
	require.Empty(t, found(report))
	require.Equal(t, 17, report.Tables)

	_, err := d.isolation().Check(t.Context(), open(t, d.app, &gorm.Config{}), check.Models("no model"))
	require.ErrorContains(t, err, "model string has no table")
}

// A join table has no model of its own, and a model can lead to others.
func TestCheckModelsWithAJoinTable(t *testing.T) {
	type tag struct {
		ID       int64
		TenantID string
	}
	type post struct {
		ID       int64
		TenantID string
		Tags     []tag `gorm:"many2many:post_tags"`
	}
	d := newDatabase(t)
	require.NoError(t, open(t, d.Owner.DSN, &gorm.Config{}).AutoMigrate(&post{}))
	report := d.check(t, check.Models(&post{}))
	require.Contains(t, found(report), "model-column-missing: public.post_tags")
	d.run(t, d.Owner.DSN, report.SQL())
	report = d.check(t, check.Models(&post{}))
	d.run(t, d.Owner.DSN, report.SQL()) // the foreign keys of the table that is a tenant's now
	require.Empty(t, found(d.check(t, check.Models(&post{}))))
}

func TestCheckNotChecked(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.super, `CREATE FUNCTION compiled() RETURNS int LANGUAGE internal SECURITY DEFINER SET search_path = pg_catalog AS 'pg_backend_pid';
		CREATE FUNCTION all_notes() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT body FROM public.notes'`)
	report := d.check(t, d.allowances()...)
	require.Equal(t, []string{"What function public.compiled() reads cannot be seen: it is compiled."}, report.NotChecked)
	require.Len(t, report.Findings, 2)

	d.run(t, d.super, "REVOKE SELECT ON pg_rewrite, pg_default_acl FROM PUBLIC")
	report = d.check(t, d.allowances()...)
	require.Empty(t, found(report))
	require.Equal(t, []string{
		"The connection's role may not read what tells about views (pg_rewrite, pg_depend).",
		"The connection's role may not read what tells about readers (pg_rewrite, pg_depend).",
		"The connection's role may not read what tells about functions (pg_proc, pg_depend, pg_rewrite, pg_language).",
		"The connection's role may not read what tells about triggers (pg_trigger, pg_proc, pg_depend, pg_rewrite).",
		"The connection's role may not read what tells about routines (pg_proc, pg_depend, pg_rewrite, pg_language).",
		"The connection's role may not read what tells about rewrites (pg_rewrite, pg_depend).",
		"The connection's role may not read what tells about defaults (pg_default_acl).",
	}, report.NotChecked)
}

func TestCheckUncheckable(t *testing.T) {
	d := newDatabase(t)
	db := open(t, d.app, &gorm.Config{})
	_, err := rls.Isolation{AppRole: "missing_app"}.Check(t.Context(), db)
	require.EqualError(t, err, `tenancy: role "missing_app" does not exist: AppRole is the role that the application logs in as`)
	_, err = rls.Isolation{Setting: "tenant"}.Check(t.Context(), db)
	require.ErrorContains(t, err, "is not a name that PostgreSQL accepts")
	_, err = rls.Isolation{}.Check(t.Context(), nil)
	require.ErrorContains(t, err, "tenancy: no database")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	_, err = rls.Isolation{}.Check(ctx, db)
	require.ErrorIs(t, err, context.Canceled)

	report, err := rls.Isolation{}.Check(t.Context(), db, d.patched())
	require.NoError(t, err)
	require.Zero(t, report.Tables)
	require.True(t, report.OK())
}
