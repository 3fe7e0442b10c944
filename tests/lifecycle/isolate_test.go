package lifecycle_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// listedDatabase has people by list and hash, who refer to each other and are audited, and projects by list; tasks and join rows refer to both.
type listedDatabase struct {
	*testdb.Database
	isolation rls.Isolation
	super     *sql.DB
}

const (
	peopleTable   = "public.people"
	projectsTable = "public.projects"
)

func newListed(t *testing.T) *listedDatabase {
	t.Helper()
	d := &listedDatabase{Database: testdb.NewTenantKeys(t)}
	d.isolation = d.Isolation()
	d.isolation.Partition = []rls.Partitioned{{Model: &Person{}, ByList: true, Hash: 3}, {Model: &Project{}, ByList: true}}
	d.isolation.Audits = []rls.Audit{{Model: &Person{}}}
	// What is made later is granted to the application, unless it is revoked.
	d.AsOwner(t, "ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO "+d.App.Role)
	d.Migrate(t, d.isolation, models...)
	addOdds(t, d.Database)
	fill(t, d.Database)
	d.super = testdb.OpenSQL(t, d.SuperuserDSN(t))
	return d
}

func (d *listedDatabase) texts(t *testing.T, query string, args ...any) (list []string) {
	t.Helper()
	rows, err := d.super.QueryContext(t.Context(), query, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		list = append(list, text)
	}
	require.NoError(t, rows.Err())
	return list
}

// at is where rows of a tenant are.
func (d *listedDatabase) at(t *testing.T, table, tenant string) []string {
	return d.texts(t, "SELECT DISTINCT tableoid::regclass::text FROM "+table+" WHERE tenant_id = $1 ORDER BY 1", tenant)
}

// rows are those of all tenants.
func (d *listedDatabase) rows(t *testing.T) []string {
	return d.texts(t, "SELECT p::text FROM people p UNION ALL SELECT p::text FROM projects p UNION ALL SELECT t::text FROM tasks t UNION ALL SELECT p::text FROM person_projects p ORDER BY 1")
}

// keys are all foreign keys, and whether they are valid.
func (d *listedDatabase) keys(t *testing.T) []string {
	return d.texts(t, `SELECT concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid)) FROM pg_constraint
		WHERE contype = 'f' AND conparentid = 0 ORDER BY 1`)
}

// triggers are those of the tables that were made for them.
func (d *listedDatabase) triggers(t *testing.T) []string {
	return d.texts(t, `SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE tgconstraint = 0 AND tgrelid::regclass::text !~ '_t_' ORDER BY 1`)
}

func (d *listedDatabase) copies(t *testing.T) []string {
	return d.texts(t, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_t_' AND NOT relispartition")
}

func (d *listedDatabase) marks(t *testing.T) []string {
	return d.texts(t, "SELECT conname FROM pg_constraint WHERE conname ~ 'tenancy_isolate' UNION ALL SELECT description FROM pg_description WHERE description ~ '^tenancy: copy'")
}

func TestIsolate(t *testing.T) {
	testdb.InBothForms(t, func(t *testing.T) {
		d := newListed(t)
		l := tenants(t, d.Database)
		rows := d.rows(t)
		keys, triggers := d.keys(t), d.triggers(t)
		records := d.texts(t, "SELECT count(*) FROM tenancy_audit")
		var steps []string
		report, err := l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{OnStep: func(s lifecycle.IsolateStep, table string) error {
			steps = append(steps, fmt.Sprint(s, " ", table))
			return nil
		}})
		require.NoError(t, err)
		require.Equal(t, []string{"make " + peopleTable, "copy " + peopleTable, "prove " + peopleTable, "switch " + peopleTable, "done " + peopleTable}, steps[:5])
		require.Len(t, report.Tables, 2)
		require.Equal(t, int64(10), report.Tables[0].Rows)
		require.Equal(t, "public.people_t_acme", report.Tables[0].Partition)
		require.Equal(t, int64(5), report.Tables[1].Rows)
		require.Positive(t, report.Tables[0].Lock)

		require.Equal(t, []string{"people_t_acme"}, d.at(t, "people", testdb.Acme))
		require.Equal(t, []string{"projects_t_acme"}, d.at(t, "projects", testdb.Acme))
		require.NotContains(t, append(d.at(t, "people", testdb.Globex), d.at(t, "projects", testdb.Globex)...), "people_t_acme")
		require.Equal(t, rows, d.rows(t))
		require.Equal(t, keys, d.keys(t), "foreign keys have survived")
		require.Equal(t, triggers, d.triggers(t))
		require.Equal(t, records, d.texts(t, "SELECT count(*) FROM tenancy_audit"), "moving a row changes none")
		require.Empty(t, d.marks(t))

		changes := d.Migrate(t, d.isolation, models...)
		changes = slices.DeleteFunc(changes, func(c rls.Change) bool { return strings.Contains(c.SQL, "tenancy_audit_truncate") })
		require.Empty(t, changes, "Migrate finds a partition like those that it makes")
		db := d.Open(t, d.Config())
		for _, tenant := range []string{testdb.Acme, testdb.Globex} {
			at := db.WithContext(testdb.As(tenant))
			require.NoError(t, at.Create(&Person{ID: 5000, Name: "new"}).Error)
			require.NoError(t, at.Delete(&Person{ID: 5000}).Error)
			require.ErrorContains(t, at.Exec("SELECT FROM people_t_acme").Error, "permission denied")
			require.ErrorContains(t, at.Exec("INSERT INTO tasks (project_id, id) VALUES (77777, 77777)").Error, "23503")
			require.ErrorContains(t, at.Exec("UPDATE people SET boss_id = 77777").Error, "23503")
			require.ErrorContains(t, at.Exec("DELETE FROM projects").Error, "23503", "tasks refer to them")
		}
		require.Equal(t, []string{"DELETE", "INSERT"}, d.texts(t, "SELECT operation FROM tenancy_audit WHERE tenant_id = 'acme' AND key @> '{\"id\": 5000}' ORDER BY 1"))

		again, err := l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{})
		require.NoError(t, err)
		require.True(t, again.Tables[0].Already && again.Tables[1].Already)
		other, err := l.Isolate(t.Context(), testdb.Globex, lifecycle.IsolateOptions{})
		require.NoError(t, err)
		require.Equal(t, int64(10), other.Tables[0].Rows)
		require.Equal(t, []string{"people_t_globex"}, d.at(t, "people", testdb.Globex))
		_, err = l.Isolate(t.Context(), "no rows yet", lifecycle.IsolateOptions{})
		require.ErrorIs(t, err, lifecycle.ErrNoRows)
		require.Empty(t, d.texts(t, "SELECT relname FROM pg_class WHERE relname ~ '_t_' AND relname !~ '_t_(acme|globex)'"), "nothing was made")
		empty, err := l.Isolate(t.Context(), "no rows yet", lifecycle.IsolateOptions{AllowEmpty: true})
		require.NoError(t, err)
		require.Zero(t, empty.Tables[0].Rows)
		require.Equal(t, rows, d.rows(t))
	})
}

// TestIsolateWhileTheApplicationWorks has both tenants write without a pause, and the copy addressed by name at each step.
func TestIsolateWhileTheApplicationWorks(t *testing.T) {
	d := newListed(t)
	db := d.Open(t, d.Config())
	stop, failed := make(chan struct{}), make(chan error, 2)
	var (
		writers sync.WaitGroup
		known   [2]map[int64]string // what the application was told
		writes  [2]int
	)
	for n, tenant := range []string{testdb.Acme, testdb.Globex} {
		known[n] = map[int64]string{}
		writers.Go(func() {
			for id := int64(1); ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				at, name := db.WithContext(testdb.As(tenant)), fmt.Sprint(tenant, id)
				key := 10_000 + id%40
				person := Person{ID: key, Name: name}
				err := at.Save(&person).Error
				known[n][key] = name
				if gone := 10_000 + (id*7)%40; err == nil && id%3 == 0 {
					err = at.Delete(&Person{ID: gone}).Error
					delete(known[n], gone)
				}
				if writes[n]++; err != nil {
					failed <- err
					return
				}
			}
		})
	}
	l := tenants(t, d.Database)
	attacks := 0
	_, err := l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{OnStep: func(s lifecycle.IsolateStep, table string) error {
		time.Sleep(50 * time.Millisecond) // for the tenants to write something
		if s == lifecycle.IsolateMake || table != peopleTable {
			return nil
		}
		attacks++
		for _, tenant := range []string{testdb.Acme, testdb.Globex} {
			require.ErrorContains(t, db.WithContext(testdb.As(tenant)).Exec("SELECT FROM people_t_acme").Error, "permission denied", s)
		}
		d.AsSuperuser(t, "GRANT SELECT ON people_t_acme TO "+d.App.Role) // as a careless colleague does
		var rows int64
		require.NoError(t, db.WithContext(testdb.As(testdb.Globex)).Raw("SELECT count(*) FROM people_t_acme").Scan(&rows).Error)
		require.Zero(t, rows, s)
		d.AsSuperuser(t, "REVOKE SELECT ON people_t_acme FROM "+d.App.Role)
		return nil
	}})
	close(stop)
	writers.Wait()
	require.NoError(t, err)
	require.Empty(t, failed, "no statement of the application fails")
	require.Equal(t, 4, attacks)
	for n, tenant := range []string{testdb.Acme, testdb.Globex} {
		require.Greater(t, writes[n], 10)
		var found []Person
		require.NoError(t, db.WithContext(testdb.As(tenant)).Where("id >= 10000").Find(&found).Error)
		names := map[int64]string{}
		for _, p := range found {
			require.NotContains(t, names, p.ID, "twice")
			names[p.ID] = p.Name
		}
		require.Equal(t, known[n], names)
	}
	require.Equal(t, []string{"people_t_acme"}, d.at(t, "people", testdb.Acme))
}

// killedIsolate is the process that kills itself at a step of a table.
func killedIsolate(ctx context.Context, l lifecycle.Tenants, at string) error {
	_, err := l.Isolate(ctx, testdb.Acme, lifecycle.IsolateOptions{OnStep: func(s lifecycle.IsolateStep, table string) error {
		if fmt.Sprint(s, " ", table) == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}})
	return err
}

// TestIsolateGoesOnAfterAKill kills the process at each step, one after another.
func TestIsolateGoesOnAfterAKill(t *testing.T) {
	d := newListed(t)
	rows := d.rows(t)
	db := d.Open(t, d.Config())
	for n, at := range []string{"copy " + peopleTable, "prove " + peopleTable, "switch " + peopleTable, "done " + peopleTable, "switch " + projectsTable} {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), killedOperation+"=isolate "+at, killedDSN+"="+d.Owner.DSN)
		out, err := child.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", out)
		require.Equal(t, -1, exit.ExitCode(), "%s: %s", at, out)
		if n < 3 {
			require.Equal(t, []string{"people_t_acme"}, d.copies(t))
			// No role has a right on the copy while it is filled, and no other run takes it for a table of the tenant's.
			require.ErrorContains(t, db.WithContext(testdb.As(testdb.Acme)).Exec("SELECT FROM people_t_acme").Error, "permission denied")
			report, err := tenants(t, d.Database).Count(t.Context(), testdb.Acme)
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(report.Left, func(l lifecycle.Left) bool { return l.Object == "public.people_t_acme" }))
			require.False(t, slices.ContainsFunc(report.Tables, func(t lifecycle.Table) bool { return t.Name == "public.people_t_acme" }))
		}
		// The tenant writes in between.
		require.NoError(t, db.WithContext(testdb.As(testdb.Acme)).Exec("UPDATE people SET name = name || 'x' WHERE id = ?", n+2).Error)
		require.NoError(t, db.WithContext(testdb.As(testdb.Acme)).Exec("UPDATE people SET name = left(name, -1) WHERE id = ?", n+2).Error)
	}
	_, err := tenants(t, d.Database).Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{})
	require.NoError(t, err)
	require.Equal(t, rows, d.rows(t))
	require.Equal(t, []string{"people_t_acme"}, d.at(t, "people", testdb.Acme))
	require.Equal(t, []string{"projects_t_acme"}, d.at(t, "projects", testdb.Acme))
	require.Empty(t, d.marks(t))
}

var errStop = errors.New("stop")

func stopAt(at string) lifecycle.IsolateOptions {
	return lifecycle.IsolateOptions{OnStep: func(s lifecycle.IsolateStep, table string) error {
		if fmt.Sprint(s, " ", table) == at {
			return errStop
		}
		return nil
	}}
}

// TestIsolateIsBackedOut also has a copy that is out of date or was changed.
func TestIsolateIsBackedOut(t *testing.T) {
	d := newListed(t)
	l := tenants(t, d.Database)
	schema := "SELECT concat_ws(' ', attrelid::regclass, attname, attnum) FROM pg_attribute WHERE attrelid::regclass::text ~ '^(people|projects)' ORDER BY 1"
	before := d.texts(t, schema)
	_, err := l.Isolate(t.Context(), testdb.Acme, stopAt("switch "+peopleTable))
	require.ErrorIs(t, err, errStop)
	require.NotEmpty(t, d.marks(t))
	dropped, err := l.BackOutIsolate(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.Equal(t, []string{"public.people_t_acme"}, dropped)
	require.Equal(t, before, d.texts(t, schema))
	require.Empty(t, d.marks(t))
	dropped, err = l.BackOutIsolate(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.Empty(t, dropped, "again")

	_, err = l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{MaxLock: time.Millisecond})
	require.ErrorIs(t, err, lifecycle.ErrLocked)
	require.NotContains(t, d.at(t, "people", testdb.Acme), "people_t_acme")

	// Somebody changes what the copy has, and who may read it. Neither gets into the table.
	d.AsSuperuser(t, "UPDATE people_t_acme SET name = 'forged' WHERE id = 3", "GRANT SELECT ON people_t_acme TO "+d.App.Role)
	_, err = l.Isolate(t.Context(), testdb.Acme, stopAt("done "+peopleTable))
	require.ErrorIs(t, err, errStop)
	require.Equal(t, []string{"p3"}, d.texts(t, "SELECT name FROM people WHERE tenant_id = 'acme' AND id = 3"))
	require.ErrorContains(t, d.Open(t, d.Config()).WithContext(testdb.As(testdb.Acme)).Exec("SELECT FROM people_t_acme").Error, "permission denied")

	// The table has grown since.
	_, err = l.Isolate(t.Context(), testdb.Acme, stopAt("prove "+projectsTable))
	require.ErrorIs(t, err, errStop)
	d.AsOwner(t, "ALTER TABLE projects ADD COLUMN since date DEFAULT '2024-01-01'")
	_, err = l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"2024-01-01"}, d.texts(t, "SELECT DISTINCT since::text FROM projects_t_acme"))
}

// TestIsolateBringsOverWhatChangesLast deletes, exchanges and inserts after the last pass, what is unique included.
func TestIsolateBringsOverWhatChangesLast(t *testing.T) {
	d := newListed(t)
	d.AsOwner(t, "ALTER TABLE people ADD CONSTRAINT named UNIQUE (tenant_id, name)")
	db := d.Open(t, d.Config())
	report, err := tenants(t, d.Database).Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{OnStep: func(s lifecycle.IsolateStep, table string) error {
		if s != lifecycle.IsolateSwitch || table != peopleTable {
			return nil
		}
		return db.WithContext(testdb.As(testdb.Acme)).Transaction(func(tx *gorm.DB) error {
			for _, statement := range []string{
				"UPDATE people SET boss_id = NULL WHERE boss_id IN (9, 10)",
				"DELETE FROM people WHERE id IN (9, 10)", "INSERT INTO people (id, name) VALUES (20, 'p9'), (10, 'p10 again')",
				"UPDATE people SET name = 'x' WHERE id = 6", "UPDATE people SET name = 'p6' WHERE id = 7", "UPDATE people SET name = 'p7' WHERE id = 6",
			} {
				if err := tx.Exec(statement).Error; err != nil {
					return err
				}
			}
			return nil
		})
	}})
	require.NoError(t, err)
	require.Positive(t, report.Tables[0].Last)
	require.Equal(t, []string{"10 p10 again", "20 p9", "6 p7", "7 p6", "8 p8"},
		d.texts(t, "SELECT id || ' ' || name FROM people WHERE tenant_id = 'acme' AND id > 5 ORDER BY id::text"))
	require.Equal(t, []string{"people_t_acme"}, d.at(t, "people", testdb.Acme))
}

// TestIsolateReadsNoOtherPartitionUnderLock asks PostgreSQL what it has not read.
func TestIsolateReadsNoOtherPartitionUnderLock(t *testing.T) {
	d := newListed(t)
	config, err := pgx.ParseConfig(d.Owner.DSN)
	require.NoError(t, err)
	config.RuntimeParams["client_min_messages"] = "debug1"
	var (
		mutex   sync.Mutex
		implied []string
	)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		mutex.Lock()
		defer mutex.Unlock()
		if strings.Contains(n.Message, "implied by existing constraints") {
			implied = append(implied, n.Message)
		}
	}
	l := tenants(t, d.Database)
	l.DB = stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = l.DB.Close() })
	_, err = l.Isolate(t.Context(), testdb.Acme, stopAt("done "+peopleTable))
	require.ErrorIs(t, err, errStop)
	mutex.Lock()
	defer mutex.Unlock()
	text := strings.Join(implied, "\n")
	require.Contains(t, text, `partition constraint for table "people_t_acme" is implied`)
	require.Equal(t, 2, strings.Count(text, `updated partition constraint for default partition "people_p`), text)
}

// TestIsolateRefuses names what would lose rows, or fail under lock.
func TestIsolateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		sql  []string
		with func(l *lifecycle.Tenants)
		err  string
	}{
		"published":          {sql: []string{"CREATE PUBLICATION p FOR TABLE people"}, err: "it is published for logical replication"},
		"published whole":    {sql: []string{"CREATE PUBLICATION p FOR ALL TABLES"}, err: "it is published for logical replication"},
		"key to a partition": {sql: []string{"CREATE TABLE beside (tenant_id text, id bigint, person_id bigint, FOREIGN KEY (tenant_id, person_id) REFERENCES people_p0 ON DELETE CASCADE)"}, with: func(l *lifecycle.Tenants) { l.Skip = map[string]string{"public.beside": "a test"} }, err: "refers to one of its partitions"},
		"key without policy": {sql: []string{"CREATE TABLE beside (tenant_id text, id bigint, person_id bigint, FOREIGN KEY (tenant_id, person_id) REFERENCES people)"}, with: func(l *lifecycle.Tenants) { l.Skip = map[string]string{"public.beside": "a test"} }, err: "of public.beside refers to it: that table must have the same owner, and policies"},
		"rule":               {sql: []string{"CREATE RULE r AS ON DELETE TO people_rest DO INSTEAD NOTHING"}, err: "it has rules"},
		"no default":         {sql: []string{"ALTER TABLE tasks DROP CONSTRAINT fk_projects_tasks", "DELETE FROM person_projects", "ALTER TABLE person_projects DROP CONSTRAINT fk_person_projects_project", "DROP TABLE projects_rest"}, err: "it has no DEFAULT partition"},
		"name":               {sql: []string{"CREATE TABLE people_t_acme ()"}, err: "public.people_t_acme is there, and is not the copy"},
		"one connection":     {with: func(l *lifecycle.Tenants) { l.DB.SetMaxOpenConns(1) }, err: "SetMaxOpenConns(2)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newListed(t)
			d.AsSuperuser(t, c.sql...)
			l := tenants(t, d.Database)
			if c.with != nil {
				c.with(&l)
			}
			before := d.at(t, "people", testdb.Acme)
			_, err := l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{})
			require.ErrorContains(t, err, c.err)
			require.Equal(t, before, d.at(t, "people", testdb.Acme))
			if name != "name" {
				require.Empty(t, d.copies(t), "nothing was begun")
			}
		})
	}
	t.Run("superuser", func(t *testing.T) {
		d := newListed(t)
		l := tenants(t, d.Database)
		l.DB, l.Isolation.AppRole = d.super, d.App.Role
		_, err := l.Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{})
		require.ErrorContains(t, err, "log in as its owner")
	})
	t.Run("not by list", func(t *testing.T) {
		_, err := tenants(t, filled(t)).Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{})
		require.ErrorContains(t, err, "no table is partitioned by LIST of the tenant column")
	})
}

// TestIsolateOfManyRows: under lock only what has changed since is brought over.
func TestIsolateOfManyRows(t *testing.T) {
	const rows = 10_000
	d := newListed(t)
	d.AsSuperuser(t, "ALTER TABLE people DISABLE TRIGGER USER",
		fmt.Sprintf("INSERT INTO people (id, tenant_id, name, boss_id) SELECT i, 'acme', repeat('name ', 20) || i, 1 FROM generate_series(10001, %d) i", 10_000+rows),
		fmt.Sprintf("INSERT INTO people (id, tenant_id, name) SELECT i, 'other' || i %% 100, repeat('name ', 20) || i FROM generate_series(10001, %d) i", 10_000+rows),
		fmt.Sprintf("INSERT INTO person_projects (tenant_id, person_id, project_id) SELECT 'acme', i, 1 FROM generate_series(10001, %d) i", 10_000+rows),
		"ALTER TABLE people ENABLE TRIGGER USER", "ALTER TABLE people ENABLE ALWAYS TRIGGER tenancy_audit", "VACUUM ANALYZE")
	db := d.Open(t, d.Config()).WithContext(testdb.As(testdb.Acme))
	report, err := tenants(t, d.Database).Isolate(t.Context(), testdb.Acme, lifecycle.IsolateOptions{MaxLock: time.Minute, OnStep: func(s lifecycle.IsolateStep, table string) error {
		if s != lifecycle.IsolateSwitch || table != peopleTable {
			return nil
		}
		return errors.Join(db.Exec("UPDATE people SET name = 'late' WHERE id BETWEEN 10101 AND 10150").Error, db.Exec("DELETE FROM people WHERE id = 10").Error)
	}})
	require.NoError(t, err)
	people := report.Tables[0]
	require.Equal(t, int64(rows+9), people.Rows)
	require.Equal(t, int64(51), people.Last)
	require.Equal(t, []string{"people_t_acme"}, d.at(t, "people", testdb.Acme))
	t.Logf("%d rows: copied in %s, locked for %s after %d tries", people.Rows, people.Live[0].Took.Round(time.Millisecond), people.Lock.Round(time.Millisecond), people.Tries)
}
