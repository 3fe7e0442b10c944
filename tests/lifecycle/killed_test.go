package lifecycle_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// What tells a process of this test binary what to do, where, and with which file.
const (
	killedOperation = "TENANCY_TEST_LIFECYCLE"
	killedDSN       = "TENANCY_TEST_LIFECYCLE_DSN"
	killedFile      = "TENANCY_TEST_LIFECYCLE_FILE"
)

// killed is the process that is killed. It writes a line at each call of Progress, and waits for an answer.
func killed(operation string) (exit int) {
	answers := bufio.NewReader(os.Stdin)
	pool, err := sql.Open("pgx", os.Getenv(killedDSN))
	if err == nil {
		l := lifecycle.Tenants{DB: pool, Actor: "a process", Logger: testdb.Quiet, BatchSize: 20, Progress: func(p lifecycle.Progress) {
			fmt.Println(p.Table, p.Done)
			_, _ = answers.ReadString('\n')
		}}
		err = killedRun(context.Background(), l, operation)
	}
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("done")
	return 0
}

func killedRun(ctx context.Context, l lifecycle.Tenants, operation string) error {
	if at, isolates := strings.CutPrefix(operation, "isolate "); isolates {
		return killedIsolate(ctx, l, at)
	}
	switch operation {
	case "erase":
		_, err := l.Erase(ctx, testdb.Acme)
		return err
	case "subject":
		l.BatchSize = 1
		_, err := lifecycle.Subjects{Tenants: l, Holdings: holdings(), Request: "DSR-1"}.Erase(ctx, testdb.Acme, bob)
		return err
	case "import":
		file, err := os.Open(os.Getenv(killedFile))
		if err != nil {
			return err
		}
		_, err = l.Import(ctx, "", file)
		return errors.Join(err, file.Close())
	}
	file, err := os.Create(os.Getenv(killedFile))
	if err != nil {
		return err
	}
	_, err = l.Export(ctx, testdb.Acme, file)
	return errors.Join(err, file.Close())
}

// killing starts processes and kills them.
type killing struct {
	*testdb.Database
	path   string
	random *rand.Rand
	kills  int
}

// run starts a process, and kills it at one of its first lines, before or after it goes on. It reports whether the process was killed; at
// a line below one it comes to its end.
func (k *killing) run(t *testing.T, operation string, at int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedOperation+"="+operation, killedFile+"="+k.path,
		killedDSN+"="+testdb.WithParam(k.Owner.DSN, "application_name", "killed"))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines, n, last := bufio.NewScanner(out), 0, ""
	for lines.Scan() {
		last = lines.Text()
		if last == "done" || strings.HasPrefix(last, "failed:") {
			break
		}
		if n++; n != at {
			_, err := io.WriteString(in, "go on\n")
			require.NoError(t, err)
			continue
		}
		if k.random.IntN(2) == 0 { // in the middle of what follows
			_, err := io.WriteString(in, "go on\n")
			require.NoError(t, err)
		}
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		k.kills++
		require.Eventually(t, func() bool {
			return rowsOf(t, k.Database, "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'killed'")[0] == "0"
		}, time.Minute, time.Millisecond, "the server ends the session")
		return true
	}
	require.Equal(t, "done", last)
	require.NoError(t, cmd.Wait())
	return false
}

// times kills a process some times, each at one of as many lines, and then lets one come to its end.
func (k *killing) times(t *testing.T, operation string, times, lines int, after func()) {
	t.Helper()
	for range times {
		require.True(t, k.run(t, operation, 1+k.random.IntN(lines)))
		after()
	}
	require.False(t, k.run(t, operation, 0))
}

// TestKilledRunsAreFinishedByTheNext: processes that export, erase and import, and erase a person, are killed 20 times.
func TestKilledRunsAreFinishedByTheNext(t *testing.T) {
	const rows = 3000
	k := &killing{Database: chained(t, rows), path: filepath.Join(t.TempDir(), "acme.tar"), random: rand.New(rand.NewPCG(3, 4))} //nolint:gosec // points of a test
	l := tenants(t, k.Database)
	acme, globex, none := checksum(t, k.Database, testdb.Acme), checksum(t, k.Database, testdb.Globex), checksum(t, k.Database, "no one")
	whole, _ := export(t, l, testdb.Acme)

	k.times(t, "export", 6, 2*largeTables, func() {
		file, err := os.Open(k.path)
		require.NoError(t, err)
		defer file.Close()
		_, err = l.Import(t.Context(), "new", file)
		require.ErrorIs(t, err, lifecycle.ErrArchive, "a file that was cut off is none")
	})
	k.times(t, "erase", 5, largeTables+10, func() { require.Equal(t, globex, checksum(t, k.Database, testdb.Globex)) })
	require.Equal(t, none, checksum(t, k.Database, testdb.Acme))
	k.times(t, "import", 4, 2*largeTables, func() {
		require.Equal(t, none, checksum(t, k.Database, testdb.Acme), "nothing of it is there")
	})
	require.Equal(t, acme, checksum(t, k.Database, testdb.Acme))
	require.Equal(t, globex, checksum(t, k.Database, testdb.Globex))
	again, _ := export(t, l, testdb.Acme)
	require.Equal(t, whole.Tables, again.Tables, "counts and hashes are equal")

	person := people(t)
	once := people(t)
	k.Database, globex = person, checksum(t, person, testdb.Globex)
	k.times(t, "subject", 5, len(holdings())+3, func() { require.Equal(t, globex, checksum(t, person, testdb.Globex)) })
	_, err := subjects(t, once).Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Equal(t, checksum(t, once, testdb.Acme), checksum(t, person, testdb.Acme), "as one run without an interruption leaves it")
	require.Equal(t, globex, checksum(t, person, testdb.Globex))
	require.Equal(t, 20, k.kills)
}
