package tenancyriver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/check"
)

// ErrNotIsolated is the error of New if river_job is not isolated, or not as Isolation says.
var ErrNotIsolated = errors.New("tenancy: river_job is not isolated")

// Allow are options for rls.Isolation.Check, tenanttest.CheckWith and tenancy.Config.CheckOptions, which know no River: what they find about
// river_job is meant, and their statements would break it.
func (i Isolation) Allow() []check.Option {
	if i.Schema == "" {
		i.Schema = "public"
	}
	return []check.Option{
		check.Allow(check.UniqueWithoutTenant, "index "+i.Schema+".river_job_unique_idx", "the trigger makes the tenant part of each key"),
		check.Allow(check.TenantColumnDefault, i.Schema+".river_job", "PostgreSQL generates the column from the metadata"),
	}
}

// check asks PostgreSQL whether a tenant could have chosen what the metadata of jobs say.
func (i Isolation) check(ctx context.Context, pool *sql.DB) error {
	var problem sql.NullString
	job := sqltext.Literal(i.table("river_job"))
	query := `SELECT CASE
		WHEN c.oid IS NULL THEN 'the table does not exist'
		WHEN NOT (c.relrowsecurity AND c.relforcerowsecurity) THEN 'row-level security is not forced'
		WHEN coalesce((SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE a.attrelid = c.oid AND a.attname = '` + tenantColumn + `' AND a.attgenerated = 's'), '')
			<> $1 THEN 'the tenant column is not generated from the metadata'
		WHEN NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = c.oid AND t.tgname = '` + triggerName + `'
			AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgtype = 23 AND p.prosrc = $2
			AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']) THEN 'the trigger is missing, or another one'
		WHEN EXISTS (SELECT FROM pg_policy p
			WHERE p.polrelid = c.oid AND p.polpermissive AND NOT p.polroles <@ ARRAY(SELECT r.oid FROM pg_roles r WHERE r.rolname IN ($3, $4))
			AND NOT ((p.polqual IS NULL OR ` + policy.Binds("p.polqual", "c.oid", "$5") + `)
				AND (p.polwithcheck IS NULL OR ` + policy.Binds("p.polwithcheck", "c.oid", "$5") + `)))
			THEN 'a policy lets in the jobs of other tenants, or demands another proof than Isolation says'
		WHEN NOT $9 AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid <> c.oid AND p.polname = '` + policy.Tenant + `'
			AND strpos(pg_get_expr(p.polqual, p.polrelid), '` + signing.Schema + `.` + signing.FunctionTenant + `(') > 0)
			THEN 'the policies of other tables demand a signature, and that of river_job does not: set Isolation.Signed'
		WHEN pg_has_role($6, $3, 'MEMBER') THEN 'the application''s role is a member of the workers'' role'
		WHEN (SELECT r.rolsuper OR r.rolbypassrls OR r.oid = c.relowner FROM pg_roles r WHERE r.rolname = $6)
			THEN 'the application''s role is exempt from policies'
		WHEN $7 AND (SELECT bool_or(coalesce(has_table_privilege($6, to_regclass(t), 'SELECT, INSERT, UPDATE, DELETE'), true)) FROM unnest($8::text[]) t)
			THEN 'the tables of slots are missing, or the application''s role has rights on them'
		END
		FROM (SELECT) one LEFT JOIN pg_class c ON c.oid = to_regclass(` + job + `)`
	generated := `COALESCE((metadata ->> '` + tenantKey + `'::text), ''::text)`
	err := pool.QueryRowContext(ctx, query, generated, i.triggerBody(), i.WorkerRole, i.AdminRole, i.policy().Pattern(), i.AppRole,
		i.Slots > 0, []string{i.table(slotsTable), i.table(feedTable)}, i.Signed).Scan(&problem)
	switch {
	case err != nil:
		return fmt.Errorf("tenancy: check river_job: %w", err)
	case problem.Valid:
		return fmt.Errorf("%w: %s; run Isolation.Migrate", ErrNotIsolated, problem.String)
	}
	return nil
}
