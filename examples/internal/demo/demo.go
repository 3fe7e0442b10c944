// Package demo runs an example: with a database of its own, until Ctrl-C.
package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// An App is what an example serves.
type App struct {
	Handler http.Handler
	// Close is called when no request runs any more. Nil means that there is nothing to close.
	Close func() error
	// Try tells people what to do first. "PORT" in it stands for the port that is served on.
	Try string
}

// Open makes the App of an example, in an empty database: it migrates as the owner, and works as the application.
type Open func(context.Context, *pgserver.Database) (App, error)

// Main is the main function of an example. It parses the flags (-addr, and those that the example defines), starts a
// PostgreSQL or joins the one that TENANCY_DSN names, and serves until the process is interrupted. Then it lets running
// requests finish and drops what was made. An error ends the process with status 1.
func Main(open Open) {
	addr := flag.String("addr", "localhost:8080", "address to serve on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr, open)
	stop()
	if err != nil {
		log.SetFlags(0)
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, open Open) (err error) {
	listener, err := net.Listen("tcp", addr) // first: a port that is taken should be known at once
	if err != nil {
		return err
	}
	defer listener.Close()
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	database, err := server.NewDatabase(ctx)
	if err != nil {
		return err
	}
	app, err := open(ctx, database)
	if err != nil {
		return err
	}
	if app.Close != nil {
		defer func() { err = errors.Join(err, app.Close()) }()
	}
	greet(listener.Addr(), server.Source(), app.Try)
	return Serve(ctx, listener, app.Handler)
}

// greet prints the address; programs wait for its first line, and for its last.
func greet(addr net.Addr, source, try string) {
	_, port, _ := net.SplitHostPort(addr.String())
	fmt.Printf("Serving on http://%s with %s.\n\n%s\n\nStop with Ctrl-C.\n",
		addr, source, strings.ReplaceAll(strings.Trim(try, "\n"), "PORT", port))
}
