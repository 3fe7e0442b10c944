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

// From PostgreSQL 16 on a membership may be without SET. With ADMIN OPTION its member grants itself the rest.
func TestCheckMembershipOptions(t *testing.T) {
	d := cleanDatabase(t)
	if d.version < 160000 {
		t.Skip("memberships have no options")
	}
	d.run(t, d.super, "CREATE ROLE root_of_{app} SUPERUSER; GRANT root_of_{app} TO {app} WITH INHERIT FALSE, SET FALSE")
	require.Empty(t, found(d.check(t, d.allowances()...)))
	d.run(t, d.super, "GRANT root_of_{app} TO {app} WITH ADMIN TRUE")
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
