package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// reached is a role that the application can become, or whose rights it has: itself, its login and all that memberships lead to.
type reached struct {
	Name       string
	Path       []string // from the login to the role
	Becomes    bool     // by SET ROLE, perhaps after granting itself the role; otherwise it inherits
	Inherited  bool     // the application has the role's rights as it is
	Trusted    bool     // the admin role, one of the admin's login, the read-only role or the lookup role
	Beyond     bool     // one of these leads to it
	Superuser  bool
	BypassRLS  bool
	CreateRole bool
	Replicates bool
	Owns       []string // tenant tables, schemas and the database, for people
	Grants     []membership
}

// membership is one by which a role is reached. Its names are quoted.
type membership struct{ Member, Grantor string }

const reachQuery = `
SELECT json_agg(json_build_object(
	'name',       r.rolname,
	'path',       reach.path,
	'becomes',    reach.becomes,
	'inherited',  pg_has_role(app.oid, r.oid, 'USAGE'),
	'trusted',    r.oid IN (SELECT oid FROM trusted),
	'beyond',     reach.beyond,
	'superuser',  r.rolsuper,
	'bypassrls',  r.rolbypassrls,
	'createrole', r.rolcreaterole,
	'replicates', r.rolreplication,
	'owns',       (
		SELECT json_agg(name ORDER BY name) FROM (
			SELECT nspname || '.' || relname FROM tenants WHERE relowner = r.oid
			UNION ALL SELECT 'the schema ' || nspname FROM spaces WHERE nspowner = r.oid
			UNION ALL SELECT 'the database' FROM pg_database WHERE datname = current_database() AND datdba = r.oid) owned (name)),
	'grants',     (
		SELECT json_agg(json_build_object('member', quote_ident(pg_get_userbyid(l.member)), 'grantor', quote_ident(pg_get_userbyid(l.grantor)))
			ORDER BY l.member, l.grantor)
		FROM links l JOIN reach m ON m.oid = l.member WHERE l.roleid = r.oid)
	) ORDER BY cardinality(reach.path), r.rolname)
FROM reach JOIN pg_roles r ON r.oid = reach.oid, app`

func (r reached) String() string { return "role " + r.Name }

// way says how the application gets to the role.
func (r reached) way() string {
	switch login := r.Path[0]; {
	case len(r.Path) == 1:
		return login
	case r.Becomes && len(r.Path) == 2:
		return fmt.Sprintf("%s may SET ROLE %s", login, r.Name)
	case r.Becomes:
		return fmt.Sprintf("%s may SET ROLE %s (by %s)", login, r.Name, join(r.Path[1:len(r.Path)-1]))
	default:
		return fmt.Sprintf("%s inherits from %s", login, r.Name)
	}
}

// which begins what is said of the role.
func (r reached) which() string {
	if len(r.Path) == 1 {
		return r.way() + " itself"
	}
	return r.way() + ", which"
}

// leave takes away the memberships by which the role is reached.
func (r reached) leave(c *checker) []string {
	steps := []string{asSuperuser}
	for _, m := range r.Grants {
		revoke := fmt.Sprintf("REVOKE %s FROM %s", sqltext.Ident(r.Name), m.Member)
		if c.version >= sqltext.PostgreSQL16 { // which knows each grantor's membership apart
			revoke += " GRANTED BY " + m.Grantor
		}
		steps = append(steps, revoke)
	}
	return steps
}

// Predefined roles to which all tables, or the server's files and programs, are open
// (https://www.postgresql.org/docs/current/predefined-roles.html).
var predefined = []string{
	"pg_read_all_data", "pg_write_all_data", "pg_execute_server_program", "pg_read_server_files", "pg_write_server_files",
}

func attributeRule(code Code, severity Severity, problem, attribute string, found func(c *checker, r reached) bool) rule[reached] {
	return rule[reached]{
		code: code, severity: severity, problem: problem, found: found,
		detail: func(_ *checker, r reached) string { return r.which() },
		fix: func(c *checker, r reached) []string {
			if len(r.Path) == 1 || r.Trusted && !c.adminApart {
				return []string{asSuperuser, fmt.Sprintf("ALTER ROLE %s %s", sqltext.Ident(r.Name), attribute)}
			}
			return r.leave(c)
		},
	}
}

// What the application's role is itself, and owns or inherits, other rules find.
var reachRules = []rule[reached]{
	attributeRule(RoleBecomesSuperuser, Critical, "No policy binds SQL that a tenant gets to run: %s is a superuser.",
		"NOSUPERUSER", func(c *checker, r reached) bool { return r.Superuser && r.Becomes && r.Name != c.AppRole }),
	attributeRule(RoleBecomesBypassRLS, Critical, "No policy binds SQL that a tenant gets to run: %s has BYPASSRLS.",
		"NOBYPASSRLS", func(c *checker, r reached) bool {
			exempt := r.Trusted && r.Name != c.LookupRole && !c.adminApart
			return r.BypassRLS && !r.Superuser && r.Becomes && r.Name != c.AppRole && !exempt
		}),
	{
		code: RoleBecomesAdmin, severity: Critical,
		problem: "SQL that a tenant gets to run can read the rows of all tenants, although clients of Bypass have a login of their own: %s.",
		detail:  func(_ *checker, r reached) string { return r.way() },
		found: func(c *checker, r reached) bool {
			exempt := r.Superuser || r.BypassRLS || r.Beyond || r.Inherited || r.Name == c.LookupRole
			return c.adminApart && r.Trusted && !exempt
		},
		fix: func(c *checker, r reached) []string { return r.leave(c) },
	},
	{
		code: RoleBecomesOwner, severity: High,
		problem: "SQL that a tenant gets to run can switch isolation off: %s.",
		detail: func(_ *checker, r reached) string {
			if len(r.Path) == 1 {
				return r.way() + " owns " + some(r.Owns)
			}
			return r.way() + ", which owns " + some(r.Owns)
		},
		found: func(c *checker, r reached) bool {
			exempt := r.Superuser || r.BypassRLS || r.Trusted || r.Beyond
			return len(r.Owns) > 0 && !exempt && r.Name != c.AppRole && !r.Inherited
		},
		fix: func(c *checker, r reached) []string {
			if len(r.Path) == 1 {
				return nil
			}
			return r.leave(c)
		},
	},
	attributeRule(RoleCreatesRoles, High, "SQL that a tenant gets to run can make roles, and give itself others that no policy binds: %s has CREATEROLE.",
		"NOCREATEROLE", func(_ *checker, r reached) bool { return r.CreateRole && r.Becomes && !r.Superuser }),
	attributeRule(RoleReplicates, High, "SQL that a tenant gets to run, or who has the password, can read the log of all changes, and copy the database, "+
		"and no policy applies there: %s has REPLICATION.",
		"NOREPLICATION", func(_ *checker, r reached) bool { return r.Replicates && r.Becomes && !r.Superuser }),
	{
		code: RolePredefined, severity: Critical,
		problem: "SQL that a tenant gets to run reads or writes what no policy covers, such as copies of rows or the files of the server: %s.",
		detail:  func(_ *checker, r reached) string { return r.way() },
		found:   func(_ *checker, r reached) bool { return !r.Beyond && slices.Contains(predefined, r.Name) },
		fix:     func(c *checker, r reached) []string { return r.leave(c) },
	},
}

// public is every role.
const public = "PUBLIC"

// nameWays notes how the application gets to the roles whose privileges it does not have as it is.
func (c *checker) nameWays() {
	c.ways = map[string]string{}
	for _, r := range c.facts.Reach {
		if !r.Inherited {
			c.ways[r.Name], c.ways[sqltext.Ident(r.Name)] = r.way(), r.way()
		}
	}
}

// along adds to a problem how the application gets to the roles by whose rights it has it, unless it has them as it is.
func (c *checker) along(problem string, roles []string) string {
	var ways []string
	for _, role := range roles {
		way := c.ways[role]
		if way == "" {
			return problem
		}
		ways = append(ways, way)
	}
	if len(ways) == 0 {
		return problem
	}
	return strings.TrimSuffix(problem, ".") + " (" + join(ways) + ")."
}

// canUse is the SQL for whether the application may look up names in the schema n, by the rights of any of its roles.
const canUse = `EXISTS (SELECT FROM self WHERE self.oid <> 0 AND has_schema_privilege(self.oid, n.oid, 'USAGE'))`

// callers is the SQL for by whose rights the application may call the function p.
const callers = `(SELECT json_agg(self.name ORDER BY self.oid) FROM self WHERE self.oid <> 0 AND has_function_privilege(self.oid, p.oid, 'EXECUTE'))`
