package pgserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// The tests need local binaries: most are about what is done with them. Docker is played by a fake daemon, and the
// download by a repository of our own.

func TestMain(m *testing.M) {
	if os.Getenv("PGSERVER_TEST_HOLD") != "" {
		hold()
		return
	}
	code := Run(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// hold is what a holder runs: it has a server, and a database in it, until its standard input ends.
func hold() {
	s, err := Start(context.Background())
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	defer s.Close()
	if _, err := s.NewDatabase(context.Background()); err != nil {
		fmt.Println("failed:", err)
		return
	}
	if c, ok := s.instance.(*cluster); ok {
		fmt.Println(c.dir.path)
	} else {
		fmt.Println(s.roles.run)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// holder runs this test program again, prepared by the caller, and returns the first line it prints: the directory of
// the server that it holds until the end of the test, or the run at a server of TENANCY_DSN.
func holder(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // which ends it, unless it has been ended already
		patience := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		patience.Stop()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// started starts a server from local binaries and closes it at the end of the test.
func started(t *testing.T, opts ...Option) *Server {
	t.Helper()
	clean(t)
	s, err := Start(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// clean keeps the environment from choosing another source than the test does. TENANCY_PG_BINDIR stays: it is how the
// tests are run with several versions.
func clean(t *testing.T) {
	t.Helper()
	for _, name := range []string{"TENANCY_DSN", "TENANCY_PG", "TENANCY_PG_VERSION"} {
		t.Setenv(name, "")
	}
}

// connect connects until the end of the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

// within fails the test unless the condition comes true soon.
func within(t *testing.T, what string, ready func() bool) {
	t.Helper()
	require.Eventually(t, ready, 10*time.Second, 5*time.Millisecond, what)
}
