package rls_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

const (
	made    = `tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), ''))`
	byHand  = `tenant_id = current_setting('app.tenant_id')`
	shadows = `CREATE SCHEMA shadows; GRANT USAGE ON SCHEMA shadows TO PUBLIC;
		CREATE FUNCTION shadows.current_setting(text, boolean) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'globex' $$;
		CREATE FUNCTION shadows.equal(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
		CREATE OPERATOR shadows.= (leftarg = text, rightarg = text, function = shadows.equal);
		CREATE DOMAIN shadows.uuid AS char(2); CREATE DOMAIN shadows.short AS varchar(2);
		CREATE TABLE shadows.members (tenant text); GRANT ALL ON shadows.members TO PUBLIC;
		CREATE FUNCTION shadows.tenant() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'globex' $$`
)

// judgedPolicies are what follows CREATE POLICY tenant_isolation ON notes. A search_path makes the same words mean other objects.
var judgedPolicies = []struct {
	name, policy, path string
	verdict            policy.Verdict
}{
	{"made", "USING (" + made + ") WITH CHECK (" + made + ")", "", policy.Canonical},
	{"made, with other words", `FOR ALL TO PUBLIC USING ("tenant_id"=(select nullif(pg_catalog.current_setting('app.tenant_id',TRUE),''))) WITH CHECK (` + made + ")", "", policy.Canonical},
	{"made, with a harmless path", "USING (" + made + ") WITH CHECK (" + made + ")", "public, shadows", policy.Canonical},

	{"by hand", "USING (" + byHand + ") WITH CHECK (" + made + ")", "", policy.Isolates},
	{"no check", "USING (" + made + ")", "", policy.Isolates},
	{"check by hand", "USING (" + made + ") WITH CHECK (" + byHand + ")", "", policy.Isolates},
	{"narrower check", "USING (" + made + ") WITH CHECK (" + made + " AND body <> 'x')", "", policy.Isolates},
	{"narrower", "USING (" + made + " AND (body <> '' OR id > 0))", "", policy.Isolates},
	{"nothing", "USING (false)", "", policy.Isolates},
	{"restrictive", "AS RESTRICTIVE USING (" + made + ") WITH CHECK (" + made + ")", "", policy.Isolates},
	{"restrictive and open", "AS RESTRICTIVE USING (true)", "", policy.Isolates},
	{"reads only", "FOR SELECT USING (" + made + ")", "", policy.Isolates},
	{"inserts only", "FOR INSERT WITH CHECK (" + made + ")", "", policy.Isolates},
	{"setting in another case", `USING (tenant_id = (SELECT NULLIF(current_setting('App.Tenant_ID', true), ''))) WITH CHECK (` + made + ")", "", policy.Isolates},
	{"missing_ok is missing", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id'), '')))", "", policy.Isolates},
	{"missing_ok is false", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', false), '')))", "", policy.Isolates},
	{"cast to varchar", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::varchar))", "", policy.Isolates},

	{"open", "USING (true)", "", policy.Unproved},
	{"always true", "USING (1 = 1)", "", policy.Unproved},
	{"open check", "USING (" + made + ") WITH CHECK (true)", "", policy.Unproved},
	{"open insert", "FOR INSERT WITH CHECK (true)", "", policy.Unproved},
	{"open delete", "FOR DELETE USING (true)", "", policy.Unproved},
	{"or true", "USING (" + made + " OR true)", "", policy.Unproved},
	{"or a setting", "USING (" + made + " OR current_setting('app.bypass', true) = 'on')", "", policy.Unproved},
	{"or, in brackets", "USING ((" + made + " AND id > 0) OR id > 0)", "", policy.Unproved},
	{"not", "USING (NOT (" + made + "))", "", policy.Unproved},
	{"in a CASE", "USING (CASE WHEN id > 0 THEN true ELSE " + made + " END)", "", policy.Unproved},
	{"coalesce", "USING (coalesce(" + made + ", true))", "", policy.Unproved},
	{"is not false", "USING ((" + made + ") IS NOT FALSE)", "", policy.Unproved},
	{"other setting", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id2', true), '')))", "", policy.Unproved},
	{"setting with any character", "USING (tenant_id = (SELECT NULLIF(current_setting('appXtenant_id', true), '')))", "", policy.Unproved},
	{"default in place of none", "USING (tenant_id = (SELECT coalesce(NULLIF(current_setting('app.tenant_id', true), ''), 'globex')))", "", policy.Unproved},
	{"none is all", "USING (NULLIF(current_setting('app.tenant_id', true), '') IS NULL OR " + made + ")", "", policy.Unproved},
	{"other column", "USING (body = (SELECT NULLIF(current_setting('app.tenant_id', true), '')))", "", policy.Unproved},
	{"column compared with itself", "USING (tenant_id = tenant_id)", "", policy.Unproved},
	{"other operator", "USING (tenant_id >= (SELECT NULLIF(current_setting('app.tenant_id', true), '')))", "", policy.Unproved},
	{"pattern", "USING (tenant_id LIKE (SELECT NULLIF(current_setting('app.tenant_id', true), '')))", "", policy.Unproved},
	{"cut off by a type", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::varchar(2)))", "", policy.Unproved},
	{"column cut off", "USING (tenant_id::char(2) = (SELECT NULLIF(current_setting('app.tenant_id', true), ''))::char(2))", "", policy.Unproved},
	{"spaces at the end", "USING (tenant_id::bpchar = (SELECT NULLIF(current_setting('app.tenant_id', true), ''))::bpchar)", "", policy.Unproved},
	{"column cast twice", "USING (tenant_id::varchar = (SELECT NULLIF(current_setting('app.tenant_id', true), '')))", "", policy.Unproved},
	{"name", "USING (tenant_id::name = (SELECT NULLIF(current_setting('app.tenant_id', true), ''))::name)", "", policy.Unproved},
	{"lower case", "USING (lower(tenant_id) = lower(current_setting('app.tenant_id', true)))", "", policy.Unproved},
	{"loose collation", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')) COLLATE loose)", "", policy.Unproved},
	{"another user's setting", "USING (tenant_id = current_user)", "", policy.Unproved},
	{"table of members", "USING (tenant_id IN (SELECT tenant FROM shadows.members))", "", policy.Unproved},
	{"subquery of a table", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '') FROM shadows.members))", "", policy.Unproved},
	{"function", "USING (tenant_id = (SELECT shadows.tenant()))", "", policy.Unproved},
	{"function that shadows", "USING (tenant_id = shadows.current_setting('app.tenant_id', true))", "", policy.Unproved},
	{"function that comes first", "USING (" + made + ") WITH CHECK (" + made + ")", "shadows, pg_catalog, public", policy.Unproved},
	{"operator of another schema", "USING (tenant_id OPERATOR(shadows.=) (SELECT NULLIF(current_setting('app.tenant_id', true), '')))", "", policy.Unproved},
	{"type of another schema", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::shadows.uuid))", "", policy.Unproved},
	{"domain", "USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::shadows.short))", "", policy.Unproved},
	{"text that looks like it", `USING (body <> '(tenant_id = current_setting(''app.tenant_id''::text))')`, "", policy.Unproved},
}

// TestVerdictsAgree: the plugin accepts what isolates, Check reports what is unproved, and Migrate replaces what is not canonical.
func TestVerdictsAgree(t *testing.T) {
	d := twoTenants(t)
	d.AsOwner(t, shadows, `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	for _, test := range judgedPolicies {
		t.Run(test.name, func(t *testing.T) {
			d.AsOwner(t, "DROP POLICY tenant_isolation ON notes")
			require.NoError(t, d.OwnerDB.Transaction(func(tx *gorm.DB) error {
				if test.path != "" {
					require.NoError(t, tx.Exec("SET LOCAL search_path = "+test.path).Error)
				}
				return tx.Exec("CREATE POLICY tenant_isolation ON public.notes " + test.policy).Error
			}))
			stored := d.stored(t)
			require.Equal(t, test.verdict, stored.Judge(policyConfig, "text"))
			require.Equal(t, test.verdict == policy.Canonical, policyConfig.IsMade(policy.Tenant, stored, "text"))
			require.Equal(t, test.verdict > policy.Unproved, d.proves(t), "the plugin")
			require.Equal(t, test.verdict == policy.Unproved, d.reports(t), "Check")
			require.Equal(t, test.verdict != policy.Canonical, d.replaces(t), "Migrate")
		})
	}
}

var policyConfig = policy.Config{}.WithDefaults()

// stored returns the policy that a test is about, as the catalog has it.
func (d database) stored(t *testing.T) (stored policy.Stored) {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	var document string
	require.NoError(t, pool.QueryRow(`SELECT `+policy.StoredOf("p")+`::text FROM pg_policy p WHERE polname = 'tenant_isolation'`).Scan(&document))
	require.NoError(t, json.Unmarshal([]byte(document), &stored))
	return stored
}

// proves reports whether the plugin accepts the table.
func (d database) proves(t *testing.T) bool {
	t.Helper()
	db := d.Open(t, tenancy.Config{})
	var rows []struct{ TenantID string }
	err := db.WithContext(tenancy.WithTenant(t.Context(), "acme")).Table("public.notes").Find(&rows).Error
	if err == nil {
		for _, row := range rows {
			require.Equal(t, "acme", row.TenantID)
		}
		return true
	}
	require.ErrorIs(t, err, tenancy.ErrNotIsolated)
	return false
}

// reports reports whether Check says of a policy that it is not proved to isolate.
func (d database) reports(t *testing.T) bool {
	t.Helper()
	report, err := d.Isolation().Check(t.Context(), d.OwnerDB, check.ModelsOnly(&note{}))
	require.NoError(t, err)
	for _, f := range report.Findings {
		if f.Severity >= check.High {
			require.True(t, strings.HasPrefix(string(f.Code), "policy-"), f.Code)
			return true
		}
		require.Contains(t, []check.Code{check.PolicyCastsColumn, check.PolicyWithoutNullif, check.PolicyWithoutSubselect, check.TableWithoutPolicy}, f.Code)
	}
	return false
}

// replaces reports whether Migrate would make the policy again.
func (d database) replaces(t *testing.T) (replaced bool) {
	t.Helper()
	require.ErrorIs(t, d.OwnerDB.Transaction(func(tx *gorm.DB) error {
		result, err := d.Isolation().Migrate(t.Context(), tx, &note{})
		require.NoError(t, err)
		require.Empty(t, result.Findings)
		for _, change := range result.Changes {
			require.Contains(t, change.Description, "policy tenant_isolation")
			replaced = true
		}
		return gorm.ErrInvalidTransaction
	}), gorm.ErrInvalidTransaction)
	return replaced
}

// TestMigrateRefusesPathBeforePostgreSQL: its own policies would call functions of that schema.
func TestMigrateRefusesPathBeforePostgreSQL(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, shadows)
	db := testdb.OpenPlain(t, testdb.WithParam(d.Owner.DSN, "search_path", "public,shadows,pg_catalog"))
	_, err := d.Isolation().Migrate(t.Context(), db, &note{})
	require.ErrorContains(t, err, "with no schema before pg_catalog in the search_path")
	require.False(t, d.OwnerDB.Migrator().HasTable(&note{}))
}

// TestVerdictOnWhatIsMade: for each type of the tenant column, and names that PostgreSQL quotes, what is made is canonical, and
// PostgreSQL and Go say the same of it.
func TestVerdictOnWhatIsMade(t *testing.T) {
	d := newDatabase(t)
	for _, column := range []string{"tenant_id", "user", "Org \"x\"", "größe", "select", "nullif", "a.b*"} {
		for _, columnType := range policy.ColumnTypes {
			c := policy.Config{Column: column, Setting: "My.x$1", AdminRole: d.Admin.Role, ReadOnlyRole: d.App.Role, LookupRole: d.App.Role}
			ofOtherSetting := policyConfig.On(column)
			d.AsOwner(t, "DROP TABLE IF EXISTS renamed", fmt.Sprintf(`CREATE TABLE renamed (first %s)`, columnType))
			for _, policyName := range policy.Names {
				d.AsOwner(t, c.On("first").Create(policyName, "renamed", columnType))
			}
			d.AsOwner(t, fmt.Sprintf(`ALTER TABLE renamed RENAME COLUMN first TO %s`, pgx.Identifier{column}.Sanitize()))
			for policyName, made := range d.made(t, c.On(column).Pattern()) {
				require.Equal(t, policyName == policy.Tenant, made.binds)
				for _, other := range policy.Names {
					alike := other == policyName || other == policy.ReadOnly && policyName == policy.Lookup || other == policy.Lookup && policyName == policy.ReadOnly
					require.Equal(t, alike, c.IsMade(other, made.stored, columnType), "%s for %s of %s %s", policyName, other, column, columnType)
				}
				if policyName == policy.Tenant {
					require.Equal(t, policy.Unproved, made.stored.Judge(ofOtherSetting, columnType), "of another setting")
					require.Equal(t, policy.Unproved, made.stored.Judge(c.On("first"), columnType), "of a column of another name")
				}
			}
		}
	}
}

// madePolicy is a policy, and whether PostgreSQL says that it lets through the rows of the tenant alone.
type madePolicy struct {
	stored policy.Stored
	binds  bool
}

// made returns all policies by name.
func (d database) made(t *testing.T, pattern string) map[string]madePolicy {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	rows, err := pool.Query(`SELECT polname, `+policy.StoredOf("p")+`::text, `+policy.Binds("polqual", "polrelid", "$1")+` FROM pg_policy p`, pattern)
	require.NoError(t, err)
	defer rows.Close()
	found := map[string]madePolicy{}
	for rows.Next() {
		var name, document string
		var made madePolicy
		require.NoError(t, rows.Scan(&name, &document, &made.binds))
		require.NoError(t, json.Unmarshal([]byte(document), &made.stored))
		found[name] = made
	}
	require.NoError(t, rows.Err())
	require.Len(t, found, len(policy.Names))
	return found
}
