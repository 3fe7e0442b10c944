// Tasks: a whole product under isolation. It is a multi-tenant API for projects and tasks, with a worker, in one program.
//
//	go run ./examples/tasks
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/app"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func main() { demo.Main(open) }

// open runs the application on a database that the example has made. A product reads these logins from its configuration.
func open(ctx context.Context, database *pgserver.Database) (demo.App, error) {
	a, err := app.Start(ctx, app.Config{
		Owner:  app.Login(database.Owner),
		App:    app.Login(database.App),
		Worker: app.Login(database.Worker),
		Admin:  database.Admin.Role,
		Lookup: database.Lookup.Role,
		Log:    slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Demo:   true,
		// So that the demonstration has somewhere to send them. A product leaves it out.
		DangerouslyAllowLoopbackWebhooks: true,
		DemoPage:                         true,
	})
	if err != nil {
		return demo.App{}, err
	}
	return demo.App{Handler: a.Handler(), Close: a.Close, Try: a.Try()}, nil
}
