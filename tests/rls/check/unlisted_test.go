package check_test

import (
	"testing"

	"github.com/gormtenancy/tenancy/rls/check"
)

// becomes makes a role that the application can become, by way of another one, and that may use the schema.
const becomes = superuser + `
	CREATE ROLE team_of_{app} NOINHERIT; CREATE ROLE staff_of_{app}; GRANT staff_of_{app} TO team_of_{app}; GRANT team_of_{app} TO {app};
	GRANT USAGE ON SCHEMA public TO staff_of_{app};
`

const (
	asStaff = "SET LOCAL ROLE staff_of_{app}; "
	byStaff = "({app} may SET ROLE staff_of_{app} (by team_of_{app}))"
)

// unlisted are ways out for which no rule was made: they are found because the rules that there are look at all that the
// application can reach.
var unlisted = map[string]hole{
	"a partition is open to a group": {
		code: check.PartitionExposed, object: "public.events_2024", says: byStaff,
		open:   becomes + "GRANT SELECT ON events_2024 TO staff_of_{app}",
		attack: leaks(ofAcme, asStaff+"SELECT body FROM events_2024"),
	},
	"a copy is open to a group": {
		code: check.MaterializedViewReadable, object: "public.note_counts", says: byStaff,
		open: becomes + `ALTER MATERIALIZED VIEW note_counts OWNER TO CURRENT_USER; REFRESH MATERIALIZED VIEW note_counts;
			GRANT SELECT (tenant_id) ON note_counts TO staff_of_{app}`,
		attack: leaks("acme", asStaff+"SELECT tenant_id FROM note_counts"),
	},
	"a view of a superuser is open to a group": {
		code: check.ViewOwnerBypasses, object: "public.all_notes", says: byStaff, since: 150000,
		open:   becomes + "CREATE VIEW all_notes AS SELECT * FROM notes; GRANT SELECT ON all_notes TO staff_of_{app}",
		attack: leaks(ofAcme, asStaff+"SELECT body FROM all_notes"),
	},
	"a group may call what reads for it": {
		code: check.FunctionDefinerReads, object: "function public.everything()", says: "({app} may SET ROLE staff_of_{app}",
		open: becomes + `
			CREATE FUNCTION everything() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS 'SELECT body FROM public.notes';
			REVOKE EXECUTE ON FUNCTION everything() FROM PUBLIC; GRANT EXECUTE ON FUNCTION everything() TO staff_of_{app}`,
		attack: leaks(ofAcme, asStaff+"SELECT everything()"),
	},
	"a group updates every row": {
		code: check.PolicyAlwaysTrue, object: "policy moderation on public.topics", says: byStaff,
		open: becomes + `GRANT SELECT, UPDATE ON topics TO staff_of_{app};
			CREATE POLICY moderation ON topics FOR UPDATE TO staff_of_{app} USING (true)`,
		// A statement that reads no column asks the policies for UPDATE only.
		attack: leaks("stolen", asStaff+`UPDATE topics SET name = 'stolen'; SET LOCAL ROLE NONE;
			SELECT set_config('app.tenant_id', 'acme', true); SELECT name FROM topics`),
	},
	"a child of a partitioned table, open by a column": {
		code: check.ChildWithoutTenant, object: "public.visitors", says: "the tenant table public.visits",
		open: `
			CREATE TABLE visits (id bigserial, year int, tenant_id text NOT NULL DEFAULT (NULLIF(current_setting('app.tenant_id', true), '')), PRIMARY KEY (year, id))
				PARTITION BY LIST (year);
			CREATE TABLE visits_2024 PARTITION OF visits FOR VALUES IN (2024); CREATE INDEX ON visits (tenant_id);
			CREATE POLICY tenant_isolation ON visits USING (tenant_id = ` + current + `);
			ALTER TABLE visits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
			INSERT INTO visits_2024 VALUES (1, 2024, 'acme');
			CREATE TABLE visitors (id bigserial PRIMARY KEY, year int, visit_id bigint, name text, FOREIGN KEY (year, visit_id) REFERENCES visits (year, id));
			INSERT INTO visitors VALUES (1, 2024, 1, 'of acme'); REVOKE ALL ON visitors, visits, visits_2024 FROM {app}; GRANT SELECT (name) ON visitors TO PUBLIC`,
		attack: leaks(ofAcme, "SELECT name FROM visitors"),
	},
	"a group deletes plans, which takes notes along": {
		code: check.SharedParentCascades, object: "constraint plan on public.notes", says: byStaff,
		open: becomes + `
			CREATE TABLE plans (id bigint PRIMARY KEY); INSERT INTO plans VALUES (1); GRANT SELECT, DELETE ON plans TO staff_of_{app};
			ALTER TABLE notes ADD COLUMN plan_id bigint DEFAULT 1, ADD CONSTRAINT plan FOREIGN KEY (plan_id) REFERENCES plans ON DELETE SET NULL`,
		attack: does(asStaff + "DELETE FROM plans"),
	},
	"a group makes functions where others look for them": {
		code: check.GrantCreate, object: "schema public", says: byStaff,
		open:   becomes + "GRANT CREATE ON SCHEMA public TO staff_of_{app}",
		attack: does(asStaff + "CREATE FUNCTION public.length(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
	},
	"a group will truncate tomorrow's tables": {
		code: check.DefaultPrivileges, object: "default privileges of {owner} in public", says: byStaff,
		open: becomes + "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT TRUNCATE ON TABLES TO staff_of_{app}",
		attack: func(t *testing.T, d database) bool {
			d.run(t, d.Owner.DSN, "CREATE TABLE tomorrow (id int)")
			defer d.run(t, d.Owner.DSN, "DROP TABLE tomorrow")
			return does(asStaff+"TRUNCATE tomorrow")(t, d)
		},
	},
	"a group reads the large objects of all": {
		code: check.LargeObjectsShared, object: "large objects", says: byStaff,
		open:   becomes + "SELECT lo_from_bytea(4713, 'of acme'); GRANT SELECT ON LARGE OBJECT 4713 TO staff_of_{app}",
		attack: leaks(ofAcme, asStaff+"SELECT convert_from(lo_get(4713), 'UTF8')"),
	},
	"the database is owned by a role that it can become": {
		code: check.RoleBecomesOwner, object: "role host_of_{app}", says: "{app} may SET ROLE host_of_{app}, which owns the database",
		open: superuser + `
			CREATE ROLE host_of_{app}; GRANT host_of_{app} TO {app}; ALTER DATABASE {database} OWNER TO host_of_{app}`,
		attack: does("SET LOCAL ROLE host_of_{app}; ALTER DATABASE {database} SET search_path = scratch"),
	},
	"a chain of functions, three deep": {
		code: check.FunctionDefinerReads, object: "function public.first()", says: "public.notes through public.third",
		open: superuser + `
			CREATE FUNCTION third() RETURNS SETOF text LANGUAGE sql AS 'SELECT body FROM public.notes';
			CREATE FUNCTION second() RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT public.third(); END $$;
			CREATE FUNCTION first() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS 'SELECT public."second"()'`,
		attack: leaks(ofAcme, "SELECT first()"),
	},
}

func TestCheckFindsWhatIsInNoList(t *testing.T) {
	version := newDatabase(t).version
	for name, hole := range unlisted {
		if version >= hole.since {
			t.Run(name, hole.test)
		}
	}
}
