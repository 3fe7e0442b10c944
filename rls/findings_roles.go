package rls

import "fmt"

// Codes of the application's role.
const (
	RoleSuperuser     Code = "role-superuser"
	RoleBypassesRLS   Code = "role-bypasses-rls"
	RoleInheritsAdmin Code = "role-inherits-admin"
	RoleOwnsTables    Code = "role-owns-tables"
)

// role is the role of the application.
type role struct {
	Name            string
	Super, Bypasses bool
	InheritsFrom    []string // the roles granted to it by which it has the rights of the admin role, quoted
	Owns            []string // the tenants' tables it owns, or inherits ownership of, quoted
	Heir            string   // a role that could own them instead, quoted
}

const roleQuery = `
SELECT json_build_object(
	'name',         rolname,
	'super',        rolsuper,
	'bypasses',     rolbypassrls,
	'inheritsfrom', (
		SELECT json_agg(quote_ident(r.rolname))
		FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
		WHERE m.member = app.oid AND NOT app.rolsuper
			AND EXISTS (SELECT FROM admin
				WHERE pg_has_role(app.oid, admin.oid, 'USAGE') AND pg_has_role(m.roleid, admin.oid, 'USAGE'))),
	'owns',         (
		SELECT json_agg(quote_ident(nspname) || '.' || quote_ident(relname) ORDER BY nspname, relname)
		FROM tenants WHERE NOT app.rolsuper AND pg_has_role(app.oid, relowner, 'USAGE')),
	'heir',         (
		SELECT quote_ident(r.rolname)
		FROM pg_roles r
		LEFT JOIN pg_database d ON d.datdba = r.oid AND d.datname = current_database()
		LEFT JOIN tenants t ON t.relowner = r.oid
		WHERE (d.oid IS NOT NULL OR t.oid IS NOT NULL) AND NOT pg_has_role(app.oid, r.oid, 'USAGE')
		ORDER BY d.oid IS NULL, r.rolname LIMIT 1))
FROM app`

func (r role) String() string { return "role " + r.Name }

var roleRules = []rule[role]{
	{
		code: RoleSuperuser, severity: Critical,
		found:   func(_ *checker, r role) bool { return r.Super },
		problem: "No policy applies to a superuser: every tenant reads and changes the rows of all.",
		fix: func(_ *checker, r role) []string {
			return []string{asSuperuser, "ALTER ROLE " + ident(r.Name) + " NOSUPERUSER"}
		},
	},
	{
		code: RoleBypassesRLS, severity: Critical,
		found:   func(_ *checker, r role) bool { return r.Bypasses },
		problem: "No policy applies to a role with BYPASSRLS: every tenant reads and changes the rows of all.",
		fix: func(_ *checker, r role) []string {
			return []string{asSuperuser, "ALTER ROLE " + ident(r.Name) + " NOBYPASSRLS"}
		},
	},
	{
		code: RoleInheritsAdmin, severity: Critical,
		found:   func(_ *checker, r role) bool { return len(r.InheritsFrom) > 0 },
		problem: "It inherits the rights of %s, whose policy shows every tenant the rows of all.",
		detail: func(c *checker, _ role) string {
			switch {
			case c.ReadOnlyRole == "":
				return "the admin role " + c.AdminRole
			case c.AdminRole == "":
				return "the read-only role " + c.ReadOnlyRole
			}
			return "the admin role " + c.AdminRole + " or the read-only role " + c.ReadOnlyRole
		},
		// Since PostgreSQL 16 each membership remembers whether it inherits, so that it must be granted anew ("GRANT").
		fix: func(_ *checker, r role) []string {
			name := ident(r.Name)
			steps := []string{asSuperuser, "ALTER ROLE " + name + " NOINHERIT"}
			for _, granted := range r.InheritsFrom {
				steps = append(steps,
					fmt.Sprintf("REVOKE %s FROM %s", granted, name),
					fmt.Sprintf("GRANT %s TO %s", granted, name))
			}
			return steps
		},
	},
	{
		code: RoleOwnsTables, severity: High,
		found: func(_ *checker, r role) bool { return len(r.Owns) > 0 },
		problem: "It owns tenants' tables (%s), so whoever gets hold of it can switch isolation off or drop them: " +
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
					fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s", table, ident(r.Name)))
			}
			return steps
		},
	},
}

// asSuperuser is the comment before statements that the owner of a table can't run.
const asSuperuser = "-- as a superuser, or a role that may administer the roles:"

// some names the first few of a list.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return join(names)
	}
	return fmt.Sprintf("%s and %d more", join(names[:few]), len(names)-few)
}
