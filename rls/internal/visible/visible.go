// Package visible asks PostgreSQL whether policies hide rows from a role. Policies are read, not rows: that a role finds some rows does
// not prove that it finds all.
package visible

import "strings"

// hides is SQL for whether some policy may hide rows of a table from a role; r is its row of pg_roles, c that of pg_class. Superusers,
// roles with BYPASSRLS and, unless FORCE is on, owners see all rows; so does a role with a permissive policy for all commands whose
// conditions are true, and no restrictive one (https://www.postgresql.org/docs/current/ddl-rowsecurity.html).
const hides = `c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
		AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))
		AND NOT coalesce((
			SELECT pg_catalog.bool_and(polpermissive) AND pg_catalog.bool_or(polcmd = '*' AND pg_catalog.pg_get_expr(polqual, c.oid) = 'true'
				AND coalesce(pg_catalog.pg_get_expr(polwithcheck, c.oid), 'true') = 'true')
			FROM pg_catalog.pg_policy
			WHERE polrelid = c.oid AND EXISTS (SELECT FROM pg_catalog.unnest(polroles) m WHERE m = 0 OR pg_catalog.pg_has_role(r.oid, m, 'USAGE'))), false)`

// granted is SQL for whether the current role may read or write the relation oid.
const granted = `(pg_catalog.has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE') OR pg_catalog.has_table_privilege(oid, 'DELETE'))`

var replace = strings.NewReplacer("@hides", hides, "@granted", granted, "@cgranted", strings.ReplaceAll(granted, "(oid", "(c.oid"))

// Granted is a query for the tables that the current role may read or write, and of which policies may hide rows from it: their names,
// as in SQL.
var Granted = replace.Replace(`SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
	FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_roles r ON r.rolname = current_user
	WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
		AND @hides
		AND @cgranted
	ORDER BY 1`)

// Touched is a query for the tables that the current transaction has read or written, as its locks tell, and of which policies may
// hide rows: from the current role, or from the owner of a view or materialized view through which they were read, because those are
// read with their owner's rights. It returns the name of the table, as in SQL, and that of the role.
var Touched = replace.Replace(`WITH RECURSIVE touched AS (
		SELECT l.relation AS oid, pg_catalog.bool_or(l.mode IN ('ExclusiveLock', 'AccessExclusiveLock')) AS replaced
		FROM pg_catalog.pg_locks l
		WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
			AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		GROUP BY l.relation
	), reads AS (
		SELECT v.relowner AS role, v.oid AS relation
		FROM touched t JOIN pg_catalog.pg_class v ON v.oid = t.oid
		WHERE v.relkind = 'm' AND t.replaced OR v.relkind = 'v' AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_options_to_table(v.reloptions) WHERE option_name = 'security_invoker' AND option_value::bool)
		UNION
		SELECT reads.role, d.refobjid
		FROM reads
		JOIN pg_catalog.pg_rewrite w ON w.ev_class = reads.relation
		JOIN pg_catalog.pg_depend d ON d.objid = w.oid
			AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
	), readers AS (
		SELECT role, relation FROM reads
		UNION
		SELECT (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user), oid FROM touched
		WHERE @granted
	)
	SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, r.rolname AS reader
	FROM readers
	JOIN pg_catalog.pg_class c ON c.oid = readers.relation AND c.relkind IN ('r', 'p')
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_roles r ON r.oid = readers.role
	WHERE @hides
	ORDER BY 1, 2`)
