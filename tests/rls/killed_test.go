package rls_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/rls"
)

// What tells a process of this test binary to migrate, and where and for what roles.
const (
	migratesDSN   = "TENANCY_TEST_MIGRATES"
	migratesApp   = "TENANCY_TEST_MIGRATES_APP"
	migratesAdmin = "TENANCY_TEST_MIGRATES_ADMIN"
)

// migrates is the process that migrates. It writes a line before each step and after each batch, and waits for an answer.
func migrates(dsn string) (exit int) {
	answers := bufio.NewReader(os.Stdin)
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	i := rls.Isolation{
		AppRole: os.Getenv(migratesApp), AdminRole: os.Getenv(migratesAdmin),
		Fills: []rls.Fill{{Model: &depot{}, Tenant: "owner"}},
		Progress: func(p rls.Progress) {
			middle := ""
			if p.Done < p.Total {
				middle = ", in the middle"
			}
			fmt.Printf("%s: %s%s\n", p.Table, p.Description, middle)
			_, _ = answers.ReadString('\n')
		},
	}
	if _, err := i.Migrate(context.Background(), db, depots...); err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("done")
	return 0
}

// process is a migration in a process of its own.
type process struct {
	*exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func (d database) startMigration(t *testing.T) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.Env = append(os.Environ(), migratesDSN+"="+d.Owner.DSN, migratesApp+"="+d.App.Role, migratesAdmin+"="+d.Admin.Role)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.in, err = p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	p.lines = bufio.NewScanner(out)
	return p
}

// until lets the migration go on until it has written this line, and returns all that it has written. An empty line is never written.
func (p *process) until(t *testing.T, line string) (all []string, found bool) {
	t.Helper()
	for p.lines.Scan() {
		all = append(all, p.lines.Text())
		if p.lines.Text() == line {
			return all, true
		}
		if p.lines.Text() == "done" || strings.HasPrefix(p.lines.Text(), "failed:") {
			break
		}
		_, err := p.in.Write([]byte("go on\n"))
		require.NoError(t, err)
	}
	require.NotEmpty(t, all)
	require.Equal(t, "done", all[len(all)-1])
	require.NoError(t, p.Wait())
	return all, false
}

// kill is kill -9.
func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.Wait())
}

// countUpdates has PostgreSQL count how often rows get a tenant.
var countUpdates = []string{
	"ALTER TABLE parcels ADD touched int NOT NULL DEFAULT 0", "ALTER TABLE labels ADD touched int NOT NULL DEFAULT 0",
	"CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END $$",
	"CREATE TRIGGER touch BEFORE UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION touch()",
	"CREATE TRIGGER touch BEFORE UPDATE ON labels FOR EACH ROW EXECUTE FUNCTION touch()",
}

// TestMigrateGoesOnAfterItWasKilled kills a migration at each of its steps, and in the middle of what takes batches, one after another in
// one database. What it leaves is what a migration leaves that runs undisturbed.
func TestMigrateGoesOnAfterItWasKilled(t *testing.T) {
	t.Parallel()
	undisturbed, killed := newDatabase(t), newDatabase(t)
	for _, d := range []database{undisturbed, killed} {
		d.oldDepots(t)
		d.AsOwner(t, countUpdates...)
	}
	points, found := undisturbed.startMigration(t).until(t, "")
	require.False(t, found)

	kills := map[string]bool{}
	for _, point := range points[:len(points)-1] {
		if kills[point] {
			continue
		}
		p := killed.startMigration(t)
		if _, found := p.until(t, point); found {
			kills[point] = true
			p.kill(t)
		}
		require.Empty(t, killed.exposed(t), "killed at %s", point)
	}
	require.Contains(t, kills, "public.parcels: give each row the tenant of its row of public.depots, in the middle")
	require.Contains(t, kills, "public.labels: make index idx_labels_text")
	require.Contains(t, kills, "public.labels: validate foreign key fk_parcels_labels")
	require.Contains(t, kills, "public.labels: require tenant_id")

	_, found = killed.startMigration(t).until(t, "")
	require.False(t, found)
	require.Equal(t, undisturbed.dump(t), killed.dump(t))
	require.Equal(t, undisturbed.contents(t), killed.contents(t))
	require.Equal(t, []string{"1"}, collect(t, killed.admin(t), "SELECT DISTINCT touched FROM (SELECT touched FROM parcels UNION SELECT touched FROM labels) t"))
	require.Empty(t, killed.locks(t))
}

// exposed are the tables that have a policy and are not isolated by it, or are so while others are not.
func (d database) exposed(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, `
		WITH t AS (
			SELECT relname, relrowsecurity, relforcerowsecurity, EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS policy
			FROM pg_class c WHERE relname IN ('depots', 'parcels', 'labels'))
		SELECT relname FROM t
		WHERE (relrowsecurity OR relforcerowsecurity OR EXISTS (SELECT FROM t WHERE policy)) AND NOT (relrowsecurity AND relforcerowsecurity AND policy)`)
}

// TestMigrateGoesOnAfterItWasKilledAtAnIndex kills a migration while PostgreSQL makes an index, which leaves it INVALID.
func TestMigrateGoesOnAfterItWasKilledAtAnIndex(t *testing.T) {
	t.Parallel()
	undisturbed, killed := newDatabase(t), newDatabase(t)
	undisturbed.oldDepots(t)
	killed.oldDepots(t)
	undisturbed.migrateWith(t, undisturbed.depots(), depots...)
	pool, err := killed.OwnerDB.DB()
	require.NoError(t, err)

	for _, point := range []string{
		"public.labels: make index idx_labels_text", "public.depots: make uni_depots_code unique within a tenant", "public.parcels: make unique tenant_id, id",
	} {
		p := killed.startMigration(t)
		_, found := p.until(t, point)
		require.True(t, found, point)
		writer, err := pool.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		for _, table := range []string{"depots", "parcels", "labels"} {
			_, err = writer.Exec("UPDATE " + table + " SET id = id WHERE id = 1")
			require.NoError(t, err)
		}
		_, err = p.in.Write([]byte("go on\n"))
		require.NoError(t, err)
		const making = "FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'"
		killed.await(t, "SELECT "+making)
		p.kill(t)
		_, err = pool.Exec("SELECT pg_terminate_backend(pid) " + making) // as the server does when it notices
		require.NoError(t, err)
		killed.await(t, "SELECT WHERE NOT EXISTS (SELECT "+making+")")
		require.NoError(t, writer.Commit())
		require.Len(t, collect(t, pool, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"), 1, point)
	}
	changes := killed.migrateWith(t, killed.depots(), depots...)
	require.Contains(t, changes, "public.parcels: drop unfinished index uni_parcels_tenant_id_id, concurrently")
	require.Equal(t, undisturbed.dump(t), killed.dump(t))
	require.Equal(t, undisturbed.contents(t), killed.contents(t))
}
