package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestRunTellsWhatFailed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	neverOpened := func(context.Context, *pgserver.Database) (App, error) { panic("opened") }
	require.ErrorContains(t, run(t.Context(), taken.Addr().String(), neverOpened), "address already in use")

	broken := errors.New("broken")
	err = run(t.Context(), "127.0.0.1:0", func(context.Context, *pgserver.Database) (App, error) { return App{}, broken })
	require.ErrorIs(t, err, broken)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
