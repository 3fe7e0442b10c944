package pgbouncer

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// bouncer is a running PgBouncer in transaction mode.
type bouncer struct {
	program string
	address string
	minor   int // 18 is PgBouncer 1.18
	// prepared is how many prepared statements it keeps account of on a server connection, so that they can be used with whatever one
	// comes next: max_prepared_statements, 0 for none.
	prepared int
}

// The minor versions from which on PgBouncer keeps account of prepared statements, as 1.21 does as well but not across its own reset
// of the server connection; and from which on it gives no server to the next client that still answers one that has left.
const (
	firstThatPrepares = 22
	firstInStep       = 21
)

// preparedCounts are the numbers of prepared statements that PgBouncer can be set to keep account of.
func preparedCounts(t testing.TB) []int {
	t.Helper()
	if minor(t, program(t)) < firstThatPrepares {
		return []int{0}
	}
	return []int{0, maxPrepared}
}

// program is PgBouncer's: what TENANCY_PGBOUNCER names, or what is installed.
func program(t testing.TB) string {
	t.Helper()
	if named := os.Getenv("TENANCY_PGBOUNCER"); named != "" {
		return named
	}
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // which is not in every user's PATH
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal(`these tests need PgBouncer: "apt install pgbouncer" or "brew install pgbouncer", or name the program in TENANCY_PGBOUNCER`)
	return ""
}

var versionPattern = regexp.MustCompile(`PgBouncer 1\.(\d+)`)

// minor returns 18 for PgBouncer 1.18.
func minor(t testing.TB, program string) int {
	t.Helper()
	out, err := exec.Command(program, "--version").CombinedOutput()
	require.NoError(t, err, string(out))
	found := versionPattern.FindStringSubmatch(string(out))
	require.NotNil(t, found, string(out))
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// start starts a PgBouncer until the end of the test. Each role has as many server connections in a database as the
// pool is large. It resets a connection to the server after each transaction, or as it is set up by default, never. It keeps account of so
// many prepared statements.
func start(t testing.TB, pool int, resets bool, prepared int, logins ...pgserver.Login) *bouncer {
	t.Helper()
	b := &bouncer{program: program(t), prepared: prepared}
	b.minor = minor(t, b.program)

	server, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	var users strings.Builder
	for _, login := range logins {
		u, err := url.Parse(login.DSN)
		require.NoError(t, err)
		password, _ := u.User.Password()
		fmt.Fprintf(&users, "%q %q\n", login.Role, password)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.address = l.Addr().String()
	_, port, err := net.SplitHostPort(b.address)
	require.NoError(t, err)
	require.NoError(t, l.Close())

	config := []string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%s", server.Hostname(), server.Port()),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		"listen_port = " + port,
		"unix_socket_dir =",
		"auth_type = scram-sha-256",
		"auth_file = users",
		"pool_mode = transaction",
		"default_pool_size = " + strconv.Itoa(pool),
		"max_client_conn = 500",
		"log_connections = 0",
		"log_disconnections = 0",
	}
	if resets {
		config = append(config, "server_reset_query = DISCARD ALL", "server_reset_query_always = 1")
	}
	if b.minor >= firstThatPrepares {
		config = append(config, "max_prepared_statements = "+strconv.Itoa(prepared))
	}
	c, err := pgserver.StartCompanion(t.Context(), map[string]string{
		"config": strings.Join(config, "\n") + "\n",
		"users":  users.String(),
	}, b.program, "config")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, err := c.Log()
			t.Logf("PgBouncer said (%v):\n%s", err, log)
		}
		require.NoError(t, c.Close())
	})
	b.await(t, c, logins[0].DSN)
	return b
}

// maxPrepared is fewer than the tests prepare, so that PgBouncer has to let some go.
const maxPrepared = 20

// await returns when PgBouncer takes connections.
func (b *bouncer) await(t testing.TB, c *pgserver.Companion, login string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	var err error
	for {
		var conn *pgx.Conn
		if conn, err = pgx.Connect(t.Context(), b.dsn(t, login)); err == nil {
			require.NoError(t, conn.Close(t.Context()))
			return
		}
		select {
		case <-tick.C:
			continue
		case <-c.Ended():
		case <-deadline:
		}
		log, logErr := c.Log()
		require.NoError(t, logErr)
		t.Fatalf("PgBouncer does not serve: %v\n%s", err, log)
	}
}

// dsn turns a login at the server, as a URL, into the same login through PgBouncer, with query parameters set.
func (b *bouncer) dsn(t testing.TB, of string, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(of)
	require.NoError(t, err)
	u.Host = b.address
	q := u.Query()
	q.Set("sslmode", "disable")
	for _, parameter := range parameters {
		name, value, _ := strings.Cut(parameter, "=")
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// onEach asks the same of every server connection of a login, as another client of PgBouncer that knows of no tenants:
// it holds a transaction open on each, so that there is one for every other.
func (b *bouncer) onEach(t testing.TB, login pgserver.Login, pool int, ask func(pid uint32, tx pgx.Tx)) {
	t.Helper()
	ctx := context.Background()
	seen := map[uint32]bool{}
	for range pool {
		conn, err := pgx.Connect(ctx, b.dsn(t, login.DSN, "default_query_exec_mode=simple_protocol"))
		require.NoError(t, err)
		defer conn.Close(ctx)
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(ctx)) }()
		var pid uint32 // the connection's own is PgBouncer's
		require.NoError(t, tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid))
		require.False(t, seen[pid], "a server connection of two")
		seen[pid] = true
		ask(pid, tx)
	}
}
