// Generate writes the client of the API into the current directory: go generate ./client calls it. It starts the application on a database of its
// own, because the document comes from its routes.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/app"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/clientgen"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := generate(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context) error {
	document, err := document(ctx)
	if err != nil {
		return err
	}
	code, err := clientgen.Code(ctx, document)
	if err != nil {
		return err
	}
	return os.WriteFile("client.gen.go", []byte(code), 0o644)
}

// document returns what the application serves.
func document(ctx context.Context) (_ []byte, err error) {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }()
	d, err := server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	a, err := app.Start(ctx, app.Config{
		Owner: app.Login(d.Owner), App: app.Login(d.App), Worker: app.Login(d.Worker), Admin: d.Admin.Role, Lookup: d.Lookup.Role,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Close() }()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, clientgen.DocumentPath, nil))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("%s: %d", clientgen.DocumentPath, w.Code)
	}
	return w.Body.Bytes(), nil
}
