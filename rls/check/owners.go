package check

import (
	"slices"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// boundOwner owns tenant tables, is bound by their policies, and has no way to a role that sees all rows.
type boundOwner struct{ Name string }

func (o boundOwner) String() string { return "role " + o.Name }

var boundOwnersQuery = `
SELECT json_agg(json_build_object('name', r.rolname) ORDER BY r.rolname)
FROM pg_roles r
WHERE EXISTS (SELECT FROM tenants t WHERE t.relowner = r.oid AND t.relrowsecurity AND t.relforcerowsecurity)
	AND NOT r.rolsuper AND NOT r.rolbypassrls
	AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.rolname = ($3::text[])[1] AND ` + policy.CanTake("r.oid", "a.oid") + `)`

// noteRules are about what is no hole, but surprises people.
var noteRules = []rule[boundOwner]{{
	code: OwnerBound, severity: Info,
	found: func(*checker, boundOwner) bool { return true },
	problem: "The policies are forced on it, and it cannot take the admin role: an UPDATE of a later migration changes 0 rows and " +
		"reports no error.",
	fix: func(c *checker, o boundOwner) []string {
		if c.AdminRole == "" {
			return nil
		}
		return []string{asSuperuser, policy.GrantRoleToOwner(c.version, c.AdminRole, o.Name)}
	},
}}

// NoteRules returns what Run can note in Report.Notes.
func NoteRules() []Rule {
	return slices.Concat(describe(noteRules), describe(backupRules), describe(temporaryRules))
}

// note applies the rules for notes.
func (c *checker) note() {
	for _, owner := range c.facts.BoundOwners {
		for _, r := range noteRules {
			c.notes = append(c.notes, r.finding(c, owner))
		}
	}
	for _, r := range backupRules {
		if r.found(c, c.facts.Backup) {
			c.notes = append(c.notes, r.finding(c, c.facts.Backup))
		}
	}
	for _, database := range c.facts.Temporary {
		for _, r := range temporaryRules {
			c.notes = append(c.notes, r.finding(c, database))
		}
	}
}
