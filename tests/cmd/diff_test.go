package cmd_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type difference struct{ Verdict, Object, Subject, Before, After, Reason string }

// differences compares two snapshots or databases, and requires the exit code that belongs to the verdicts.
func differences(t *testing.T, before, after string, more ...string) []difference {
	t.Helper()
	var out struct{ Differences []difference }
	r := tenancy(t, append(append([]string{"diff", "--format", "json"}, more...), before, after)...)
	require.Empty(t, r.errors)
	parse(t, r.out, &out)
	require.NotNil(t, out.Differences)
	exit := 0
	for _, d := range out.Differences {
		require.NotEmpty(t, d.Reason)
		if d.Verdict == "dangerous" {
			exit = 1
		}
	}
	require.Equal(t, exit, r.exit, r.out)
	return out.Differences
}

// Each change opens a hole, or may open one. Undone, it is safe or neutral, never dangerous.
func TestDiffOfHoles(t *testing.T) {
	const predicate = "tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), ''))"
	for name, c := range map[string]struct{ sql, object, subject string }{
		"not enabled":         {"ALTER TABLE patients DISABLE ROW LEVEL SECURITY", "table public.patients", "row level security"},
		"not forced":          {"ALTER TABLE patients NO FORCE ROW LEVEL SECURITY", "table public.patients", "forced on the owner"},
		"policy of all":       {"CREATE POLICY p ON patients USING (true)", "table public.patients", "policy p"},
		"policy changed":      {"ALTER POLICY tenant_isolation ON patients USING (true)", "table public.patients", "policy tenant_isolation"},
		"policy with OR":      {"ALTER POLICY tenant_isolation ON patients USING (" + predicate + " OR name = 'x')", "table public.patients", "policy tenant_isolation"},
		"truncate":            {"GRANT TRUNCATE ON patients TO @app", "table public.patients", "grant to @app"},
		"public":              {"GRANT SELECT ON countries TO PUBLIC", "table public.countries", "grant to PUBLIC"},
		"write to shared":     {"GRANT UPDATE (name) ON countries TO @app", "table public.countries", "grant to @app"},
		"nullable":            {"ALTER TABLE patients ALTER tenant_id DROP NOT NULL", "table public.patients", "tenant column NOT NULL"},
		"default":             {"ALTER TABLE patients ALTER tenant_id SET DEFAULT 'acme'", "table public.patients", "tenant column default"},
		"unique":              {"CREATE UNIQUE INDEX u ON patients (name)", "table public.patients", "unique key u"},
		"foreign key":         {"ALTER TABLE invoices ADD CONSTRAINT k FOREIGN KEY (total) REFERENCES patients", "table public.invoices", "foreign key k"},
		"cascade from shared": {"ALTER TABLE invoices ADD CONSTRAINT k FOREIGN KEY (total) REFERENCES countries ON DELETE CASCADE", "table public.invoices", "foreign key k"},
		"child":               {"CREATE TABLE visits (id bigint REFERENCES patients); GRANT SELECT ON visits TO @app", "table public.visits", "table"},
		"tenant table":        {"CREATE TABLE notes (tenant_id text); GRANT SELECT ON notes TO @app", "table public.notes", "table"},
		"view":                {"CREATE VIEW v AS SELECT * FROM patients; GRANT SELECT ON v TO @app", "view public.v", "view"},
		"materialized view":   {"CREATE MATERIALIZED VIEW v AS SELECT * FROM patients; GRANT SELECT ON v TO PUBLIC", "view public.v", "view"},
		"function":            {"CREATE FUNCTION f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "function public.f()", "function"},
		"trigger": {"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN new; END'; " +
			"REVOKE ALL ON FUNCTION f() FROM PUBLIC; CREATE TRIGGER g BEFORE INSERT ON countries EXECUTE FUNCTION f()", "table public.countries", "trigger g"},
		"rule":               {"CREATE RULE r AS ON INSERT TO countries DO ALSO DELETE FROM patients", "table public.countries", "rule"},
		"create in a schema": {"CREATE SCHEMA s; GRANT CREATE ON SCHEMA s TO @app", "schema s", "grant to @app"},
		"sequence":           {"GRANT UPDATE ON SEQUENCE patients_id_seq TO @app", "sequence public.patients_id_seq", "grant to @app"},
		"default privileges": {"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "default privileges on tables of @owner", "grant to PUBLIC"},
		"inheritance":        {"CREATE TABLE base (id bigint NOT NULL); ALTER TABLE patients INHERIT base", "table public.patients", "parent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			names := strings.NewReplacer("@app", d.App.Role, "@owner", d.Owner.Role)
			before := d.record(t)
			require.Empty(t, differences(t, before, before))
			d.AsOwner(t, names.Replace(c.sql))
			after := d.record(t)

			found := differences(t, before, after)
			require.Equal(t, "dangerous", found[0].Verdict)
			require.Equal(t, names.Replace(c.object)+": "+names.Replace(c.subject), found[0].Object+": "+found[0].Subject, "%v", found)
			if strings.HasPrefix(name, "policy of all") || name == "unique" {
				require.Len(t, found, 1)
			}
			for _, undone := range differences(t, after, before) {
				require.NotEqual(t, "dangerous", undone.Verdict, "%v", undone)
			}
			require.Equal(t, found, differences(t, before, d.Owner.DSN, d.roles("")[1:]...), "a database in place of a file")
		})
	}
}

// What only a superuser can spoil: roles, and settings of roles.
func TestDiffOfRoles(t *testing.T) {
	for name, c := range map[string]struct{ sql, undo, object, subject string }{
		"superuser":    {"ALTER ROLE @app SUPERUSER", "ALTER ROLE @app NOSUPERUSER", "role @app", "superuser"},
		"BYPASSRLS":    {"ALTER ROLE @app BYPASSRLS", "ALTER ROLE @app NOBYPASSRLS", "role @app", "BYPASSRLS"},
		"CREATEROLE":   {"ALTER ROLE @app CREATEROLE", "ALTER ROLE @app NOCREATEROLE", "role @app", "CREATEROLE"},
		"membership":   {"GRANT pg_read_all_data TO @app", "REVOKE pg_read_all_data FROM @app", "role @app", "member of pg_read_all_data"},
		"owner":        {"GRANT @owner TO @app", "REVOKE @owner FROM @app", "role @app", "member of @owner"},
		"row_security": {"ALTER ROLE @app SET row_security = off", "ALTER ROLE @app RESET row_security", "setting row_security of @app", "value"},
		"database":     {"GRANT CREATE ON DATABASE @database TO @app", "REVOKE CREATE ON DATABASE @database FROM @app", "database", "grant to @app"},
		"function with a setting": {"CREATE FUNCTION public.f() RETURNS bigint LANGUAGE sql SET app.tenant_id = 'acme' AS 'SELECT 1'",
			"DROP FUNCTION public.f()", "function public.f()", "function"},
		"leakproof": {"CREATE FUNCTION public.f(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true'", "DROP FUNCTION public.f(text)", "function public.f(text)", "function"},
		"server": {"CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR @app SERVER s OPTIONS (password 'hunter2')",
			"DROP FOREIGN DATA WRAPPER w CASCADE", "foreign server s", "user mapping"},
		"setting of all": {"ALTER DATABASE @database SET app.tenant_id = 'acme'", "ALTER DATABASE @database RESET ALL", "setting app.tenant_id of all roles in the database", "value"},
		"publication":    {"CREATE PUBLICATION everything FOR ALL TABLES", "DROP PUBLICATION everything", "publication everything", "all tables"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			names := strings.NewReplacer("@app", d.App.Role, "@owner", d.Owner.Role, "@database", d.Name)
			before := d.record(t)
			t.Cleanup(func() { d.AsSuperuser(t, names.Replace(c.undo)) }) // roles are those of all databases
			d.AsSuperuser(t, names.Replace(c.sql))
			after := d.record(t)
			require.NotContains(t, read(t, after), "hunter2")
			require.NotContains(t, read(t, after), "acme")
			found := differences(t, before, after)
			require.Equal(t, "dangerous", found[0].Verdict)
			require.Equal(t, names.Replace(c.object)+": "+names.Replace(c.subject), found[0].Object+": "+found[0].Subject, "%v", found)
			for _, undone := range differences(t, after, before) {
				require.NotEqual(t, "dangerous", undone.Verdict, "%v", undone)
			}
		})
	}
}

// Clinic is the table of tenants, and Member one that is looked up before the tenant is known.
type Clinic struct {
	ID   string
	Name string
}

func (Clinic) TenantOwnRows() {}

type Member struct {
	ID       int64
	TenantID string
	UserID   int64
}

func (Member) TenantOwnRows() {}

// Note is written by all tenants.
type Note struct{ ID int64 }

func (Note) DangerouslyTenantWritable() {}

func TestDiffOfATableThatAllWrite(t *testing.T) {
	d := newDatabase(t)
	before := d.record(t)
	d.Migrate(t, d.Isolation(), &Note{})
	found := differences(t, before, d.record(t))
	require.Equal(t, "dangerous", found[0].Verdict)
	require.Equal(t, "It has no tenant column, and each tenant can write it for all others.", found[0].Reason)
}

// What a migration of a clean application adds is no danger.
func TestDiffOfWhatIsHarmless(t *testing.T) {
	d := newDatabase(t)
	before := d.record(t)
	type Ward struct {
		ID       int64
		TenantID string `gorm:"uniqueIndex:ward_name"`
		Name     string `gorm:"uniqueIndex:ward_name"`
	}
	type Currency struct{ ID int64 }
	type Bed struct { // a child
		ID     int64
		WardID int64
		Ward   Ward
	}
	d.Migrate(t, d.Isolation(), &Ward{}, &Bed{}, &Currency{}, &Clinic{}, &Member{})
	d.AsOwner(t, "ALTER TABLE patients ADD UNIQUE (tenant_id, name)", "CREATE TABLE secrets (id bigint)",
		"CREATE POLICY strict ON patients AS RESTRICTIVE USING (name <> '')")
	after := d.record(t)
	verdicts := map[string]string{}
	for _, found := range differences(t, before, after) {
		verdicts[found.Object+": "+found.Subject] = found.Verdict
	}
	for _, table := range []string{"wards", "beds", "currencies", "clinics", "members"} {
		require.Equal(t, "neutral", verdicts["table public."+table+": table"], table)
	}
	require.Equal(t, "neutral", verdicts["table public.secrets: table"])
	require.Equal(t, "neutral", verdicts["table public.patients: unique key patients_tenant_id_name_key"])
	require.Equal(t, "safe", verdicts["table public.patients: policy strict"])
	for name, verdict := range verdicts {
		require.NotEqual(t, "dangerous", verdict, name)
	}
	r := tenancy(t, "diff", before, after)
	require.Equal(t, 0, r.exit)
	require.Contains(t, r.out, "SAFE: tightens the isolation\n  table public.patients: policy strict\n    + RESTRICTIVE FOR ALL TO PUBLIC USING ((name <> ''::text))\n")
	require.Regexp(t, `\d+ differences: 0 dangerous, 1 safe, \d+ neutral\.\n$`, r.out)
	require.Equal(t, "No differences.\n", tenancy(t, "diff", after, after).out)
}

// Two databases of one schema are the same, although their roles have other names.
func TestDiffKnowsRolesByTheirPurpose(t *testing.T) {
	d := newDatabase(t)
	before := d.record(t)
	renamed := filepath.Join(t.TempDir(), "renamed.json")
	write(t, renamed, strings.NewReplacer(`"`+d.App.Role+`"`, `"other_app"`, `"`+d.Admin.Role+`"`, `"other_admin"`).Replace(read(t, before)))
	require.NotEqual(t, read(t, before), read(t, renamed))
	require.Empty(t, differences(t, before, renamed))
}

func TestDiffMistakes(t *testing.T) {
	d := newDatabase(t)
	file := d.record(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	for text, why := range map[string]string{
		`{`:                "it is no JSON document of a snapshot",
		`{"version": 1}`:   "it is no snapshot",
		`{"findings": []}`: "it is no snapshot",
		strings.Replace(read(t, file), `"version": 1`, `"version": 9`, 1): "it has the version 9, and this command reads version 1",
		read(t, file) + "{}": "text follows the document",
	} {
		write(t, bad, text)
		tenancy(t, "diff", file, bad).failed(t, "tenancy diff: the second: "+bad+": ", why)
	}
	write(t, bad, strings.Replace(read(t, file), `"column": "tenant_id"`, `"column": "org_id"`, 1))
	tenancy(t, "diff", file, bad).failed(t, "the tenant columns differ (tenant_id and org_id)")
	tenancy(t, "diff", file).failed(t, "give two snapshots or databases")
	tenancy(t, "diff", "--dsn", "x", file, file).failed(t, "not defined: -dsn")
	tenancy(t, "diff", "--format", "sarif", file, file).failed(t, "must be text or json")
	tenancy(t, "diff", filepath.Join(dir, "none"), file).failed(t, "the first: "+filepath.Join(dir, "none")+": ")
	tenancy(t, "diff", "env:NO_SUCH_VARIABLE", file).failed(t, "the environment variable NO_SUCH_VARIABLE is empty")

	secret, err := url.Parse(d.App.DSN)
	require.NoError(t, err)
	password, _ := secret.User.Password()
	secret.Path = "/no_such_database"
	for _, dsn := range []string{
		secret.String(), "postgres://u:1/" + password + "@127.0.0.1:1/db", "host=127.0.0.1 port=1 user=u password='" + password,
		fmt.Sprintf("host=127.0.0.1 port=1 user=u password=%s", password),
	} {
		for _, c := range []command{
			{args: []string{"diff", file, dsn}},
			{args: []string{"diff", "env:" + dsn, file}},
			{args: []string{"diff", "env:DATABASE_URL", file}, url: dsn},
			{args: []string{"diff", file + dsn, file}},
		} {
			r := c.run(t)
			r.failed(t, "tenancy diff: ")
			require.NotContains(t, r.errors, password)
		}
	}
	r := command{args: []string{"diff", "env:DATABASE_URL", file}, url: d.Owner.DSN}.run(t) // for the roles of the file
	require.Equal(t, "No differences.\n", r.out, r.errors)
}
