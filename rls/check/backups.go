package check

import (
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// backup is what dumps of the database can hold.
type backup struct {
	Forced   int    // tenant tables whose owner is bound by policies
	Able     bool   // a role that is no superuser can dump the rows of all tenants
	Database string // its name
	Exists   bool   // the role that the fix names
}

// backupQuery asks for a role that reads all rows of the tables whose owner cannot: by BYPASSRLS, or by a policy of its own. A
// superuser does not count: each server has one, and those of managed servers log in nowhere.
const backupQuery = `
WITH forced AS (
	SELECT * FROM tenants WHERE relkind IN ('r', 'p') AND relrowsecurity AND relforcerowsecurity
)
SELECT json_build_object(
	'forced',   (SELECT count(*) FROM forced),
	'database', current_database(),
	'exists',   EXISTS (SELECT FROM pg_roles WHERE rolname = coalesce(nullif($11, ''), current_database() || '_backup')),
	'able',     EXISTS (
		SELECT FROM pg_roles r
		WHERE NOT r.rolsuper AND (r.rolbypassrls OR r.oid IN (SELECT unnest(polroles) FROM pg_policy)) AND NOT EXISTS (
			SELECT FROM forced t WHERE NOT (has_table_privilege(r.oid, t.oid, 'SELECT') AND (r.rolbypassrls
				OR EXISTS (
					SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polpermissive AND p.polcmd IN ('r', '*')
						AND pg_get_expr(p.polqual, p.polrelid) = 'true' AND p.polroles && ARRAY[r.oid, 0::oid])
				AND NOT EXISTS (
					SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND NOT p.polpermissive AND p.polcmd IN ('r', '*'))))))
)`

func (backup) String() string { return "backups" }

var backupRules = []rule[backup]{{
	code: BackupIncomplete, severity: Info,
	found: func(_ *checker, b backup) bool { return b.Forced > 0 && !b.Able },
	problem: "No role other than a superuser can dump the rows of all tenants: pg_dump as the owner fails, and with --enable-row-security it " +
		"leaves them out and reports success.",
	fix: func(c *checker, b backup) []string {
		name := c.BackupRole
		if name == "" {
			name = b.Database + "_backup"
		}
		role, made := sqltext.Ident(name), "CREATE ROLE "
		if b.Exists {
			made = "ALTER ROLE "
		}
		return []string{asSuperuser, made + role + " LOGIN BYPASSRLS", "GRANT pg_read_all_data TO " + role}
	},
}}
