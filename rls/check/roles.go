package check

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// role is the role of the application.
type role struct {
	policy.Role
	Owns []string // the tenant tables it owns, or inherits ownership of, quoted
	Heir string   // a role that could own them instead, quoted
}

var roleQuery = `
SELECT json_build_object(
	'name',      rolname,
	'superuser', rolsuper,
	'bypassrls', rolbypassrls,
	'inherits',  CASE WHEN NOT app.rolsuper THEN ` + policy.InheritsFrom("app.oid", "$3::text[] || $8::text") + ` END,
	'owns',      (
		SELECT json_agg(quote_ident(nspname) || '.' || quote_ident(relname) ORDER BY nspname, relname)
		FROM tenants WHERE NOT app.rolsuper AND pg_has_role(app.oid, relowner, 'USAGE')),
	'heir',      (
		SELECT quote_ident(r.rolname)
		FROM pg_roles r
		LEFT JOIN pg_database d ON d.datdba = r.oid AND d.datname = current_database()
		LEFT JOIN tenants t ON t.relowner = r.oid
		WHERE (d.oid IS NOT NULL OR t.oid IS NOT NULL) AND NOT pg_has_role(app.oid, r.oid, 'USAGE')
		ORDER BY d.oid IS NULL, r.rolname LIMIT 1))
FROM app`

func (r role) String() string { return "role " + r.Name }

// danger returns what is wrong with the role in one way, and nil if nothing is.
func (r role) danger(c *checker, kind policy.DangerKind) *policy.Danger {
	for _, d := range r.Dangers(c.version) {
		if d.Kind == kind {
			return &d
		}
	}
	return nil
}

// trusted returns the roles that see more than a tenant, with what they are.
func (c *checker) trusted() []string {
	var list []string
	for _, r := range []struct{ kind, name string }{
		{"admin role ", c.AdminRole}, {"read-only role ", c.ReadOnlyRole}, {"lookup role ", c.LookupRole},
	} {
		if r.name != "" {
			list = append(list, r.kind+r.name)
		}
	}
	for _, name := range c.admins {
		list = append(list, "admin role "+name)
	}
	return list
}

// dangerRule is the rule for one danger.
func dangerRule(code Code, kind policy.DangerKind, problem string, detail func(c *checker, r role) string) rule[role] {
	return rule[role]{
		code: code, severity: Critical, problem: problem, detail: detail,
		found: func(c *checker, r role) bool { return r.danger(c, kind) != nil },
		fix: func(c *checker, r role) []string {
			return append([]string{asSuperuser}, r.danger(c, kind).Fix...)
		},
	}
}

var roleRules = []rule[role]{
	dangerRule(RoleSuperuser, policy.IsSuperuser, "No policy applies to a superuser: every tenant reads and changes the rows of all.", nil),
	dangerRule(RoleBypassesRLS, policy.HasBypassRLS,
		"No policy applies to a role with BYPASSRLS: every tenant reads and changes the rows of all.", nil),
	dangerRule(RoleInheritsAdmin, policy.InheritsExempt,
		"It inherits the rights of %s, whose policy shows every tenant the rows of all.",
		func(c *checker, _ role) string {
			return "the " + strings.Join(c.trusted(), " or the ")
		}),
	{
		code: RoleOwnsTables, severity: High,
		found: func(_ *checker, r role) bool { return len(r.Owns) > 0 },
		problem: "It owns tenant tables (%s), so an attacker who takes it over can switch isolation off or drop them: " +
			"let another role own them.",
		detail: func(_ *checker, r role) string { return some(r.Owns) },
		fix: func(_ *checker, r role) []string {
			if r.Heir == "" {
				return nil
			}
			steps := []string{asSuperuser}
			for _, table := range r.Owns {
				steps = append(steps,
					fmt.Sprintf("ALTER TABLE %s OWNER TO %s", table, r.Heir),
					fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s", table, sqltext.Ident(r.Name)))
			}
			return steps
		},
	},
}

// asSuperuser is the comment before statements that the owner of a table cannot run.
const asSuperuser = "-- as a superuser, or a role that may administer the roles:"

// some names the first few of a list.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return join(names)
	}
	return fmt.Sprintf("%s and %d more", join(names[:few]), len(names)-few)
}
