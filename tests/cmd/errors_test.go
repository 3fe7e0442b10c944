package cmd_test

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMistakesInTheCommandLine(t *testing.T) {
	const dsn = "postgres://u:hunter2@127.0.0.1:1/db"
	for name, c := range map[string]struct {
		args []string
		why  string
	}{
		"nothing":             {nil, "Usage:"},
		"unknown command":     {[]string{"chekc"}, `unknown command "chekc"`},
		"DSN as command":      {[]string{dsn}, "unknown command"},
		"unknown option":      {[]string{"check", "--nope"}, "-nope"},
		"DSN as option":       {[]string{"check", "--" + dsn}, "not shown"},
		"DSN as format":       {[]string{"check", "--format", dsn}, "not shown"},
		"DSN as argument":     {[]string{"check", dsn}, "unknown argument: name the database with --dsn"},
		"unknown format":      {[]string{"check", "--format", "xml"}, "must be text, json or sarif"},
		"unknown severity":    {[]string{"check", "--fail-on", "mild"}, "must be critical, high, medium or low"},
		"incomplete allow":    {[]string{"check", "--allow", "code"}, "must be code=object=reason"},
		"no database":         {[]string{"check"}, "add --dsn or set DATABASE_URL"},
		"no database for sql": {[]string{"sql"}, "add --dsn or set DATABASE_URL"},
		"format of sql":       {[]string{"sql", "--format", "json"}, "-format"},
		"no tenant":           {[]string{"explain", "--dsn", dsn, "SELECT 1"}, "add --tenant"},
		"no statement":        {[]string{"explain", "--dsn", dsn, "--tenant", "x"}, "give one statement"},
		"statements":          {[]string{"explain", "--dsn", dsn, "--tenant", "x", "SELECT", "1"}, "give one statement"},
		"setting":             {[]string{"explain", "--dsn", dsn, "--tenant", "x", "--setting", "role", "SELECT 1"}, "--setting"},
		"argument of version": {[]string{"version", "now"}, `unknown argument "now"`},
		"unknown help":        {[]string{"help", "chekc"}, `unknown command "chekc"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := tenancy(t, c.args...)
			r.failed(t, c.why, "Usage:")
			if len(c.args) > 0 {
				lines := strings.Split(strings.TrimSpace(r.errors), "\n")
				require.Contains(t, lines[len(lines)-1], c.why, "the error is last")
				require.LessOrEqual(t, len(lines), 4, r.errors)
			}
			require.NotContains(t, r.errors, "hunter2")
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"help", "check"}, {"check", "-h"}, {"explain", "--help"}} {
		r := tenancy(t, args...)
		require.Equal(t, 0, r.exit)
		require.Contains(t, r.out, "Usage:")
		require.Empty(t, r.errors)
	}
	require.Contains(t, tenancy(t, "help", "sql").out, "--allow code=object=reason")
	for _, name := range []string{"version", "--version"} {
		r := tenancy(t, name)
		require.Equal(t, 0, r.exit)
		require.Regexp(t, `^tenancy \S+ \(go\S+( .*)?\)\n$`, r.out)
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	d := newDatabase(t)
	wrong, err := url.Parse(d.App.DSN)
	require.NoError(t, err)
	password, _ := wrong.User.Password()
	nowhere, badPort, badMode := *wrong, *wrong, *wrong
	nowhere.Host = "127.0.0.1:1"
	badPort.Host = "127.0.0.1:99999"
	badMode.RawQuery = "sslmode=nonsense"
	wrong.Path = "/no_such_database"
	file := filepath.Join(t.TempDir(), password)
	for _, dsn := range []string{
		wrong.String(), nowhere.String(), badPort.String(), badMode.String(),
		"postgres://u:1/" + password + "@127.0.0.1:1/db",
		"host=127.0.0.1 port=1 user=u password='" + password,
		"host=127.0.0.1 port=1 user=u password=" + password,
		"host=127.0.0.1 user=u sslmode=verify-full sslrootcert=" + file,
	} {
		for _, c := range []command{
			{args: []string{"check", "--dsn", dsn}},
			{args: []string{"sql"}, url: dsn},
			{args: []string{"explain", "--tenant", "x", "SELECT 1"}, url: dsn},
		} {
			r := c.run(t)
			r.failed(t, "tenancy "+c.args[0]+": ")
			require.NotContains(t, r.errors, password)
			require.NotContains(t, r.errors, "Usage:", "the command line is right")
		}
	}

	r := tenancy(t, d.options(t, "check")...)
	require.NotContains(t, r.out, password)
	_, err = os.Stat(file)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRolesThatDoNotExist(t *testing.T) {
	d := newDatabase(t)
	tenancy(t, "check", "--dsn", d.Owner.DSN, "--app-role", "nobody_here").failed(t, `--app-role: role "nobody_here" does not exist`)
	tenancy(t, "sql", "--dsn", d.Owner.DSN, "--admin-role", "nobody_here").failed(t, `--admin-role: role "nobody_here" does not exist`)
	tenancy(t, "sql", "--dsn", d.Owner.DSN, "--read-only-role", "nobody_here").failed(t, `--read-only-role: role "nobody_here" does not exist`)
	tenancy(t, "explain", "--dsn", d.Owner.DSN, "--app-role", "nobody_here", "--tenant", "x", "SELECT 1").
		failed(t, `--app-role: role "nobody_here" does not exist`)
	tenancy(t, "explain", "--dsn", d.App.DSN, "--app-role", d.Owner.Role, "--tenant", "x", "SELECT 1").
		failed(t, "--app-role: the login cannot take the role")
}

func TestCheckOfNothing(t *testing.T) {
	empty := pgserver.New(t)
	tenancy(t, "check", "--dsn", empty.App.DSN).failed(t, `no table has the column "tenant_id"`)
	tenancy(t, "sql", "--dsn", empty.App.DSN).failed(t, `no table has the column "tenant_id"`)
	d := newDatabase(t)
	tenancy(t, d.options(t, "check", "--column", "org_id")...).failed(t, `no table has the column "org_id"`)
	tenancy(t, d.options(t, "check", "--schema", "nowhere")...).failed(t, `schema "nowhere" does not exist`)
	tenancy(t, d.options(t, "check", "--allow", "no-such-code=x=y")...).failed(t, `"no-such-code" does not exist`)
	tenancy(t, d.options(t, "check", "--setting", "tenant")...).failed(t, `"tenant"`)
}

// A server that says it is PostgreSQL 13, and answers nothing else.
func TestServerThatIsTooOld(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- greetAsOldServer(listener) }()
	dsn := "postgres://u:hunter2@" + listener.Addr().String() + "/db?sslmode=disable"
	r := tenancy(t, "check", "--dsn", dsn)
	r.failed(t, "PostgreSQL 13.23", "too old", "14 or later")
	require.False(t, strings.Contains(r.errors, "hunter2"))
	require.NoError(t, listener.Close())
	require.NoError(t, <-served)
}

func greetAsOldServer(listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return err
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "13.23 (Debian 13.23-1)"})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := backend.Flush(); err != nil {
		return err
	}
	for {
		message, err := backend.Receive()
		if err != nil {
			return err
		}
		if _, done := message.(*pgproto3.Terminate); done {
			return nil
		}
		// A ping, which an empty query answers.
		if _, asked := message.(*pgproto3.Query); asked {
			backend.Send(&pgproto3.EmptyQueryResponse{})
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if err := backend.Flush(); err != nil {
				return err
			}
		}
	}
}

// TestInterruptIsNotAnError interrupts a command that waits for a server which accepts connections and never answers.
func TestInterruptIsNotAnError(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // has no interrupt to send
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	cmd := exec.CommandContext(t.Context(), binary, "check", "--dsn", "postgres://u:hunter2@"+listener.Addr().String()+"/db")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	require.NoError(t, cmd.Start())
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	require.Equal(t, "tenancy check: interrupted\n", errOut.String())
}
