package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) {
	if os.Getenv("DEMO_TEST_SLOW_START") != "" {
		Main(func(ctx context.Context, _ *pgserver.Database) (App, error) {
			fmt.Println("starting")
			<-ctx.Done()
			return App{}, errors.New("internals")
		})
		return
	}
	goleak.VerifyTestMain(m)
}

func TestMainInterruptedDuringTheStart(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "DEMO_TEST_SLOW_START=1")
	var said strings.Builder
	cmd.Stderr = &said
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "starting\n", line)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	require.Equal(t, "interrupted\n", said.String())
}

// TestRun: a request that is under way when the example is stopped gets its answer, and all is closed.
func TestRun(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var closed, served bool
	app := func(context.Context, *pgserver.Database) (App, error) {
		return App{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				interrupt()
				<-ctx.Done()
				_, err := w.Write([]byte("bye"))
				served = err == nil && !closed
			}),
			Close: func() error { closed = true; return nil },
		}, nil
	}
	addr := freeAddr(t)
	done := make(chan error, 1)
	open := make(chan struct{})
	go func() {
		done <- run(ctx, addr, func(ctx context.Context, d *pgserver.Database) (App, error) {
			defer close(open)
			return app(ctx, d)
		})
	}()
	<-open
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "bye", string(body))
	require.NoError(t, resp.Body.Close())
	require.NoError(t, <-done)
	require.True(t, served)
	require.True(t, closed)
}

func TestRunNamesTheFlagIfThePortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	neverOpened := func(context.Context, *pgserver.Database) (App, error) { panic("opened") }
	err = run(t.Context(), taken.Addr().String(), neverOpened)
	require.ErrorContains(t, err, "cannot serve on "+taken.Addr().String())
	require.ErrorContains(t, err, "address already in use")
	require.ErrorContains(t, err, "-addr")
}

func TestRunReturnsTheErrorOfOpen(t *testing.T) {
	broken := errors.New("broken")
	err := run(t.Context(), "127.0.0.1:0", func(context.Context, *pgserver.Database) (App, error) { return App{}, broken })
	require.ErrorIs(t, err, broken)
}

// TestRunInterruptedDuringTheStart: whatever fails because of Ctrl-C, people read one word.
func TestRunInterruptedDuringTheStart(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	err := run(ctx, "127.0.0.1:0", func(ctx context.Context, d *pgserver.Database) (App, error) {
		interrupt()
		_, err := pgx.Connect(ctx, d.App.DSN)
		return App{}, err
	})
	require.EqualError(t, err, "interrupted")

	err = run(ctx, "127.0.0.1:0", func(context.Context, *pgserver.Database) (App, error) { panic("opened") })
	require.EqualError(t, err, "interrupted", "while PostgreSQL starts")
}

// TestRunAtAServerOfTheUser takes both forms of TENANCY_DSN, and leaves nothing there.
func TestRunAtAServerOfTheUser(t *testing.T) {
	server, err := pgserver.Start(t.Context())
	require.NoError(t, err)
	defer server.Close()
	cfg, err := pgx.ParseConfig(server.DSN())
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	count := func() (n int) {
		const query = "SELECT (SELECT count(*) FROM pg_database) + (SELECT count(*) FROM pg_roles)"
		require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	before := count()
	t.Setenv("TENANCY_PG", "")
	t.Setenv("TENANCY_PG_BINDIR", "")
	for _, dsn := range []string{
		server.DSN(),
		fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database),
	} {
		t.Setenv("TENANCY_DSN", dsn)
		ctx, interrupt := context.WithCancel(t.Context())
		opened := false
		require.NoError(t, run(ctx, "127.0.0.1:0", func(ctx context.Context, d *pgserver.Database) (App, error) {
			db, err := Connect(d.App.DSN)
			if err != nil {
				return App{}, err
			}
			opened = true
			require.Greater(t, count(), before)
			time.AfterFunc(10*time.Millisecond, interrupt)
			return App{Handler: http.NotFoundHandler(), Close: func() error { return Disconnect(db) }}, nil
		}))
		require.True(t, opened)
		require.Equal(t, before, count())
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
