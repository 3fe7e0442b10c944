package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

var grantRules = []rule[*tenantTable]{
	privilegeRule(GrantTruncate, Critical, "TRUNCATE",
		"TRUNCATE asks no policy: each tenant can delete the rows of all."),
	privilegeRule(GrantTrigger, High, "TRIGGER",
		"A trigger sees each row that is written, also by other tenants, and runs with their rights: each tenant could set one."),
	privilegeRule(GrantReferences, Medium, "REFERENCES",
		"A foreign key asks no policy: each tenant could make one, and learn from it which keys others have, or block their deletion."),
}

func privilegeRule(code Code, severity Severity, privilege, problem string) rule[*tenantTable] {
	return rule[*tenantTable]{
		code: code, severity: severity, problem: problem,
		by:    func(t *tenantTable) []string { return t.Granted[privilege] },
		found: func(_ *checker, t *tenantTable) bool { return len(t.Granted[privilege]) > 0 },
		fix: func(_ *checker, t *tenantTable) []string {
			return []string{fmt.Sprintf("REVOKE %s ON TABLE %s FROM %s", privilege, t.Quoted(), join(t.Granted[privilege]))}
		},
	}
}

// space is a schema that is looked at.
type space struct {
	Name    string
	Owned   bool                // by the application
	Heir    string              // the role that could own it instead
	Granted map[string][]string // to the application, by privilege
}

var schemasQuery = `
SELECT json_agg(json_build_object(
	'name',    n.nspname,
	'owned',   NOT app.rolsuper AND pg_has_role(app.oid, n.nspowner, 'USAGE'),
	'heir',    (
		SELECT quote_ident(pg_get_userbyid(datdba)) FROM pg_database
		WHERE datname = current_database() AND NOT pg_has_role(app.oid, datdba, 'USAGE')),
	'granted', ` + grantsOf("aclexplode(n.nspacl)", "n.nspowner") + `))
FROM spaces n, app`

func (s space) String() string { return "schema " + s.Name }

var schemaRules = []rule[space]{{
	code: GrantCreate, severity: High,
	found: func(_ *checker, s space) bool { return s.Owned || len(s.Granted["CREATE"]) > 0 },
	problem: "The application may create objects in it: a table or function that takes the place of another's there serves " +
		"a tenant whatever other roles, which trust the schema, do with it.",
	by: func(s space) []string {
		if s.Owned {
			return nil
		}
		return s.Granted["CREATE"]
	},
	fix: func(c *checker, s space) []string {
		var steps []string
		if s.Owned {
			if s.Heir == "" {
				return nil
			}
			steps = append(steps, asSuperuser,
				fmt.Sprintf("ALTER SCHEMA %s OWNER TO %s", sqltext.Ident(s.Name), s.Heir),
				fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", sqltext.Ident(s.Name), sqltext.Ident(c.AppRole)))
		}
		if grantees := s.Granted["CREATE"]; len(grantees) > 0 {
			steps = append(steps, fmt.Sprintf("REVOKE CREATE ON SCHEMA %s FROM %s", sqltext.Ident(s.Name), join(grantees)))
		}
		return steps
	},
}}

// defaultGrant is what a role's default privileges give the application on tables that do not exist yet.
type defaultGrant struct {
	Role    string
	Schema  string // empty for every schema
	Granted map[string][]string
}

// More than rows is too much for anyone; everything is too much for PUBLIC, which every login is.
const defaultsQuery = `
SELECT json_agg(json_build_object('role', role, 'schema', coalesce(schema, ''), 'granted', granted) ORDER BY role, schema)
FROM (
	SELECT role, schema, json_object_agg(grantee, privileges) AS granted
	FROM (
		SELECT pg_get_userbyid(d.defaclrole) AS role, n.nspname AS schema, self.name AS grantee,
			json_agg(e.privilege_type) AS privileges
		FROM pg_default_acl d
		LEFT JOIN spaces n ON n.oid = d.defaclnamespace,
		aclexplode(d.defaclacl) e
		JOIN self ON self.oid = e.grantee
		WHERE d.defaclobjtype = 'r' AND (d.defaclnamespace = 0 OR n.oid IS NOT NULL) AND e.grantee <> d.defaclrole
			AND (e.grantee = 0 OR e.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
		GROUP BY 1, 2, 3
	) grants GROUP BY 1, 2
) defaults`

func (d defaultGrant) String() string {
	if d.Schema == "" {
		return "default privileges of " + d.Role
	}
	return "default privileges of " + d.Role + " in " + d.Schema
}

var defaultRules = []rule[defaultGrant]{{
	code: DefaultPrivileges, severity: Medium,
	found: func(*checker, defaultGrant) bool { return true },
	problem: "The next table this role makes will be open in ways that policies do not cover, or to every login, before anyone " +
		"has isolated it.",
	by: func(d defaultGrant) []string { return slices.Sorted(maps.Keys(d.Granted)) },
	fix: func(_ *checker, d defaultGrant) []string {
		var steps []string
		for _, grantee := range slices.Sorted(maps.Keys(d.Granted)) {
			in := ""
			if d.Schema != "" {
				in = " IN SCHEMA " + sqltext.Ident(d.Schema)
			}
			steps = append(steps, fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s%s REVOKE %s ON TABLES FROM %s",
				sqltext.Ident(d.Role), in, join(d.Granted[grantee]), grantee))
		}
		return steps
	},
}}
