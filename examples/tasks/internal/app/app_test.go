package app_test

import (
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/app"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// start starts the application with the tenants of the demo, on a database of its own.
func start(t *testing.T) http.Handler {
	t.Helper()
	d := pgserver.New(t)
	a, err := app.Start(t.Context(), app.Config{
		Owner: app.Login(d.Owner), App: app.Login(d.App), Worker: app.Login(d.Worker), Admin: d.Admin.Role, Lookup: d.Lookup.Role,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Demo: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a.Handler()
}
