package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/check"
)

// A role that the configuration names is trusted with what it is for, and with nothing else.
func TestCheckRolesOfTheConfiguration(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.super, `CREATE ROLE boss_of_{app} SUPERUSER; CREATE ROLE look_of_{app} BYPASSRLS;
		GRANT boss_of_{app}, look_of_{app} TO {app}; REVOKE {admin} FROM {app}; DROP MATERIALIZED VIEW note_counts`)
	i := d.isolation()
	i.AdminRole, i.LookupRole = d.fill("boss_of_{app}"), d.fill("look_of_{app}")
	report, err := i.Check(t.Context(), open(t, d.app, &gorm.Config{}), d.allowances()...)
	require.NoError(t, err)
	require.Equal(t, []string{
		d.fill("role-becomes-bypass-rls: role look_of_{app}"), d.fill("role-becomes-superuser: role boss_of_{app}"),
	}, found(report))
	d.run(t, d.super, report.SQL())
	report, err = i.Check(t.Context(), open(t, d.app, &gorm.Config{}), d.allowances()...)
	require.NoError(t, err)
	require.Empty(t, found(report))
}

// From PostgreSQL 16 on a membership may be without SET. With ADMIN OPTION its member grants itself the rest. Before that, each
// membership is one by which SET ROLE works.
func TestCheckMembershipOptions(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.super, "CREATE ROLE root_of_{app} SUPERUSER")
	if d.version < 160000 {
		d.run(t, d.super, "GRANT root_of_{app} TO {app}")
	} else {
		d.run(t, d.super, "GRANT root_of_{app} TO {app} WITH INHERIT FALSE, SET FALSE")
		require.Empty(t, found(d.check(t, d.allowances()...)))
		d.run(t, d.super, "GRANT root_of_{app} TO {app} WITH ADMIN TRUE")
	}
	report := d.check(t, d.allowances()...)
	require.Equal(t, []string{d.fill("role-becomes-superuser: role root_of_{app}")}, found(report))
	d.run(t, d.super, report.SQL())
	require.Empty(t, found(d.check(t, d.allowances()...)))
}

// The login matters although statements run under another role: SQL can return to it.
func TestCheckLogin(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.super, "CREATE ROLE web_of_{app} LOGIN CREATEROLE; GRANT {app} TO web_of_{app}")
	report := d.check(t, append(d.allowances(), check.Login(d.fill("web_of_{app}")))...)
	require.Equal(t, []string{d.fill("role-creates-roles: role web_of_{app}")}, found(report))
	d.run(t, d.super, report.SQL())
	require.Empty(t, found(d.check(t, append(d.allowances(), check.Login(d.fill("web_of_{app}")))...)))
	require.Empty(t, found(d.check(t, append(d.allowances(), check.Login(""))...)), "the connection's")

	d.run(t, d.super, "ALTER ROLE web_of_{app} BYPASSRLS")
	report = d.check(t, append(d.allowances(), check.Login(d.fill("web_of_{app}")))...)
	require.Equal(t, []string{d.fill("role-becomes-bypass-rls: role web_of_{app}")}, found(report))
	d.run(t, d.super, "ALTER ROLE web_of_{app} NOBYPASSRLS SUPERUSER")
	report = d.check(t, append(d.allowances(), check.Login(d.fill("web_of_{app}")))...)
	require.Equal(t, []string{d.fill("role-becomes-superuser: role web_of_{app}")}, found(report))
	d.run(t, d.super, report.SQL())
	require.Empty(t, found(d.check(t, append(d.allowances(), check.Login(d.fill("web_of_{app}")))...)))
}

// What refers to a tenant table through another is found with its parent, and one script isolates both. A table that is declared
// shared is left alone.
func TestCheckChildrenOfChildren(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.Owner.DSN, `
		CREATE TABLE items (id bigserial PRIMARY KEY, note_id bigint REFERENCES notes, previous_id bigint REFERENCES items, sku text);
		CREATE TABLE a_part (id bigserial PRIMARY KEY, item_id bigint REFERENCES items ON DELETE CASCADE, name text);
		INSERT INTO items VALUES (1, 1, NULL, 'of acme'), (2, 2, NULL, 'of globex'), (3, 1, 1, 'of acme');
		INSERT INTO a_part VALUES (1, 1, 'of acme'), (2, 2, 'of globex');
		GRANT SELECT, INSERT, UPDATE, DELETE ON items, a_part TO {app}`)
	shared := []check.Option{
		check.Allow(check.SharedTable, "public.items", "a catalog"), check.Allow(check.SharedTable, "public.a_part", "likewise"),
	}
	require.Empty(t, found(d.check(t, append(d.allowances(), shared...)...)))

	report := d.check(t, d.allowances()...)
	require.Equal(t, []string{"child-without-tenant: public.a_part", "child-without-tenant: public.items"}, found(report))
	require.Contains(t, report.Findings[0].Problem, "the tenant table public.notes through public.items")
	for _, f := range report.Findings { // each alone will do, and again does no harm
		d.run(t, d.Owner.DSN, f.Fix)
	}
	require.Empty(t, found(d.check(t, d.allowances()...)))
	for _, table := range []string{"sku FROM items", "name FROM a_part"} {
		require.True(t, leaks("of globex", "SELECT "+table)(t, d))
		require.False(t, leaks(ofAcme, "SELECT "+table)(t, d))
	}
}

// The table of tenants, in which each writes its own row, passes changes on to rows of the same tenant only.
func TestCheckCascadesFromOwnRows(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.Owner.DSN, `
		CREATE TABLE clubs (id text PRIMARY KEY, name text); INSERT INTO clubs VALUES ('acme'), ('globex');
		CREATE POLICY tenant_isolation ON clubs USING (id = `+current+`); CREATE POLICY tenant_lookup ON clubs FOR SELECT USING (true);
		ALTER TABLE clubs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; GRANT SELECT, INSERT, UPDATE, DELETE ON clubs TO {app};
		ALTER TABLE notes ADD CONSTRAINT club FOREIGN KEY (tenant_id) REFERENCES clubs ON DELETE CASCADE`)
	require.Empty(t, found(d.check(t, append(d.allowances(), check.Models(&club{}))...)))
	d.run(t, d.Owner.DSN, "CREATE POLICY others ON clubs FOR DELETE USING (name IS NULL)")
	require.Equal(t, []string{
		"shared-parent-cascades: constraint club on public.notes", "own-rows-not-isolated: public.clubs",
	}, found(d.check(t, append(d.allowances(), check.Models(&club{}))...)))
}
