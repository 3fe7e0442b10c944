package check_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/check"
)

// hole is a way to spoil the clean database.
type hole struct {
	code   check.Code
	object string
	open   string // run by the owner, or by the superuser if it begins with superuser
	since  int    // the server's version from which on the hole exists
	opts   []check.Option
	fixed  []check.Option // instead of opts, where no SQL can fix the hole
	attack attack         // nil where there is nothing to attack
	gone   bool           // opts are not needed any more when the hole is fixed
	admins []string       // the roles of the admin's login, if it has one of its own
	says   string         // what the problem must name, such as the way to a role
}

// superuser is the comment before what the owner cannot run, as in a fix.
const superuser = "-- as a superuser"

// attack reports whether it succeeds.
type attack func(t *testing.T, d database) bool

// leaks is an attack that gets a text to see that is none of its tenant's business.
func leaks(text, statements string) attack { return leaksTo(application, "globex", text, statements) }

func leaksTo(login login, tenant, text, statements string) attack {
	return func(t *testing.T, d database) bool {
		lines, err := d.try(t, login(d), tenant, statements)
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			return false
		}
		require.NoError(t, err)
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, text) })
	}
}

// does is an attack that may do something.
func does(statements string) attack {
	return leaksTo(application, "globex", "done", statements+"; SELECT 'done'")
}

func doesAs(login login, statements string) attack {
	return leaksTo(login, "globex", "done", statements+"; SELECT 'done'")
}

// fails is an attack that learns something from an error.
func fails(code, statements string) attack {
	return func(t *testing.T, d database) bool {
		_, err := d.try(t, d.app, "globex", statements)
		var refused *pgconn.PgError
		return errors.As(err, &refused) && refused.Code == code
	}
}

// scans is an attack on the time of others: the query reads the rows of all tenants even if PostgreSQL avoids that where
// it can.
func scans(tenant, query string) attack {
	return func(t *testing.T, d database) bool {
		lines, err := d.try(t, d.app, tenant, "SET LOCAL enable_seqscan = off; EXPLAIN "+query)
		require.NoError(t, err)
		return !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "Index Cond: (tenant_id = ") })
	}
}

// readsForEachRow is an attack on the time of others: the query evaluates the setting once for each row that it reads.
func readsForEachRow(query string) attack {
	return func(t *testing.T, d database) bool {
		lines, err := d.try(t, d.app, "globex", "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; EXPLAIN "+query)
		require.NoError(t, err)
		return slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, "Filter: ") && strings.Contains(line, "current_setting")
		})
	}
}

// login chooses the login that attacks.
type login func(database) string

func application(d database) string { return d.app }
func owner(d database) string       { return d.Owner.DSN }
func admin(d database) string       { return d.Admin.DSN }

const (
	ofAcme   = "of acme"
	allNotes = "SELECT body FROM notes"
	current  = "(SELECT NULLIF(current_setting('app.tenant_id', true), ''))"
)

// holes are all that can be found, by name.
var holes = map[string]hole{
	// The application's role.
	"superuser": {
		code: check.RoleSuperuser, object: "role {app}",
		open:   superuser + "\nALTER ROLE {app} SUPERUSER",
		attack: leaks(ofAcme, allNotes),
	},
	"bypassrls": {
		code: check.RoleBypassesRLS, object: "role {app}",
		open:   superuser + "\nALTER ROLE {app} BYPASSRLS",
		attack: leaks(ofAcme, allNotes),
	},
	"inherits the admin role": {
		code: check.RoleInheritsAdmin, object: "role {app}",
		open:   superuser + "\nREVOKE {admin} FROM {app}; ALTER ROLE {app} INHERIT; GRANT {admin} TO {app}",
		attack: leaks(ofAcme, allNotes),
	},
	"owns a table": {
		code: check.RoleOwnsTables, object: "role {app}",
		open:   superuser + "\nALTER TABLE notes OWNER TO {app}",
		attack: leaks(ofAcme, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY; "+allNotes),
	},

	// The roles that it can become.
	"becomes a superuser": {
		code: check.RoleBecomesSuperuser, object: "role root_of_{app}", says: "{app} may SET ROLE root_of_{app} (by staff_of_{app}), which is a superuser",
		open: superuser + `
			CREATE ROLE staff_of_{app} NOINHERIT; CREATE ROLE root_of_{app} SUPERUSER;
			GRANT root_of_{app} TO staff_of_{app}; GRANT staff_of_{app} TO {app}`,
		attack: leaks(ofAcme, "SET LOCAL ROLE root_of_{app}; "+allNotes),
	},
	"becomes a role with BYPASSRLS": {
		code: check.RoleBecomesBypassRLS, object: "role reports_of_{app}", says: "{app} may SET ROLE reports_of_{app}, which has BYPASSRLS",
		open: superuser + `
			CREATE ROLE reports_of_{app} BYPASSRLS; GRANT SELECT ON notes TO reports_of_{app}; GRANT reports_of_{app} TO {app}`,
		attack: leaks(ofAcme, "SET LOCAL ROLE reports_of_{app}; "+allNotes),
	},
	"becomes the admin, who logs in apart": {
		code: check.RoleBecomesAdmin, object: "role {admin}", says: "{app} may SET ROLE {admin}",
		opts:   []check.Option{check.AdminLogin()},
		attack: leaks(ofAcme, "SET LOCAL ROLE {admin}; "+allNotes),
	},
	"becomes a role of the admin's login": {
		code: check.RoleBecomesAdmin, object: "role reports_of_{app}", says: "{app} may SET ROLE reports_of_{app}",
		open: superuser + `
			REVOKE {admin} FROM {app};
			CREATE ROLE reports_of_{app}; GRANT reports_of_{app} TO {app}; GRANT SELECT ON notes TO reports_of_{app};
			GRANT USAGE ON SCHEMA public TO reports_of_{app}; CREATE POLICY reports ON notes TO reports_of_{app} USING (true)`,
		admins: []string{"reports_of_{app}", "{app}"},
		attack: leaks(ofAcme, "SET LOCAL ROLE reports_of_{app}; "+allNotes),
	},
	"becomes a role with BYPASSRLS of the admin's login": {
		code: check.RoleBecomesBypassRLS, object: "role reports_of_{app}", says: "{app} may SET ROLE reports_of_{app}",
		open: superuser + `
			REVOKE {admin} FROM {app};
			CREATE ROLE reports_of_{app} BYPASSRLS; GRANT reports_of_{app} TO {app}; GRANT SELECT ON notes TO reports_of_{app};
			GRANT USAGE ON SCHEMA public TO reports_of_{app}`,
		admins: []string{"reports_of_{app}"},
		attack: leaks(ofAcme, "SET LOCAL ROLE reports_of_{app}; "+allNotes),
	},
	"becomes the owner": {
		code: check.RoleBecomesOwner, object: "role {owner}", says: "{app} may SET ROLE {owner}, which owns ",
		open:   superuser + "\nGRANT {owner} TO {app}",
		attack: leaks(ofAcme, "SET LOCAL ROLE {owner}; ALTER TABLE notes DISABLE ROW LEVEL SECURITY; "+allNotes),
	},
	"becomes the owner of a table": {
		code: check.RoleBecomesOwner, object: "role reports_of_{app}", says: "{app} may SET ROLE reports_of_{app}, which owns public.notes",
		open: superuser + `
			CREATE ROLE reports_of_{app}; GRANT reports_of_{app} TO {app}; GRANT USAGE ON SCHEMA public TO reports_of_{app};
			ALTER TABLE notes OWNER TO reports_of_{app}`,
		attack: leaks(ofAcme, "SET LOCAL ROLE reports_of_{app}; ALTER TABLE notes NO FORCE ROW LEVEL SECURITY; "+allNotes),
	},
	"creates roles": {
		code: check.RoleCreatesRoles, object: "role {app}", says: "{app} itself has CREATEROLE",
		open:   superuser + "\nALTER ROLE {app} CREATEROLE",
		attack: does("CREATE ROLE mine_of_{app}"),
	},
	"replicates": {
		code: check.RoleReplicates, object: "role {app}", says: "{app} itself has REPLICATION",
		open:   superuser + "\nALTER ROLE {app} REPLICATION",
		attack: decodes,
	},
	"reads everything": {
		code: check.RolePredefined, object: "role pg_read_all_data", says: "{app} may SET ROLE pg_read_all_data (by staff_of_{app})",
		open: superuser + `
			CREATE ROLE staff_of_{app}; GRANT pg_read_all_data TO staff_of_{app}; GRANT staff_of_{app} TO {app}`,
		opts: []check.Option{
			check.Allow(check.MaterializedViewReadable, "public.note_counts", "to see what it follows from"),
			check.Allow(check.PartitionExposed, "public.events_2024", "likewise"),
			check.Allow(check.PartitionExposed, "public.events_2025", "likewise"),
			check.Allow(check.PartitionExposed, "public.events_2025_1", "likewise"),
			check.Allow(check.PartitionExposed, "public.old_logs", "likewise"),
		},
		gone:   true,
		attack: leaks(ofAcme, "SET LOCAL ROLE pg_read_all_data; SELECT body FROM events_2024"),
	},
	"runs programs": {
		code: check.RolePredefined, object: "role pg_execute_server_program", says: "{app} may SET ROLE pg_execute_server_program",
		open:   superuser + "\nGRANT pg_execute_server_program TO {app}",
		attack: does("CREATE TEMP TABLE output (line text); GRANT ALL ON output TO PUBLIC; SET LOCAL ROLE pg_execute_server_program; COPY pg_temp.output FROM PROGRAM 'true'"),
	},
	"becomes a role that no policy binds": {
		code: check.PolicyAlwaysTrue, object: "policy reports on public.notes", says: "({app} may SET ROLE reports_of_{app})",
		open: superuser + `
			CREATE ROLE reports_of_{app}; GRANT reports_of_{app} TO {app}; GRANT SELECT ON notes TO reports_of_{app};
			GRANT USAGE ON SCHEMA public TO reports_of_{app}; CREATE POLICY reports ON notes TO reports_of_{app} USING (true)`,
		attack: leaks(ofAcme, "SET LOCAL ROLE reports_of_{app}; "+allNotes),
	},
	"truncate, by a role it can become": {
		code: check.GrantTruncate, object: "public.logs", says: "({app} may SET ROLE staff_of_{app})",
		open: superuser + `
			CREATE ROLE staff_of_{app}; GRANT staff_of_{app} TO {app}; GRANT TRUNCATE ON logs TO staff_of_{app}; GRANT USAGE ON SCHEMA public TO staff_of_{app}`,
		attack: does("SET LOCAL ROLE staff_of_{app}; TRUNCATE ONLY logs"),
	},

	// What connections start with.
	"tenant for all connections": {
		code: check.SettingUnsafe, object: "setting app.tenant_id of database {database}",
		open:   superuser + "\nALTER DATABASE {database} SET app.tenant_id = 'acme'",
		attack: leaks(ofAcme, "RESET app.tenant_id; "+allNotes),
	},
	"tenant for the role": {
		code: check.SettingUnsafe, object: "setting app.tenant_id of role {app} in database {database}",
		open:   superuser + "\nALTER ROLE {app} IN DATABASE {database} SET app.tenant_id = 'acme'",
		attack: leaks(ofAcme, "RESET app.tenant_id; "+allNotes),
	},
	"another role": {
		code: check.SettingUnsafe, object: "setting role of role {app}",
		open:   superuser + "\nALTER ROLE {app} SET role = '{admin}'",
		attack: leaks(ofAcme, allNotes),
	},
	"row_security off": {
		code: check.SettingUnsafe, object: "setting row_security of role {app}",
		open:   superuser + "\nALTER ROLE {app} SET row_security = off",
		attack: fails("42501", allNotes),
	},
	"search_path that hides PostgreSQL's functions": {
		code: check.SettingUnsafe, object: "setting search_path of role {app}",
		open: superuser + `
			CREATE FUNCTION scratch.length(text) RETURNS int LANGUAGE sql AS 'SELECT -1';
			ALTER ROLE {app} SET search_path = scratch, pg_catalog, public`,
		attack: leaks("-1", "SELECT length(body) FROM notes"),
	},
	"client_encoding": {
		code: check.SettingUnsafe, object: "setting client_encoding of role {app}",
		open:   superuser + "\nALTER ROLE {app} SET client_encoding = 'LATIN1'",
		attack: leaks("LATIN1", "RESET client_encoding; SHOW client_encoding"),
	},

	// What hangs on tenant tables, and what they hang on.
	"child table": {
		code: check.ChildWithoutTenant, object: "public.items", says: "the tenant table public.notes",
		open: `CREATE TABLE items (id bigserial PRIMARY KEY, note_id bigint CONSTRAINT fk_items_note REFERENCES notes, sku text);
			INSERT INTO items VALUES (1, 1, 'of acme'); GRANT SELECT, INSERT, UPDATE, DELETE ON items TO {app}`,
		attack: leaks(ofAcme, "UPDATE items SET note_id = 2 RETURNING sku"),
	},
	"child table by a role it can become": {
		code: check.ChildWithoutTenant, object: "public.items", says: "({app} may SET ROLE staff_of_{app})",
		open: superuser + `
			CREATE TABLE items (id bigserial PRIMARY KEY, note_id bigint REFERENCES notes ON DELETE CASCADE, sku text);
			INSERT INTO items VALUES (1, 1, 'of acme'); CREATE ROLE staff_of_{app}; GRANT staff_of_{app} TO {app};
			GRANT USAGE ON SCHEMA public TO staff_of_{app}; REVOKE ALL ON items FROM {app}; GRANT SELECT ON items TO staff_of_{app}`,
		attack: leaks(ofAcme, "SET LOCAL ROLE staff_of_{app}; SELECT sku FROM items"),
	},
	"shared parent that cascades": {
		code: check.SharedParentCascades, object: "constraint plan on public.notes", says: "public.plans",
		open: `CREATE TABLE plans (id bigint PRIMARY KEY); INSERT INTO plans VALUES (1); GRANT SELECT, DELETE ON plans TO {app};
			ALTER TABLE notes ADD COLUMN plan_id bigint DEFAULT 1, ADD CONSTRAINT plan FOREIGN KEY (plan_id) REFERENCES plans ON DELETE CASCADE ON UPDATE CASCADE`,
		attack: leaks("(0 left)", "DELETE FROM plans; SELECT set_config('app.tenant_id', 'acme', true); SELECT format('(%s left)', count(*)) FROM notes"),
	},
	"shared parent that sets null": {
		code: check.SharedParentCascades, object: "constraint plan on public.notes",
		open: `CREATE TABLE plans (id bigint PRIMARY KEY); INSERT INTO plans VALUES (1); GRANT SELECT, UPDATE (id) ON plans TO {app};
			ALTER TABLE notes ADD COLUMN plan_id bigint DEFAULT 1, ADD CONSTRAINT plan FOREIGN KEY (plan_id) REFERENCES plans ON UPDATE SET NULL`,
		attack: does("UPDATE plans SET id = 2"),
	},
	"table of tenants that cascades": {
		code: check.SharedParentCascades, object: "constraint club on public.notes",
		open: `CREATE TABLE clubs (id text PRIMARY KEY); INSERT INTO clubs VALUES ('acme'), ('globex'); GRANT SELECT, UPDATE ON clubs TO {app};
			ALTER TABLE notes NO FORCE ROW LEVEL SECURITY;
			ALTER TABLE notes ADD CONSTRAINT club FOREIGN KEY (tenant_id) REFERENCES clubs ON UPDATE CASCADE;
			ALTER TABLE notes FORCE ROW LEVEL SECURITY`,
		attack: leaks(ofAcme, "UPDATE clubs SET id = id || '2' WHERE id = 'globex'; UPDATE clubs SET id = 'globex' WHERE id = 'acme'; "+allNotes),
	},
	"shared table that tenants write": {
		code: check.SharedTableWritable, object: "public.countries",
		open:   "GRANT UPDATE (name), DELETE ON countries TO {app}, PUBLIC",
		opts:   []check.Option{check.Models(&country{})},
		attack: does("UPDATE countries SET name = 'Sweden'"),
	},
	"shared table with the column that tenants write": {
		code: check.SharedTableWritable, object: "public.memberships",
		open:   "GRANT INSERT ON memberships TO {app}",
		opts:   []check.Option{check.Models(&membership{})},
		attack: does("INSERT INTO memberships VALUES (7, 'acme', 'globex')"),
	},
	"own rows without policies": {
		code: check.OwnRowsNotIsolated, object: "public.clubs",
		open: `CREATE TABLE clubs (id text PRIMARY KEY, name text); INSERT INTO clubs VALUES ('acme', 'acme'), ('globex', 'globex');
			GRANT SELECT, UPDATE, DELETE ON clubs TO {app}`,
		opts:   []check.Option{check.Models(&club{})},
		attack: leaks("acme", "DELETE FROM clubs RETURNING name"),
	},
	"own rows with a policy too many": {
		code: check.OwnRowsNotIsolated, object: "public.clubs",
		open: `CREATE TABLE clubs (id text PRIMARY KEY, name text); INSERT INTO clubs VALUES ('acme', 'acme'), ('globex', 'globex');
			CREATE POLICY mine ON clubs USING (id = ` + current + `); CREATE POLICY everyones ON clubs FOR UPDATE USING (true);
			CREATE POLICY readable ON clubs FOR SELECT USING (true);
			ALTER TABLE clubs ENABLE ROW LEVEL SECURITY; ALTER TABLE clubs FORCE ROW LEVEL SECURITY; GRANT SELECT, UPDATE, DELETE ON clubs TO {app}`,
		opts:   []check.Option{check.Models(&club{})},
		attack: leaks("acme", "UPDATE clubs SET name = name RETURNING name"),
	},

	// Tables.
	"not enabled": {
		code: check.TableNotEnabled, object: "public.notes",
		open:   "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
		attack: leaks(ofAcme, allNotes),
	},
	"not forced": {
		code: check.TableNotForced, object: "public.logs",
		open:   "ALTER TABLE logs NO FORCE ROW LEVEL SECURITY",
		attack: leaksTo(owner, "globex", ofAcme, "SELECT body FROM logs"),
	},
	"without policy": {
		code: check.TableWithoutPolicy, object: "public.notes",
		open: "DROP POLICY tenant_isolation ON notes",
		attack: func(t *testing.T, d database) bool {
			lines, err := d.try(t, d.app, "globex", allNotes)
			require.NoError(t, err)
			return len(lines) == 0 // not even its own
		},
	},
	"partition granted": {
		code: check.PartitionExposed, object: "public.events_2024",
		open:   "GRANT SELECT (body) ON events_2024 TO {app}",
		attack: leaks(ofAcme, "SELECT body FROM events_2024"),
	},
	"child granted": {
		code: check.PartitionExposed, object: "public.old_logs",
		open:   "INSERT INTO old_logs VALUES (3, 'acme', 'of acme'); GRANT DELETE, SELECT ON old_logs TO PUBLIC",
		attack: leaks(ofAcme, "DELETE FROM old_logs RETURNING body"),
	},
	"parent that is no tenant's": {
		code: check.ParentExposes, object: "public.papers",
		open:   "CREATE TABLE papers (body text); GRANT SELECT ON papers TO {app}; ALTER TABLE notes INHERIT papers",
		attack: leaks(ofAcme, "SELECT body FROM papers"),
	},

	// The tenant column.
	"nullable": {
		code: check.TenantColumnNullable, object: "public.notes",
		open:   "ALTER TABLE notes ALTER COLUMN tenant_id DROP NOT NULL",
		attack: doesAs(admin, "INSERT INTO notes (id, tenant_id) VALUES (3, NULL)"),
	},
	"without default": {
		code: check.TenantColumnDefault, object: "public.logs",
		open:   "ALTER TABLE logs ALTER COLUMN tenant_id DROP DEFAULT",
		attack: fails("42501", "INSERT INTO logs (id) VALUES (3)"),
	},
	"default of another": {
		code: check.TenantColumnDefault, object: "public.logs",
		open:   "ALTER TABLE logs ALTER COLUMN tenant_id SET DEFAULT 'acme'",
		attack: leaksTo(admin, "globex", "acme", "INSERT INTO logs (id) VALUES (3) RETURNING tenant_id"),
	},
	"of another type": {
		code: check.TenantColumnType, object: "public.numbered",
		open: `CREATE TABLE numbered (id serial PRIMARY KEY, body text,
				tenant_id int NOT NULL DEFAULT (NULLIF(current_setting('app.tenant_id', true), '')::int));
			CREATE INDEX ON numbered (tenant_id);
			CREATE POLICY tenant_isolation ON numbered USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::int));
			INSERT INTO numbered VALUES (1, 'of 7', 7);
			ALTER TABLE numbered ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
			GRANT SELECT ON numbered TO {app}`,
		attack: leaksTo(application, "07", "of 7", "SELECT body FROM numbered"),
	},
	"not indexed": {
		code: check.TenantColumnNotIndexed, object: "public.logs",
		open:   "DROP INDEX logs_tenant_id",
		attack: scans("globex", "SELECT * FROM ONLY logs"),
	},

	"collation that takes ids for equal": {
		code: check.TenantColumnCollation, object: "public.labels",
		open: `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
			CREATE TABLE labels (id serial PRIMARY KEY, body text,
				tenant_id text COLLATE loose NOT NULL DEFAULT (NULLIF(current_setting('app.tenant_id', true), '')));
			CREATE INDEX ON labels (tenant_id);
			CREATE POLICY tenant_isolation ON labels USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')));
			INSERT INTO labels VALUES (1, 'of acme', 'acme');
			ALTER TABLE labels ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
			GRANT SELECT ON labels TO {app}`,
		attack: leaksTo(application, "ACME", ofAcme, "SELECT body FROM labels"),
	},

	// Keys.
	"natural primary key": {
		code: check.PrimaryKeyNatural, object: "constraint options_pkey on public.options",
		open: `CREATE TABLE options (key text PRIMARY KEY,
				tenant_id text NOT NULL DEFAULT (NULLIF(current_setting('app.tenant_id', true), '')));
			CREATE INDEX ON options (tenant_id);
			CREATE POLICY tenant_isolation ON options USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')));
			INSERT INTO options VALUES ('theme', 'acme');
			ALTER TABLE options ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
			GRANT SELECT, INSERT ON options TO {app}`,
		attack: fails("23505", "INSERT INTO options (key) VALUES ('theme')"),
	},
	"primary key of numbers and dates": {
		code: check.PrimaryKeyNatural, object: "constraint rates_pkey on public.rates",
		open: `CREATE TABLE rates (day date, number int, PRIMARY KEY (day, number),
				tenant_id text NOT NULL DEFAULT (NULLIF(current_setting('app.tenant_id', true), '')));
			CREATE INDEX ON rates (tenant_id);
			CREATE POLICY tenant_isolation ON rates USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')));
			INSERT INTO rates VALUES ('2026-01-01', 7, 'acme');
			ALTER TABLE rates ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
			GRANT SELECT, INSERT ON rates TO {app}`,
		attack: fails("23505", "INSERT INTO rates (day, number) VALUES ('2026-01-01', 7)"),
	},
	"primary key without the tenant of its model": {
		code: check.ModelKeyWithoutTenant, object: "public.logs",
		opts:   []check.Option{check.Models(&entry{})},
		attack: fails("23505", "INSERT INTO logs (id) VALUES (1)"),
	},
	"unique constraint": {
		code: check.UniqueWithoutTenant, object: "constraint one_body on public.notes",
		open:   "ALTER TABLE notes ADD CONSTRAINT one_body UNIQUE (body) INCLUDE (tenant_id) DEFERRABLE",
		attack: fails("23505", "INSERT INTO notes (id, body) VALUES (3, 'of acme'); SET CONSTRAINTS ALL IMMEDIATE"),
	},
	"unique index": {
		code: check.UniqueWithoutTenant, object: `index public."Only" one`,
		open:   `CREATE UNIQUE INDEX """Only"" one" ON notes (lower(body), (id % 1)) WHERE id > 0`,
		attack: fails("23505", "INSERT INTO notes (id, body) VALUES (3, 'Of ACME')"),
	},
	"unique index of a partitioned table": {
		code: check.UniqueWithoutTenant, object: "index public.only_one",
		open:   "CREATE UNIQUE INDEX only_one ON events (year, id, body)",
		attack: fails("23505", "INSERT INTO events (year, id, body) VALUES (2024, 1, 'of acme')"),
	},
	"exclusion constraint": {
		code: check.UniqueWithoutTenant, object: "constraint no_two on public.notes",
		open:   "ALTER TABLE notes ADD CONSTRAINT no_two EXCLUDE USING btree (body WITH =) WHERE (id > 0)",
		attack: fails("23P01", "INSERT INTO notes (id, body) VALUES (3, 'of acme')"),
	},
	"foreign key": {
		code: check.ForeignKeyWithoutTenant, object: "constraint fk_notes_comments on public.comments",
		open:   "ALTER TABLE comments DROP CONSTRAINT comments_note",
		attack: does("INSERT INTO comments (id, note_id) VALUES (3, 1)"),
	},
	"foreign key to itself": {
		code: check.ForeignKeyWithoutTenant, object: "constraint previous on public.logs",
		open:   "ALTER TABLE logs ADD COLUMN previous_id bigint, ADD CONSTRAINT previous FOREIGN KEY (previous_id) REFERENCES logs DEFERRABLE INITIALLY DEFERRED",
		attack: does("INSERT INTO logs (id, previous_id) VALUES (3, 1); SET CONSTRAINTS ALL IMMEDIATE"),
	},
	"foreign key beside one that a NULL switches off": {
		code: check.ForeignKeyWithoutTenant, object: "constraint fk_notes_comments on public.comments",
		open: `ALTER TABLE notes ADD COLUMN kind text, ADD UNIQUE (tenant_id, id, kind);
			ALTER TABLE comments ADD COLUMN kind text, DROP CONSTRAINT comments_note,
				ADD CONSTRAINT comments_note FOREIGN KEY (tenant_id, note_id, kind) REFERENCES notes (tenant_id, id, kind)`,
		attack: does("INSERT INTO comments (id, note_id) VALUES (3, 1)"),
	},
	"foreign key that cascades": {
		code: check.ForeignKeyCascades, object: "constraint fk_notes_comments on public.comments",
		open: `ALTER TABLE comments DROP CONSTRAINT comments_note, DROP CONSTRAINT fk_notes_comments,
			ADD CONSTRAINT fk_notes_comments FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE ON UPDATE CASCADE`,
		attack: does("INSERT INTO comments (id, note_id) VALUES (3, 1)"),
	},
	"foreign key that sets null": {
		code: check.ForeignKeyCascades, object: "constraint log on public.comments",
		open:   "ALTER TABLE comments ADD COLUMN log_id bigint, ADD CONSTRAINT log FOREIGN KEY (log_id) REFERENCES logs ON DELETE SET NULL ON UPDATE SET DEFAULT",
		attack: does("INSERT INTO comments (id, log_id) VALUES (3, 1)"),
	},

	// Policies.
	"always true, beside ours": {
		code: check.PolicyAlwaysTrue, object: "policy everyone on public.notes",
		open:   "CREATE POLICY everyone ON notes FOR SELECT USING (true)",
		attack: leaks(ofAcme, allNotes),
	},
	"always true, instead of ours": {
		code: check.PolicyAlwaysTrue, object: "policy tenant_isolation on public.notes",
		open:   "ALTER POLICY tenant_isolation ON notes USING (1 = 1) WITH CHECK (true)",
		attack: leaks(ofAcme, allNotes),
	},
	"always true, for the application": {
		code: check.PolicyAlwaysTrue, object: "policy service on public.notes",
		open:   "CREATE POLICY service ON notes TO {app} USING (true)",
		attack: leaks(ofAcme, allNotes),
	},
	"check always true": {
		code: check.PolicyCheckAlwaysTrue, object: "policy tenant_isolation on public.logs",
		open:   "ALTER POLICY tenant_isolation ON logs WITH CHECK (true)",
		attack: does("INSERT INTO logs (id, tenant_id, body) VALUES (3, 'acme', 'planted')"),
	},
	"insert policy without a check": {
		code: check.PolicyCheckAlwaysTrue, object: "policy sign_up on public.logs",
		open:   "CREATE POLICY sign_up ON logs FOR INSERT WITH CHECK (true)",
		attack: does("INSERT INTO logs (id, tenant_id, body) VALUES (3, 'acme', 'planted')"),
	},
	"beside ours": {
		code: check.PolicyBesideOurs, object: "policy published on public.notes",
		open:   "CREATE POLICY published ON notes USING (body LIKE 'of%')",
		attack: leaks(ofAcme, allNotes),
	},
	"or bypass": {
		code: check.PolicyOrBypass, object: "policy tenant_isolation on public.notes",
		open:   "ALTER POLICY tenant_isolation ON notes USING (tenant_id = " + current + " OR current_setting('app.bypass', true) = 'on')",
		attack: leaks(ofAcme, "SELECT set_config('app.bypass', 'on', true); "+allNotes),
	},
	"or bypass, plan": {
		code: check.PolicyOrBypass, object: "policy tenant_isolation on public.notes",
		open:   "ALTER POLICY tenant_isolation ON notes USING (tenant_id = " + current + " OR current_setting('app.bypass', true) = 'on')",
		attack: scans("globex", allNotes),
	},
	"volatile function": {
		code: check.PolicyVolatile, object: "policy tenant_isolation on public.notes",
		open: `CREATE FUNCTION tenant() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_setting('app.tenant_id', true); END $$;
			ALTER POLICY tenant_isolation ON notes USING (tenant_id = tenant()) WITH CHECK (tenant_id = tenant())`,
		attack: scans("globex", allNotes),
	},
	"volatile function of PostgreSQL": {
		code: check.PolicyVolatile, object: "policy tenant_isolation on public.notes",
		open:   "ALTER POLICY tenant_isolation ON notes USING (tenant_id = set_config('app.tenant_id', current_setting('app.tenant_id', true), true))",
		attack: scans("globex", allNotes),
	},
	"casts the column": {
		code: check.PolicyCastsColumn, object: `policy tenant_isolation on of uuid.Odd "rows`,
		open:   `ALTER POLICY tenant_isolation ON "of uuid"."Odd ""rows" USING (tenant_id::text = ` + current + ")",
		attack: scans("", `SELECT * FROM "of uuid"."Odd ""rows"`),
	},
	"casts a varchar": {
		code: check.PolicyNotCanonical, object: `policy tenant_isolation on of character varying.Odd "rows`,
		open:   `ALTER POLICY tenant_isolation ON "of character varying"."Odd ""rows" USING (tenant_id::char(9) = ` + current + ")",
		attack: leaksTo(application, "", "t", "SELECT 'acme '::text <> 'acme' AND EXISTS (SELECT FROM pg_policy WHERE pg_get_expr(polqual, polrelid) LIKE '%character(9)%')"),
	},
	"wrong setting": {
		code: check.PolicyWrongSetting, object: "policy tenant_isolation on public.notes",
		open:   "ALTER POLICY tenant_isolation ON notes USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant', true), '')))",
		attack: leaks(ofAcme, "SELECT set_config('app.tenant', 'acme', false); "+allNotes),
	},
	"without NULLIF": {
		code: check.PolicyWithoutNullif, object: "policy tenant_isolation on public.logs",
		open: `ALTER POLICY tenant_isolation ON logs USING (tenant_id = (SELECT current_setting('app.tenant_id', true)))
			WITH CHECK (tenant_id = (SELECT current_setting('app.tenant_id', true)))`,
		attack: leaksTo(application, "", "shared", "INSERT INTO logs (id, tenant_id, body) VALUES (3, '', 'shared'); SELECT body FROM logs"),
	},
	"without a subselect": {
		code: check.PolicyWithoutSubselect, object: "policy tenant_isolation on public.logs",
		open:   `ALTER POLICY tenant_isolation ON logs USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''))`,
		attack: readsForEachRow("SELECT * FROM logs"),
	},
	"unknown condition": {
		code: check.PolicyNotCanonical, object: "policy tenant_isolation on public.notes",
		open: `CREATE FUNCTION tenant() RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'acme' $$;
			ALTER POLICY tenant_isolation ON notes USING (tenant_id = tenant())`,
		attack: leaks(ofAcme, allNotes),
	},

	// Views.
	"view of a superuser": {
		code: check.ViewOwnerBypasses, object: "public.all_notes",
		open:   superuser + "\nCREATE VIEW all_notes AS SELECT * FROM notes; GRANT SELECT ON all_notes TO {app}",
		attack: leaks(ofAcme, "SELECT body FROM all_notes"),
	},
	"view of a member of the admin role": {
		code: check.ViewOwnerBypasses, object: "public.bodies",
		open: superuser + `
			CREATE ROLE keeper_of_{app}; GRANT {admin} TO keeper_of_{app}; GRANT SELECT ON notes TO keeper_of_{app};
			CREATE VIEW bodies AS SELECT body FROM notes; ALTER VIEW bodies OWNER TO keeper_of_{app}; GRANT SELECT ON bodies TO {app}`,
		attack: leaks(ofAcme, "SELECT body FROM bodies"),
	},
	"view of an owner without force": {
		code: check.ViewOwnerBypasses, object: "public.all_bodies", since: 150000, // before, the table must be forced
		open: `CREATE VIEW all_logs AS SELECT * FROM logs; REVOKE ALL ON all_logs FROM {app};
			CREATE VIEW all_bodies AS SELECT body FROM all_logs;
			ALTER TABLE logs NO FORCE ROW LEVEL SECURITY`,
		opts:   []check.Option{check.Allow(check.TableNotForced, "public.logs", "to see what follows from it")},
		attack: leaks(ofAcme, "SELECT body FROM all_bodies"),
	},
	"view of a superuser's view": {
		code: check.ViewOwnerBypasses, object: "public.bodies",
		open: superuser + `
			CREATE VIEW all_notes AS SELECT * FROM notes; GRANT SELECT ON all_notes TO {owner};
			CREATE VIEW bodies AS SELECT body FROM all_notes; ALTER VIEW bodies OWNER TO {owner}; GRANT SELECT ON bodies TO {app}`,
		attack: leaks(ofAcme, "SELECT body FROM bodies"),
	},
	"view of a materialized view": {
		code: check.ViewOwnerBypasses, object: "public.counts",
		open: superuser + `
			ALTER MATERIALIZED VIEW note_counts OWNER TO CURRENT_USER; REFRESH MATERIALIZED VIEW note_counts;
			GRANT SELECT ON note_counts TO {owner};
			CREATE VIEW counts AS SELECT tenant_id FROM note_counts; ALTER VIEW counts OWNER TO {owner}; GRANT SELECT ON counts TO {app}`,
		attack: leaks("acme", "SELECT tenant_id FROM counts"),
	},
	"view by the policies of its owner": {
		code: check.ViewNotInvoker, object: "public.topic_names", since: 150000,
		open:   "CREATE VIEW topic_names AS SELECT name FROM topics; GRANT SELECT ON topic_names TO {app}",
		attack: leaks(ofAcme, "SELECT name FROM topic_names"),
	},
	"materialized view": {
		code: check.MaterializedViewReadable, object: "public.note_counts",
		open: superuser + `
			ALTER MATERIALIZED VIEW note_counts OWNER TO CURRENT_USER; REFRESH MATERIALIZED VIEW note_counts;
			GRANT SELECT ON note_counts TO PUBLIC; GRANT SELECT (tenant_id) ON note_counts TO {app}`,
		attack: leaks("acme", "SELECT tenant_id FROM note_counts"),
	},

	// Functions and triggers.
	"definer function": {
		code: check.FunctionDefinerReads, object: "function public.all_notes(text)",
		open: superuser + `
			CREATE FUNCTION all_notes(wanted text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN RETURN QUERY SELECT body FROM public.NOTES WHERE body LIKE wanted; END $$`,
		attack: leaks(ofAcme, "SELECT all_notes('%')"),
	},
	"definer function of a view that the application may not read": {
		code: check.FunctionDefinerReads, object: "function public.bodies()",
		open: superuser + `
			CREATE VIEW all_notes AS SELECT * FROM notes;
			CREATE FUNCTION bodies() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
			AS $$ SELECT string_agg(body, ', ') FROM all_notes $$`,
		attack: leaks(ofAcme, "SELECT bodies()"),
	},
	"definer function, parsed": {
		code: check.FunctionDefinerReads, object: "function public.all_notes()",
		open: superuser + `
			CREATE FUNCTION all_notes() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			BEGIN ATOMIC SELECT tenant_id FROM public.note_counts; END;
			ALTER MATERIALIZED VIEW note_counts OWNER TO CURRENT_USER; REFRESH MATERIALIZED VIEW note_counts`,
		attack: leaks("acme", "SELECT all_notes()"),
	},
	"definer function of an odd name": {
		code: check.FunctionDefinerReads, object: `function public."Odd ""count"()`,
		open: superuser + `
			CREATE FUNCTION "Odd ""count"() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ SELECT count(*) FROM "of text"."Odd ""rows" $$`,
		attack: leaksTo(application, "acme", "1", `INSERT INTO "of text"."Odd ""rows" (id) VALUES (1); SELECT set_config('app.tenant_id', 'globex', true); SELECT "Odd ""count"()`),
	},
	"definer procedure without search_path": {
		code: check.FunctionSearchPath, object: "function public.allowed(text)",
		open: `CREATE FUNCTION allowed(code text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
			AS $$ BEGIN RETURN QUERY SELECT name FROM countries WHERE countries.code = allowed.code; END $$`,
		attack: leaks("mine", "CREATE TEMP TABLE countries AS SELECT 'mine' AS name, 'x' AS code; GRANT ALL ON countries TO PUBLIC; SELECT allowed('x')"),
	},
	"trigger of a superuser": {
		code: check.TriggerOwnerBypasses, object: "trigger remember on public.logs",
		open: superuser + `
			CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN NEW.body := (SELECT string_agg(body, ', ') FROM public.notes); RETURN NEW; END $$;
			CREATE TRIGGER remember BEFORE INSERT ON logs FOR EACH ROW EXECUTE FUNCTION remember()`,
		attack: leaks(ofAcme, "INSERT INTO logs (id) VALUES (3) RETURNING body"),
	},

	"trigger of a bound role that reads a superuser's view": {
		code: check.TriggerOwnerBypasses, object: "trigger remember on public.logs", says: ", and reads public.all_notes through public.everything",
		open: superuser + `
			CREATE VIEW all_notes AS SELECT * FROM notes;
			REVOKE ALL ON all_notes FROM PUBLIC, {app}; GRANT SELECT ON all_notes TO {owner};
			CREATE FUNCTION everything() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN RETURN (SELECT string_agg(body, ', ') FROM public.all_notes); END $$;
			CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN NEW.body := public.everything(); RETURN NEW; END $$;
			ALTER FUNCTION remember() OWNER TO {owner};
			CREATE TRIGGER remember BEFORE INSERT ON logs FOR EACH ROW EXECUTE FUNCTION remember()`,
		attack: leaks(ofAcme, "INSERT INTO logs (id) VALUES (3) RETURNING body"),
	},

	"definer function that runs what it is given": {
		code: check.FunctionDefinerDynamic, object: "function public.run(text)",
		open: superuser + `
			CREATE FUNCTION run(q text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN RETURN QUERY EXECUTE q; END $$`,
		attack: leaks(ofAcme, "SELECT run('SELECT body FROM public.notes')"),
	},
	"definer function that calls one that does": {
		code: check.FunctionDefinerDynamic, object: "function public.search(text)", says: " through public.run with the rights of ",
		open: superuser + `
			CREATE FUNCTION run(q text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE q; END $$;
			REVOKE EXECUTE ON FUNCTION run(text) FROM PUBLIC;
			CREATE FUNCTION search(q text) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ SELECT public.run(q) $$`,
		attack: leaks(ofAcme, "SELECT search('SELECT body FROM public.notes')"),
	},
	"definer function that calls one that reads": {
		code: check.FunctionDefinerReads, object: "function public.outer_one()", says: "public.notes through public.inner_one",
		open: superuser + `
			CREATE FUNCTION inner_one() RETURNS SETOF text LANGUAGE sql AS 'SELECT body FROM public.notes';
			CREATE FUNCTION outer_one() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN RETURN QUERY SELECT public.inner_one(); END $$`,
		attack: leaks(ofAcme, "SELECT outer_one()"),
	},
	"definer function, parsed, that calls one that reads": {
		code: check.FunctionDefinerReads, object: "function public.outer_one()", says: "public.notes through public.inner_one",
		open: superuser + `
			CREATE FUNCTION inner_one() RETURNS SETOF text LANGUAGE sql AS 'SELECT body FROM public.notes';
			CREATE FUNCTION outer_one() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			BEGIN ATOMIC SELECT public.inner_one(); END`,
		attack: leaks(ofAcme, "SELECT outer_one()"),
	},
	"trigger on a shared table": {
		code: check.TriggerOwnerBypasses, object: "trigger remember on public.countries",
		open: superuser + `
			CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN NEW.name := (SELECT string_agg(body, ', ') FROM public.notes); RETURN NEW; END $$;
			CREATE TRIGGER remember BEFORE INSERT ON countries FOR EACH ROW EXECUTE FUNCTION remember(); GRANT INSERT ON countries TO {app}`,
		attack: leaks(ofAcme, "INSERT INTO countries VALUES ('x', 'y') RETURNING name"),
	},
	"trigger instead of a view": {
		code: check.TriggerOwnerBypasses, object: "trigger remember on public.note_bodies",
		open: superuser + `
			CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
			AS $$ BEGIN NEW.body := (SELECT string_agg(body, ', ') FROM public.notes); RETURN NEW; END $$;
			CREATE TRIGGER remember INSTEAD OF INSERT ON note_bodies FOR EACH ROW EXECUTE FUNCTION remember(); GRANT INSERT ON note_bodies TO {app}`,
		attack: leaks(ofAcme, "INSERT INTO note_bodies VALUES (3) RETURNING body"),
	},
	"rule of a superuser's table": {
		code: check.RuleOwnerBypasses, object: "rule wipe on public.requests",
		open: superuser + `
			CREATE TABLE requests (id int); GRANT SELECT, INSERT ON requests TO {app};
			CREATE RULE wipe AS ON INSERT TO requests DO ALSO DELETE FROM notes`,
		attack: leaks("(0 left)", "INSERT INTO requests VALUES (1); SELECT set_config('app.tenant_id', 'acme', true); SELECT format('(%s left)', count(*)) FROM notes"),
	},
	"rule of an invoker's view": {
		code: check.RuleOwnerBypasses, object: "rule wipe on public.my_notes", since: 150000,
		open: superuser + `
			CREATE VIEW my_notes WITH (security_invoker = true) AS SELECT id, body FROM notes; GRANT SELECT, INSERT ON my_notes TO {app};
			CREATE RULE wipe AS ON INSERT TO my_notes DO INSTEAD DELETE FROM notes`,
		attack: leaks("(0 left)", "INSERT INTO my_notes VALUES (1); SELECT set_config('app.tenant_id', 'acme', true); SELECT format('(%s left)', count(*)) FROM notes"),
	},
	"rule that reads a superuser's view": {
		code: check.RuleOwnerBypasses, object: "rule copy on public.topics",
		open: superuser + `
			CREATE VIEW all_notes AS SELECT * FROM notes; GRANT SELECT ON all_notes TO {owner};
			CREATE RULE copy AS ON INSERT TO topics WHERE NEW.name = 'copy'
				DO ALSO INSERT INTO logs (id, body) SELECT 9 + id, body FROM all_notes`,
		attack: leaks(ofAcme, "INSERT INTO topics (id, name) VALUES (9, 'copy'); SELECT body FROM logs"),
	},
	"leakproof function": {
		code: check.FunctionLeakproof, object: "function public.peek(text)",
		open: superuser + `
			CREATE FUNCTION peek(body text) RETURNS bool LANGUAGE plpgsql LEAKPROOF COST 0.0001
			AS $$ BEGIN IF body = 'of acme' THEN RAISE EXCEPTION 'seen'; END IF; RETURN true; END $$`,
		attack: fails("P0001", "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SELECT body FROM notes WHERE peek(body)"),
	},
	"function that sets the tenant": {
		code: check.FunctionSetsTenant, object: "function public.examples()",
		open:   superuser + "\nCREATE FUNCTION examples() RETURNS SETOF text LANGUAGE sql SET app.tenant_id = 'acme' AS 'SELECT body FROM public.notes'",
		attack: leaks(ofAcme, "SELECT examples()"),
	},
	"function that sets the role": {
		code: check.FunctionSetsTenant, object: "function public.reported()",
		open:   superuser + "\nCREATE FUNCTION reported() RETURNS SETOF text LANGUAGE sql SET role = '{admin}' AS 'SELECT body FROM public.notes'",
		attack: leaks(ofAcme, "SELECT reported()"),
	},
	"function that opens connections": {
		code: check.FunctionOpensConnections, object: "functions of dblink",
		open:   superuser + "\nCREATE EXTENSION dblink",
		attack: leaks(ofAcme, "SELECT * FROM dblink($${connection}$$, 'SELECT body FROM notes') AS (body text)"),
	},
	"function that opens connections, by another name": {
		code: check.FunctionOpensConnections, object: "functions of dblink",
		open: superuser + `
			CREATE EXTENSION dblink; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {owner};
			CREATE FUNCTION remote(text, text) RETURNS text LANGUAGE c AS '$libdir/dblink', 'dblink_exec'`,
		attack: does("SELECT remote($${connection}$$, 'UPDATE notes SET body = body')"),
	},
	"function that reads files": {
		code: check.FunctionReadsFiles, object: "function pg_read_file(text)",
		open:   superuser + "\nGRANT EXECUTE ON FUNCTION pg_read_file(text) TO {app}",
		attack: does("SELECT pg_read_file('PG_VERSION')"),
	},

	// Privileges.
	"statistics": {
		code: check.CatalogReadable, object: "table pg_catalog.pg_statistic", says: "values from the rows of all tenants",
		open:   superuser + "\nANALYZE notes; GRANT SELECT ON pg_statistic TO {app}",
		attack: leaks(ofAcme, "SELECT concat_ws(' ', stavalues1, stavalues2) FROM pg_statistic WHERE starelid = 'notes'::regclass"),
	},
	"passwords, one column": {
		code: check.CatalogReadable, object: "table pg_catalog.pg_authid", says: "the hashes of all passwords",
		open:   superuser + "\nGRANT SELECT (rolpassword) ON pg_authid TO PUBLIC",
		attack: does("SELECT rolpassword FROM pg_authid"),
	},
	"sequence": {
		code: check.SequenceUpdatable, object: "sequence public.numbers",
		open:   "CREATE SEQUENCE numbers; GRANT ALL ON SEQUENCE numbers TO {app}",
		attack: does("SELECT setval('numbers', 1)"),
	},
	"large objects": {
		code: check.LargeObjectsShared, object: "large objects",
		open: superuser + `
			SELECT lo_from_bytea(4711, 'of acme'); ALTER LARGE OBJECT 4711 OWNER TO {app};
			SELECT lo_from_bytea(4712, 'of acme'); GRANT SELECT ON LARGE OBJECT 4712 TO {app}, PUBLIC`,
		attack: leaks(ofAcme, "SELECT convert_from(lo_get(4711), 'UTF8')"),
	},
	"replication role": {
		code: check.ParameterSettable, object: "parameter session_replication_role", since: 150000,
		open:   superuser + "\nGRANT SET ON PARAMETER session_replication_role TO {app}",
		attack: does("SET LOCAL session_replication_role = replica; INSERT INTO comments (id, note_id) VALUES (3, 99)"),
	},
	"truncate": {
		code: check.GrantTruncate, object: "public.logs",
		open:   "GRANT TRUNCATE ON logs TO {app}, PUBLIC",
		attack: does("TRUNCATE ONLY logs"),
	},
	"truncate, by a role it inherits": {
		code: check.GrantTruncate, object: "public.logs",
		open: superuser + `
			CREATE ROLE staff_of_{app}; ALTER ROLE {app} INHERIT; GRANT staff_of_{app} TO {app}; GRANT TRUNCATE ON logs TO staff_of_{app};
			REVOKE {admin} FROM {app}`,
		attack: does("TRUNCATE ONLY logs"),
	},
	"trigger": {
		code: check.GrantTrigger, object: "public.logs",
		open:   "GRANT TRIGGER ON logs TO {app}",
		attack: does("CREATE TRIGGER mine AFTER INSERT ON logs EXECUTE FUNCTION suppress_redundant_updates_trigger()"),
	},
	"references": {
		code: check.GrantReferences, object: "public.notes",
		open:   "GRANT REFERENCES ON notes TO {app}",
		attack: does("CREATE TABLE scratch.spy (note_id bigint REFERENCES notes (id)); INSERT INTO scratch.spy VALUES (1)"),
	},
	"references to a column": {
		code: check.GrantReferences, object: "public.notes",
		open:   "GRANT REFERENCES (id) ON notes TO PUBLIC",
		attack: does("CREATE TABLE scratch.spy (note_id bigint REFERENCES notes (id))"),
	},
	"create in a schema": {
		code: check.GrantCreate, object: "schema public",
		open:   "GRANT CREATE ON SCHEMA public TO PUBLIC",
		attack: does("CREATE FUNCTION public.length(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
	},
	"owner of a schema": {
		code: check.GrantCreate, object: "schema of text",
		open:   superuser + "\nALTER SCHEMA \"of text\" OWNER TO {app}",
		attack: does(`DROP TABLE "of text"."Odd ""rows"`),
	},
	"default privileges": {
		code: check.DefaultPrivileges, object: "default privileges of {owner} in public",
		open:   "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT TRUNCATE, SELECT ON TABLES TO {app}, PUBLIC",
		attack: tomorrow,
	},
	"default privileges everywhere": {
		code: check.DefaultPrivileges, object: "default privileges of {owner}",
		open:   "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {app}",
		attack: tomorrow,
	},

	// Ways out of the database.
	"published": {
		code: check.TablePublished, object: "publication everything",
		open:   "CREATE PUBLICATION everything FOR TABLE countries, notes, events",
		attack: subscribes("notes", "", ""),
	},
	"all tables published": {
		code: check.TablePublished, object: "publication everything",
		open:   superuser + "\nCREATE PUBLICATION everything FOR ALL TABLES",
		attack: subscribes("events", ", year", ", 2024"),
	},
	"schema published": {
		code: check.TablePublished, object: "publication everything",
		open: superuser + `
			DO $$ BEGIN
				EXECUTE format('CREATE PUBLICATION everything FOR TABLE %s', CASE
					WHEN current_setting('server_version_num')::int < 150000 THEN '"of text"."Odd ""rows"'
					ELSE 'countries, TABLES IN SCHEMA "of text"' END);
			END $$`,
		attack: subscribes(`"of text"."Odd ""rows"`, "", ""),
	},
	"foreign table": {
		code: check.ForeignTableAccessible, object: "public.remote_notes",
		open: superuser + `
			CREATE EXTENSION postgres_fdw;
			CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({here});
			CREATE USER MAPPING FOR PUBLIC SERVER here OPTIONS ({superuser});
			CREATE FOREIGN TABLE remote_notes (tenant_id text, body text) SERVER here OPTIONS (table_name 'notes');
			GRANT SELECT (body) ON remote_notes TO {app}; GRANT SELECT ON remote_notes TO PUBLIC`,
		attack: leaks(ofAcme, "SELECT body FROM remote_notes"),
	},

	"foreign table without the column": {
		code: check.ForeignTableAccessible, object: "public.remote_bodies",
		open: superuser + `
			CREATE EXTENSION postgres_fdw;
			CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({here});
			CREATE USER MAPPING FOR PUBLIC SERVER here OPTIONS ({superuser});
			CREATE FOREIGN TABLE remote_bodies (body text) SERVER here OPTIONS (table_name 'notes'); GRANT SELECT ON remote_bodies TO {app}`,
		attack: leaks(ofAcme, "SELECT body FROM remote_bodies"),
	},
	"foreign server": {
		code: check.ForeignServerUsable, object: "server here",
		open: superuser + `
			CREATE EXTENSION postgres_fdw;
			CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({here});
			CREATE USER MAPPING FOR {app} SERVER here OPTIONS ({superuser}); GRANT USAGE ON FOREIGN SERVER here TO {app}`,
		attack: leaks(ofAcme, "CREATE FOREIGN TABLE scratch.mine (body text) SERVER here OPTIONS (schema_name 'public', table_name 'notes'); SELECT body FROM scratch.mine"),
	},

	// The server.
	"CVE-2023-2455": {
		code: check.ServerCVE20232455, object: "server",
		opts:  []check.Option{check.ServerVersion(140007), cve2024, cve2025},
		fixed: []check.Option{check.ServerVersion(140008), cve2024, cve2025},
	},
	"CVE-2024-10976": {
		code: check.ServerCVE202410976, object: "server",
		opts:  []check.Option{check.ServerVersion(140013), cve2025},
		fixed: []check.Option{check.ServerVersion(140014), cve2025},
	},
	"CVE-2025-8713": {
		code: check.ServerCVE20258713, object: "server",
		opts:  []check.Option{check.ServerVersion(140018)},
		fixed: []check.Option{check.ServerVersion(140019)},
	},

	// Models.
	"model without a table": {
		code: check.ModelTableMissing, object: `"diaries"`,
		opts:  []check.Option{check.Models(&diary{})},
		fixed: []check.Option{},
	},
	"model without the column": {
		code: check.ModelColumnMissing, object: "public.diaries",
		open:   "CREATE TABLE diaries (id bigserial PRIMARY KEY, body text); GRANT INSERT, SELECT ON diaries TO {app}",
		opts:   []check.Option{check.Models(&diary{})},
		attack: leaks(ofAcme, "INSERT INTO diaries (id, body) VALUES (1, 'of acme'); SELECT set_config('app.tenant_id', 'initech', true); SELECT body FROM diaries"),
	},

	// The allow-list.
	"stale": {
		code: check.AllowStale, object: "table-not-forced on public.notes",
		opts:  []check.Option{check.Allow(check.TableNotForced, "public.notes", "not any more")},
		fixed: []check.Option{},
	},
	"stale table": {
		code: check.AllowStale, object: "shared-table on public.gone",
		opts:  []check.Option{check.Allow(check.SharedTable, "public.gone", "it was")},
		fixed: []check.Option{},
	},
}

var (
	cve2024 = check.Allow(check.ServerCVE202410976, "server", "another case")
	cve2025 = check.Allow(check.ServerCVE20258713, "server", "another case")
)

// club is a tenant, in the table of tenants.
type club struct{ ID, Name string }

func (club) TenantOwnRows() {}

// entry is of a table whose key lacks the tenant.
type entry struct {
	TenantID string `gorm:"primaryKey"`
	ID       int64  `gorm:"primaryKey"`
}

func (entry) TableName() string { return "logs" }

type diary struct {
	ID       int64
	TenantID string
	Body     string
}

// tomorrow is an attack on a table that the owner makes after the check.
func tomorrow(t *testing.T, d database) bool {
	d.run(t, d.Owner.DSN, "CREATE TABLE tomorrow (id int)")
	defer d.run(t, d.Owner.DSN, "DROP TABLE tomorrow")
	return does("TRUNCATE tomorrow")(t, d)
}

func TestCheckFindsHoles(t *testing.T) {
	version := newDatabase(t).version
	for name, hole := range holes {
		if version < hole.since {
			continue
		}
		t.Run(name, hole.test)
	}
}

// test opens the hole, attacks, checks, fixes, and attacks and checks again.
func (hole hole) test(t *testing.T) {
	t.Parallel()
	d := cleanDatabase(t)
	object := d.fill(hole.object)
	d.run(t, d.loginFor(hole.open), hole.open)
	if hole.attack != nil {
		require.True(t, hole.attack(t, d), "the attack must succeed while the hole is open")
	}

	if hole.admins != nil {
		roles := make([]string, len(hole.admins))
		for n, role := range hole.admins {
			roles[n] = d.fill(role)
		}
		hole.opts = append(hole.opts, check.AdminLogin(roles...))
	}
	report := d.check(t, append(d.allowances(), hole.opts...)...)
	require.Equal(t, []string{string(hole.code) + ": " + object}, found(report))
	finding := report.Findings[0]
	require.False(t, report.OK())
	require.EqualError(t, report.Err(), "tenancy: 1 finding: "+string(hole.code)+" ("+object+")")
	require.Regexp(t, `^[A-Z].*\.$`, finding.Problem)
	require.NotContains(t, finding.Problem, "%")
	require.Contains(t, finding.Problem, d.fill(hole.says))

	opts := hole.opts
	if hole.fixed != nil {
		opts = hole.fixed
		require.Empty(t, finding.Fix)
		require.Empty(t, report.SQL())
	} else {
		require.Contains(t, report.SQL(), finding.Fix)
		login := d.Owner.DSN
		if strings.HasPrefix(hole.open, superuser) || strings.Contains(finding.Fix, superuser) {
			login = d.super
		}
		d.run(t, login, report.SQL())
	}
	if hole.gone {
		opts = nil
	}
	if hole.attack != nil {
		require.False(t, hole.attack(t, d), "the attack must fail once the hole is fixed")
	}
	require.Empty(t, found(d.check(t, append(d.allowances(), opts...)...)))
}

// loginFor is the login that must run a script.
func (d database) loginFor(script string) string {
	if strings.HasPrefix(script, superuser) {
		return d.super
	}
	return d.Owner.DSN
}

func TestCheckRulesHaveHoles(t *testing.T) {
	shown := map[check.Code]bool{}
	for _, hole := range holes {
		shown[hole.code] = true
	}
	for _, hole := range signedHoles {
		shown[hole.code] = true
	}
	for _, code := range []check.Code{check.PolicyRestrictiveOpens, check.ShardNotEnabled, check.ShardNotForced, check.ShardPoliciesDiffer} {
		shown[code] = true // by TestCheckLooksAtShards of tests/citus
	}
	shown[check.SignedNotExpected] = true // by TestCheckWithoutSignedShowsNoSQLForSignedDatabases
	for _, r := range check.Rules() {
		require.True(t, shown[r.Code], "no database shows %s", r.Code)
		delete(shown, r.Code)
	}
	require.Empty(t, shown)
}
