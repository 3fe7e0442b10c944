package policy

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Role is what PostgreSQL says of a role that statements of tenants run under.
type Role struct {
	Name      string
	Superuser bool // rolsuper
	BypassRLS bool // rolbypassrls
	Inherits  []string
}

// Danger is a reason why policies do not keep tenants apart for a role.
type Danger struct {
	Kind    DangerKind
	Problem string   // what the role is or does, to be read after its name
	Fix     []string // the statements that change it
}

// SQL returns the statements in one line.
func (d Danger) SQL() string { return strings.Join(d.Fix, "; ") }

// DangerKind tells dangers apart.
type DangerKind int

// The kinds of dangers. Superusers and roles with BYPASSRLS are exempt from policies
// (https://www.postgresql.org/docs/current/ddl-rowsecurity.html), and the policies of an inherited role apply to each statement.
const (
	IsSuperuser DangerKind = iota
	HasBypassRLS
	InheritsExempt
)

// Dangers returns why the role is not safe for the statements of tenants, the worst first. The role inherits from what Inherits
// lists: roles by which it has the rights of the admin role, or of the read-only role, without SET ROLE. The version is that of the
// server, as server_version_num.
func (r Role) Dangers(version int) []Danger {
	var (
		dangers []Danger
		alter   = "ALTER ROLE " + sqltext.Ident(r.Name)
	)
	if r.Superuser {
		dangers = append(dangers, Danger{IsSuperuser, "is a superuser", []string{alter + " NOSUPERUSER"}})
	}
	if r.BypassRLS {
		dangers = append(dangers, Danger{HasBypassRLS, "has BYPASSRLS", []string{alter + " NOBYPASSRLS"}})
	}
	if len(r.Inherits) > 0 {
		dangers = append(dangers, Danger{InheritsExempt, "inherits from " + sqltext.Idents(r.Inherits), noInherit(version, r.Name, r.Inherits)})
	}
	return dangers
}

// InheritsFrom is SQL for the roles granted to a role by which it has the rights of exempt ones without SET ROLE, as JSON. The role is
// given as SQL of its oid, the exempt ones as SQL of an array of names.
func InheritsFrom(role, exempt string) string {
	return strings.NewReplacer("@role", role, "@exempt", exempt).Replace(`(
		SELECT json_agg(r.rolname ORDER BY r.rolname)
		FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
		WHERE m.member = @role AND EXISTS (
			SELECT FROM pg_roles e
			WHERE e.rolname = ANY (@exempt) AND pg_has_role(@role, e.oid, 'USAGE') AND pg_has_role(m.roleid, e.oid, 'USAGE')))`)
}

// noInherit is the SQL by which a role stays a member of others, and has their rights only after SET ROLE. Since PostgreSQL 16 each
// membership has an option for it, and that of the role counts for new ones only (https://www.postgresql.org/docs/16/sql-grant.html).
func noInherit(version int, role string, of []string) []string {
	if version < sqltext.PostgreSQL16 {
		return []string{fmt.Sprintf("ALTER ROLE %s NOINHERIT", sqltext.Ident(role))}
	}
	grants := make([]string, len(of))
	for n, name := range of {
		grants[n] = fmt.Sprintf("GRANT %s TO %s WITH INHERIT FALSE", sqltext.Ident(name), sqltext.Ident(role))
	}
	return grants
}

// GrantRole is the SQL by which a login can take a role, and has none of its rights before.
func GrantRole(version int, role, login string) string {
	if version >= sqltext.PostgreSQL16 {
		return fmt.Sprintf("GRANT %s TO %s WITH INHERIT FALSE, SET TRUE", sqltext.Ident(role), sqltext.Ident(login))
	}
	return fmt.Sprintf("GRANT %s TO %s; ALTER ROLE %[2]s NOINHERIT", sqltext.Ident(role), sqltext.Ident(login))
}

// GrantRoleToOwner is the SQL by which the owner of tables can take a role, and has none of its rights before. Before PostgreSQL 16 that
// takes a role in between that does not inherit: an owner of a database that does not inherit has no rights in schema public.
func GrantRoleToOwner(version int, role, owner string) string {
	if version >= sqltext.PostgreSQL16 {
		return GrantRole(version, role, owner)
	}
	between := sqltext.Ident(sqltext.Fit(role + "_for_" + owner))
	return fmt.Sprintf("CREATE ROLE %[1]s NOLOGIN NOINHERIT; GRANT %[2]s TO %[1]s; GRANT %[1]s TO %[3]s", between, sqltext.Ident(role), sqltext.Ident(owner))
}

// CanTake is SQL for whether a login, given as SQL of its name or oid, can take the role of this oid. SET ROLE looks at what the login
// is a member of, and since PostgreSQL 16 at the SET option of that membership
// (https://www.postgresql.org/docs/current/functions-info.html, pg_has_role).
func CanTake(login, role string) string {
	return fmt.Sprintf(`coalesce(pg_catalog.pg_has_role(%s, %s,
           CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) %d THEN 'SET' ELSE 'MEMBER' END), false)`,
		login, role, sqltext.PostgreSQL16)
}
