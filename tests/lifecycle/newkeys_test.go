package lifecycle_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// copied exports a tenant, and imports it beside itself as the tenant "copy".
func copied(t *testing.T, d *testdb.Database, rows int) (lifecycle.Tenants, *bytes.Reader) {
	t.Helper()
	l := tenants(t, d)
	acme, globex := checksum(t, d, testdb.Acme), checksum(t, d, testdb.Globex)
	_, file := export(t, l, testdb.Acme)
	l.NewKeys = true
	report, err := l.Import(t.Context(), "copy", file)
	require.NoError(t, err)
	require.EqualValues(t, rows, report.Rows())
	require.Equal(t, acme, checksum(t, d, testdb.Acme), "the original stays")
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
	requireSame(t, l, file)
	return l, file
}

func requireSame(t *testing.T, l lifecycle.Tenants, file *bytes.Reader) {
	t.Helper()
	differences, err := l.Diff(t.Context(), "copy", file)
	require.NoError(t, err)
	require.Empty(t, differences)
}

// pairs are rows of a tenant by what they hold, and what those hold that they refer to.
func requireSameShape(t *testing.T, d *testdb.Database, query string) {
	t.Helper()
	want := rowsOf(t, d, strings.ReplaceAll(query, "@t", "'acme'"))
	require.NotEmpty(t, want)
	require.Equal(t, want, rowsOf(t, d, strings.ReplaceAll(query, "@t", "'copy'")))
}

func TestCopyBesideTheOriginal(t *testing.T) { testdb.InBothForms(t, testCopyBesideTheOriginal) }

func testCopyBesideTheOriginal(t *testing.T) {
	d := filled(t)
	d.AsSuperuser(t, "SELECT setval('projects_id_seq', 5000), setval('people_id_seq', 5000), setval('tasks_id_seq', 5000), setval('odds_id_seq', 5000)")
	l, file := copied(t, d, 53)
	requireSameShape(t, d, "SELECT p.name || '<' || boss.name FROM people p JOIN people boss ON boss.id = p.boss_id AND boss.tenant_id = p.tenant_id WHERE p.tenant_id = @t ORDER BY 1")
	requireSameShape(t, d, "SELECT p.name || count(*) FROM tasks t JOIN projects p ON p.id = t.project_id AND p.tenant_id = t.tenant_id WHERE t.tenant_id = @t GROUP BY p.name ORDER BY 1")
	requireSameShape(t, d, "SELECT p.name || q.name FROM person_projects j JOIN people p ON p.id = person_id JOIN projects q ON q.id = project_id WHERE j.tenant_id = @t ORDER BY 1")
	require.Equal(t, []string{"5001 5010"}, rowsOf(t, d, "SELECT min(id) || ' ' || max(id) FROM people WHERE tenant_id = 'copy'"))

	db := d.Open(t, d.Config())
	for _, tenant := range []string{testdb.Globex, "copy"} {
		person := Person{Name: "next"}
		require.NoError(t, db.WithContext(testdb.As(tenant)).Create(&person).Error, "no sequence gives out what is taken")
		require.Greater(t, person.ID, int64(5010))
		require.NoError(t, db.WithContext(testdb.As(tenant)).Delete(&person).Error)
	}
	requireSame(t, l, file)
	d.AsSuperuser(t, "UPDATE tasks SET project_id = project_id + CASE project_id % 5 WHEN 1 THEN 4 ELSE -1 END WHERE tenant_id = 'copy' AND id = (SELECT max(id) FROM tasks WHERE tenant_id = 'copy')")
	differences, err := l.Diff(t.Context(), "copy", file)
	require.NoError(t, err)
	require.Len(t, differences, 1, "a row that refers to another row of the copy differs")
	require.Equal(t, "public.tasks", differences[0].Table)

	second, err := l.Import(t.Context(), "second", file)
	require.NoError(t, err)
	require.EqualValues(t, 53, second.Rows())
	_, err = l.Erase(t.Context(), "copy")
	require.NoError(t, err)
}

func TestCopyWithUUIDs(t *testing.T) { testdb.InBothForms(t, testCopyWithUUIDs) }

func testCopyWithUUIDs(t *testing.T) {
	const pair = `WITH n AS (SELECT %[1]s AS tenant, md5(%[1]s || i)::uuid AS id, i FROM generate_series(1, 20) i),
		a AS (INSERT INTO nodes SELECT tenant, id, nullif(md5(tenant || (i + 1) / 2)::uuid, id), i FROM n RETURNING 1)
		INSERT INTO leaves SELECT tenant, id, id, i FROM n WHERE i %% 2 = 0`
	d := shape(t, []string{"nodes", "leaves"}, []string{
		"CREATE TABLE nodes (tenant_id text NOT NULL, id uuid PRIMARY KEY, parent uuid, name int, UNIQUE (tenant_id, id), FOREIGN KEY (tenant_id, parent) REFERENCES nodes (tenant_id, id))",
		// whose primary key is a reference as well
		"CREATE TABLE leaves (tenant_id text NOT NULL, node uuid PRIMARY KEY REFERENCES nodes, again uuid, name int, UNIQUE (again, name))",
		"ALTER TABLE leaves ADD FOREIGN KEY (tenant_id, again) REFERENCES nodes (tenant_id, id)",
	}, []string{pair})
	copied(t, d, 30)
	requireSameShape(t, d, "SELECT n.name || '<' || p.name FROM nodes n JOIN nodes p ON p.id = n.parent AND p.tenant_id = n.tenant_id WHERE n.tenant_id = @t ORDER BY 1")
	requireSameShape(t, d, "SELECT l.name || ' ' || n.name FROM leaves l JOIN nodes n ON n.id = l.node AND n.id = l.again AND n.tenant_id = l.tenant_id WHERE l.tenant_id = @t ORDER BY 1")
}

func TestCopyOfDeferredCircles(t *testing.T) { testdb.InBothForms(t, testCopyOfDeferredCircles) }

func testCopyOfDeferredCircles(t *testing.T) {
	d := shape(t, []string{"firsts", "seconds"}, []string{
		"CREATE TABLE firsts (tenant_id text NOT NULL, id bigint GENERATED BY DEFAULT AS IDENTITY (START 1000) PRIMARY KEY, second int NOT NULL, UNIQUE (tenant_id, id))",
		"CREATE TABLE seconds (tenant_id text NOT NULL, id serial PRIMARY KEY, first bigint NOT NULL, UNIQUE (tenant_id, id), FOREIGN KEY (tenant_id, first) REFERENCES firsts (tenant_id, id))",
		"ALTER TABLE firsts ADD FOREIGN KEY (tenant_id, second) REFERENCES seconds (tenant_id, id) DEFERRABLE",
		"SELECT setval('seconds_id_seq', 700)",
	}, []string{`WITH a AS (INSERT INTO firsts SELECT %[1]s, o + i, o + i FROM generate_series(1, 5) i, (SELECT count(*) AS o FROM firsts) c RETURNING id)
		INSERT INTO seconds SELECT %[1]s, id, id FROM a`})
	copied(t, d, 10)
	require.Equal(t, []string{"1001 701", "1002 702", "1003 703", "1004 704", "1005 705"},
		rowsOf(t, d, "SELECT f.id || ' ' || s.id FROM firsts f JOIN seconds s ON s.id = f.second AND s.first = f.id WHERE f.tenant_id = 'copy' ORDER BY 1"))
}

// Keys that include the tenant stay, and others that would clash are named before a row is written.
func TestCopyRefusesKeysThatWouldClash(t *testing.T) {
	testdb.InBothForms(t, testCopyRefusesKeysThatWouldClash)
}

func testCopyRefusesKeysThatWouldClash(t *testing.T) {
	d := shape(t, []string{"codes", "sites"}, []string{
		"CREATE TABLE codes (tenant_id text NOT NULL, code text, n int, PRIMARY KEY (tenant_id, code))",
		"CREATE TABLE sites (tenant_id text NOT NULL, id bigserial PRIMARY KEY, host text, alias text, old text UNIQUE)",
		"CREATE UNIQUE INDEX sites_host ON sites (lower(host))", "CREATE UNIQUE INDEX sites_alias ON sites (alias)", "CREATE UNIQUE INDEX sites_of_tenant ON sites (tenant_id, host)",
	}, []string{"INSERT INTO codes VALUES (%s, 'a', 1)", "INSERT INTO sites (tenant_id, host, alias) VALUES (%[1]s, %[1]s, %[1]s)"})
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	l.NewKeys = true
	before := rowsOf(t, d, "SELECT last_value::text FROM sites_id_seq")
	_, err := l.Import(t.Context(), "copy", file)
	require.ErrorIs(t, err, lifecycle.ErrConflict)
	require.ErrorContains(t, err, `"sites_alias" of public.sites, "sites_host" of public.sites`)
	require.NotContains(t, err.Error(), "old", "no row has a value there")
	require.Equal(t, before, rowsOf(t, d, "SELECT last_value::text FROM sites_id_seq"))
	require.Equal(t, checksum(t, d, "no one"), checksum(t, d, "copy"))

	d.AsOwner(t, "DROP INDEX sites_host, sites_alias")
	copied(t, d, 2)

	d.AsOwner(t, "ALTER SEQUENCE sites_id_seq AS smallint MAXVALUE 32767", "ALTER TABLE sites ALTER COLUMN id TYPE smallint")
	d.AsSuperuser(t, "SELECT setval('sites_id_seq', 32767)")
	_, file = export(t, l, testdb.Acme)
	_, err = l.Import(t.Context(), "late", file)
	require.ErrorIs(t, err, lifecycle.ErrConflict)
	require.Equal(t, checksum(t, d, "no one"), checksum(t, d, "late"))
}

// A forged file cannot lead new keys to rows of another tenant.
func TestCopyRefusesForgedFiles(t *testing.T) { testdb.InBothForms(t, testCopyRefusesForgedFiles) }

func testCopyRefusesForgedFiles(t *testing.T) {
	d := filled(t)
	d.AsSuperuser(t, "SELECT setval('projects_id_seq', 5000), setval('people_id_seq', 5000), setval('tasks_id_seq', 5000), setval('odds_id_seq', 5000)")
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	l.NewKeys = true
	all := checksum(t, d, testdb.Globex) + checksum(t, d, testdb.Acme)
	for name, replace := range map[string][2]string{
		"a parent of another tenant": {`"project_id":"2"`, `"project_id":"-3998"`}, // 1001, after the step
		"a key that is no number":    {`"project_id":"2"`, `"project_id":"x"`},
		"a number out of range":      {`"project_id":"2"`, `"project_id":"9223372036854775807"`},
		"a key beyond all":           {`{"id":"2","project_id"`, `{"id":"9223372036854775000","project_id"`},
		"a row of another tenant":    {`"tenant_id":"acme"`, `"tenant_id":"globex"`},
	} {
		forged := forge(t, file, func(_, line string) string { return strings.Replace(line, replace[0], replace[1], 1) }, nil)
		_, err := l.Import(t.Context(), "copy", forged)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "globex")
		require.Equal(t, all, checksum(t, d, testdb.Globex)+checksum(t, d, testdb.Acme), name)
		require.Equal(t, checksum(t, d, "no one"), checksum(t, d, "copy"), name)
	}
}

// Copies and new rows at the same time get numbers of their own.
func TestCopiesAtOnce(t *testing.T) { testdb.InBothForms(t, testCopiesAtOnce) }

func testCopiesAtOnce(t *testing.T) {
	d := filled(t)
	d.AsSuperuser(t, "SELECT setval('projects_id_seq', 5000), setval('people_id_seq', 5000), setval('tasks_id_seq', 5000), setval('odds_id_seq', 5000)")
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	whole, err := io.ReadAll(file)
	require.NoError(t, err)
	l.NewKeys = true
	db := d.Open(t, d.Config())
	var runs sync.WaitGroup
	errs := make([]error, 4)
	for n := range errs {
		runs.Go(func() { _, errs[n] = l.Import(t.Context(), fmt.Sprintf("copy-%d", n), bytes.NewReader(whole)) })
	}
	done, over := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				over <- nil
				return
			default:
			}
			if err := db.WithContext(testdb.As(testdb.Globex)).Create(&Person{Name: "at once"}).Error; err != nil {
				over <- err
				return
			}
		}
	}()
	runs.Wait()
	close(done)
	require.NoError(t, <-over, "no number was given out twice")
	for n, err := range errs {
		require.NoError(t, err)
		differences, err := l.Diff(t.Context(), fmt.Sprintf("copy-%d", n), bytes.NewReader(whole))
		require.NoError(t, err)
		require.Empty(t, differences)
	}
}
