package lifecycle_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// forge changes lines of a file, and makes its hashes and counts right again, as an attacker would.
func forge(t *testing.T, file io.ReadSeeker, change func(table, line string) string, manifest func(m *lifecycle.Manifest)) *bytes.Reader {
	t.Helper()
	_, err := file.Seek(0, io.SeekStart)
	require.NoError(t, err)
	var (
		out    bytes.Buffer
		reader = tar.NewReader(file)
		writer = tar.NewWriter(&out)
		rows   = map[string]string{}
	)
	write := func(name string, content []byte) {
		require.NoError(t, writer.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(content))}))
		_, err := writer.Write(content)
		require.NoError(t, err)
	}
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		directory, _, _ := strings.Cut(header.Name, "/")
		if header.Name != "manifest.json" {
			changed := ""
			for line := range strings.Lines(string(content)) {
				changed += change(directory[4:], line)
			}
			rows[directory] += changed
			write(header.Name, []byte(changed))
			continue
		}
		var m lifecycle.Manifest
		require.NoError(t, json.Unmarshal(content, &m))
		for n := range m.Tables {
			text := rows[m.Tables[n].Directory]
			sum := sha256.Sum256([]byte(text))
			m.Tables[n].SHA256, m.Tables[n].Rows = hex.EncodeToString(sum[:]), int64(strings.Count(text, "\n"))
		}
		if manifest != nil {
			manifest(&m)
		}
		content, err = json.Marshal(m)
		require.NoError(t, err)
		write(header.Name, content)
	}
	require.NoError(t, writer.Close())
	return bytes.NewReader(out.Bytes())
}

func unchanged(_, line string) string { return line }

func TestImportRefusesForgedFiles(t *testing.T) {
	d := filled(t)
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	globex := checksum(t, d, testdb.Globex)
	nothing := checksum(t, d, testdb.Acme)

	in := func(table, old, text string) func(string, string) string {
		return func(name, line string) string {
			if name == table {
				return strings.Replace(line, old, text, 1)
			}
			return line
		}
	}
	for name, test := range map[string]struct {
		change   func(string, string) string
		manifest func(*lifecycle.Manifest)
		want     error
	}{
		"a row of another tenant":    {change: in("public.tasks", `"tenant_id":"acme"`, `"tenant_id":"globex"`), want: lifecycle.ErrArchive},
		"the row of another tenant":  {change: in("public.orgs", `"id":"acme"`, `"id":"globex"`), want: lifecycle.ErrArchive},
		"a row without a tenant":     {change: in("public.tasks", `"tenant_id":"acme"`, `"tenant_id":null`), want: lifecycle.ErrArchive},
		"the tenant named twice":     {change: in("public.tasks", `"done"`, `"tenant_id":"globex","done"`), want: lifecycle.ErrArchive},
		"a key of another tenant":    {change: in("public.projects", `"id":"1"`, `"id":"1001"`), want: lifecycle.ErrConflict},
		"a parent of another tenant": {change: in("public.tasks", `"project_id":"1"`, `"project_id":"1001"`)},
		"SQL as a value":             {change: in("public.tasks", `"done":null`, `"done":"false); DELETE FROM tasks; --"`)},
		"SQL as a table": {manifest: func(m *lifecycle.Manifest) { m.Tables[0].Name = `public.orgs"; DROP TABLE tasks; --` },
			want: lifecycle.ErrArchive}, // the fingerprint
		"a shared table": {change: unchanged, manifest: func(m *lifecycle.Manifest) {
			m.Tables[0].Name = "public.plans"
			m.Schema = fingerprint(*m)
		}, want: lifecycle.ErrSchema},
		"a table of the catalog": {manifest: func(m *lifecycle.Manifest) {
			m.Tables[0].Name = "pg_catalog.pg_authid"
			m.Schema = fingerprint(*m)
		}, want: lifecycle.ErrSchema},
		"no tenant column": {manifest: func(m *lifecycle.Manifest) {
			m.Tables[0].Columns = m.Tables[0].Columns[1:]
			m.Schema = fingerprint(*m)
		}, want: lifecycle.ErrSchema},
		"another type": {manifest: func(m *lifecycle.Manifest) {
			m.Tables[0].Columns[1].Type = "numeric(3,1)"
			m.Schema = fingerprint(*m)
		}, want: lifecycle.ErrSchema},
		"another version": {manifest: func(m *lifecycle.Manifest) { m.Version = 2 }, want: lifecycle.ErrArchive},
	} {
		t.Run(name, func(t *testing.T) {
			if test.change == nil {
				test.change = unchanged
			}
			_, err := l.Import(t.Context(), "", forge(t, file, test.change, test.manifest))
			require.Error(t, err)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
			require.NotContains(t, err.Error(), "globex")
			require.NotContains(t, err.Error(), "DELETE")
			require.Equal(t, globex, checksum(t, d, testdb.Globex))
			require.Equal(t, nothing, checksum(t, d, testdb.Acme), "nothing stays")
		})
	}

	t.Run("a tenant by its whole name", func(t *testing.T) {
		// A file that says it is globex's, with rows that say so too, is imported for the tenant that the caller names.
		forged := forge(t, file, func(_, line string) string { return strings.ReplaceAll(line, `"acme"`, `"globex"`) },
			func(m *lifecycle.Manifest) { m.Tenant = "globex" })
		_, err := l.Import(t.Context(), testdb.Acme, forged)
		require.NoError(t, err)
		require.Equal(t, globex, checksum(t, d, testdb.Globex))
	})
}

func fingerprint(m lifecycle.Manifest) string {
	sum := sha256.New()
	for _, table := range m.Tables {
		fmt.Fprintf(sum, "%q\n", table.Name)
		for _, c := range table.Columns {
			fmt.Fprintf(sum, "\t%q %q\n", c.Name, c.Type)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func TestImportRefusesDamagedFiles(t *testing.T) {
	d := filled(t)
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	whole, err := io.ReadAll(file)
	require.NoError(t, err)
	flipped := bytes.Replace(whole, []byte(`"name":"p3"`), []byte(`"name":"p9"`), 1)
	require.NotEqual(t, whole, flipped)
	for name, damaged := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "half": whole[:len(whole)/2], "without the manifest": whole[:len(whole)-5000],
		"a value changed": flipped, "something behind": append(bytes.TrimRight(whole, "\x00"), whole...),
	} {
		_, err := l.Import(t.Context(), "new", bytes.NewReader(damaged))
		require.ErrorIs(t, err, lifecycle.ErrArchive, name)
	}
}

// TestImportRefusesKeysThatForgetTheTenant: PostgreSQL checks foreign keys without policies.
func TestImportRefusesKeysThatForgetTheTenant(t *testing.T) {
	d := testdb.New(t)
	d.AsOwner(t, "CREATE TABLE parents (id int PRIMARY KEY, tenant_id text NOT NULL)",
		"CREATE TABLE children (id int PRIMARY KEY, tenant_id text NOT NULL, parent int REFERENCES parents)")
	d.AsOwner(t, append(isolated("parents"), isolated("children")...)...)
	d.AsSuperuser(t, "INSERT INTO parents VALUES (1, 'acme'), (2, 'globex')", "INSERT INTO children VALUES (1, 'acme', 1)")
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	_, err = l.Import(t.Context(), "", forge(t, file, func(_, line string) string {
		return strings.Replace(line, `"parent":"1"`, `"parent":"2"`, 1)
	}, nil))
	require.ErrorIs(t, err, lifecycle.ErrBeyond)

	d.AsSuperuser(t, "ALTER TABLE children DROP CONSTRAINT children_parent_fkey, ADD FOREIGN KEY (parent) REFERENCES parents ON DELETE CASCADE")
	_, err = l.Erase(t.Context(), testdb.Acme)
	require.ErrorIs(t, err, lifecycle.ErrBeyond, "a cascade would reach children of another tenant")
}

func TestTenantsRefuseWhatIsNotIsolated(t *testing.T) {
	d := filled(t)
	l := tenants(t, d)
	count := func() error {
		_, err := l.Count(t.Context(), testdb.Acme)
		return err
	}
	require.NoError(t, count())
	for _, test := range []struct {
		do, undo string
		want     error
	}{
		{"ALTER TABLE odds DISABLE ROW LEVEL SECURITY", "ALTER TABLE odds ENABLE ROW LEVEL SECURITY", lifecycle.ErrNotIsolated},
		{"ALTER TABLE odds NO FORCE ROW LEVEL SECURITY", "ALTER TABLE odds FORCE ROW LEVEL SECURITY", lifecycle.ErrNotIsolated},
		{"CREATE POLICY wide ON odds FOR DELETE USING (true)", "DROP POLICY wide ON odds", lifecycle.ErrNotIsolated},
		{"CREATE POLICY wide ON odds USING (tenant_id <> '')", "DROP POLICY wide ON odds", lifecycle.ErrNotIsolated},
		{"CREATE POLICY living ON odds AS RESTRICTIVE USING (title <> '')", "DROP POLICY living ON odds", lifecycle.ErrRowsHidden},
		{"CREATE TABLE notes (id int PRIMARY KEY, tenant_id text)", "DROP TABLE notes", lifecycle.ErrNotIsolated},
		{"CREATE TABLE notes (odd bigint REFERENCES odds)", "DROP TABLE notes", lifecycle.ErrNotIsolated},
		{"CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); " +
			"CREATE TABLE notes (id int PRIMARY KEY, tenant_id text COLLATE loose NOT NULL); " + strings.Join(isolated("notes"), "; "),
			"DROP TABLE notes; DROP COLLATION loose", lifecycle.ErrNotIsolated},
		{"CREATE TABLE notes (org text REFERENCES orgs)", "DROP TABLE notes", lifecycle.ErrNotIsolated},
		{"CREATE TABLE notes (org text); CREATE POLICY own ON notes USING (org = current_setting('APP.tenant_id'))", "DROP TABLE notes", lifecycle.ErrNotIsolated},
		{`CREATE TABLE notes (id int PRIMARY KEY, tenant_id text) PARTITION BY HASH (id)`, "DROP TABLE notes", lifecycle.ErrNotIsolated},
	} {
		d.AsOwner(t, test.do)
		require.ErrorIs(t, count(), test.want, test.do)
		d.AsOwner(t, test.undo)
		require.NoError(t, count(), test.undo)
	}
	l.Skip = map[string]string{"public.od": "a typing error"}
	require.ErrorContains(t, count(), "there is no table public.od")
	l.Skip, l.Actor = nil, " "
	require.ErrorContains(t, count(), "Actor")
	l.Actor, l.DB = "a test", testdb.OpenSQL(t, d.SuperuserDSN(t))
	require.ErrorIs(t, count(), lifecycle.ErrNotIsolated, "no policy binds a superuser")
	l.Isolation.AppRole = d.App.Role
	require.NoError(t, count(), "as the application's role")
	l.DB = testdb.OpenSQL(t, d.Admin.DSN)
	l.Isolation.AppRole = ""
	require.ErrorIs(t, count(), lifecycle.ErrNotIsolated, "the admin sees all")
}

func TestTenantsRefuseAnotherSpelling(t *testing.T) {
	d := testdb.New(t)
	d.AsOwner(t, "CREATE TABLE notes (id int PRIMARY KEY, tenant_id bigint NOT NULL)",
		`CREATE POLICY p ON notes USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::bigint))`,
		"ALTER TABLE notes ENABLE ROW LEVEL SECURITY", "ALTER TABLE notes FORCE ROW LEVEL SECURITY")
	d.AsSuperuser(t, "INSERT INTO notes VALUES (1, 7)")
	l := tenants(t, d)
	_, err := l.Erase(t.Context(), "07")
	require.ErrorContains(t, err, "not what PostgreSQL writes")
	_, err = l.Erase(t.Context(), "x'")
	require.Error(t, err)
	report, err := l.Erase(t.Context(), "7")
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Rows())
}

func TestErrorsHoldNoValues(t *testing.T) {
	d := filled(t)
	l := tenants(t, d)
	var events []lifecycle.Event
	_, file := export(t, l, testdb.Acme)
	d.AsOwner(t, `CREATE FUNCTION secret() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'the secret of %', OLD.title; END$$`,
		"CREATE TRIGGER secret BEFORE DELETE ON odds FOR EACH ROW EXECUTE FUNCTION secret()")
	l.OnEvent = func(_ context.Context, e lifecycle.Event) { events = append(events, e) }
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret of")
	require.True(t, errors.As(err, new(*pgconn.PgError)))
	_, err = l.Import(t.Context(), testdb.Acme, file)
	require.ErrorIs(t, err, lifecycle.ErrConflict)
	require.Len(t, events, 2, "each run is reported once")
	require.Equal(t, lifecycle.OpErase, events[0].Operation)
	require.Equal(t, testdb.Acme, events[0].Tenant)
	require.Equal(t, "a test", events[0].Actor)
	require.Error(t, events[0].Err)
}

// TestPoliciesBindTriggers: what Go cannot see, because triggers of the run do it, reaches the rows of one tenant as well.
func TestPoliciesBindTriggers(t *testing.T) {
	d := filled(t)
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	globex := checksum(t, d, testdb.Globex)
	d.AsOwner(t, "CREATE FUNCTION everything() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM odds; UPDATE tasks SET done = true; RETURN OLD; END'",
		"CREATE TRIGGER everything BEFORE DELETE ON person_projects FOR EACH ROW EXECUTE FUNCTION everything()")
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.Equal(t, globex, checksum(t, d, testdb.Globex))

	d.AsOwner(t, "CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.tenant_id := 'globex'; RETURN NEW; END$$",
		"CREATE TRIGGER another BEFORE INSERT ON odds FOR EACH ROW EXECUTE FUNCTION another()")
	_, err = l.Import(t.Context(), "", file)
	require.ErrorContains(t, err, "42501")
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
}
