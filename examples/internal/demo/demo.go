// Package demo runs an example with a database of its own, until Ctrl-C.
package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// App is what an example serves.
type App struct {
	Handler http.Handler
	// Close is called after the last request has ended. Nil means that there is nothing to close.
	Close func() error
	// Try says what to try first. "PORT" in it stands for the port of the server.
	Try string
}

// Open makes the App of an example in an empty database. It migrates as the owner, and connects as the application.
type Open func(context.Context, *pgserver.Database) (App, error)

// Main is the main function of an example. It parses the flags (-addr, and those that the example defines), starts a
// PostgreSQL or uses the server that TENANCY_DSN names, and serves until Ctrl-C. Then it waits for running requests and
// drops what it made.
//
// The exit code is 0 after Ctrl-C, 130 if Ctrl-C came before the example served, 1 after an error, and 2 after a wrong
// flag or argument.
func Main(open Open) {
	addr := flag.String("addr", "localhost:8080", "the `address` to serve on")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "Error: unexpected argument %q; -h lists the flags\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	err := run(ctx, *addr, open)
	stop()
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// errInterrupted replaces the errors that Ctrl-C causes during the start.
var errInterrupted = errors.New("interrupted")

func run(ctx context.Context, addr string, open Open) (err error) {
	listener, err := net.Listen("tcp", addr) // before PostgreSQL starts, because it fails at once if the port is taken
	if err != nil {
		return fmt.Errorf("cannot serve on %s: %w; choose another address with -addr, such as -addr localhost:8081", addr, err)
	}
	defer listener.Close()
	server, app, err := start(ctx, open)
	if server != nil {
		defer func() { err = errors.Join(err, server.Close()) }()
	}
	if app.Close != nil {
		defer func() { err = errors.Join(err, app.Close()) }()
	}
	if err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return err
	}
	greet(listener.Addr(), server.Source(), app.Try)
	return Serve(ctx, listener, app.Handler)
}

// start starts PostgreSQL and the example. After an error it returns what must be closed nevertheless.
func start(ctx context.Context, open Open) (*pgserver.Server, App, error) {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return nil, App{}, err
	}
	database, err := server.NewDatabase(ctx)
	if err != nil {
		return server, App{}, err
	}
	app, err := open(ctx, database)
	return server, app, err
}

// greet prints the address. Programs wait for its first and its last line.
func greet(addr net.Addr, source, try string) {
	_, port, _ := net.SplitHostPort(addr.String())
	fmt.Printf("Serving on http://%s with %s.\n\n%s\n\nStop with Ctrl-C.\n",
		addr, source, strings.ReplaceAll(strings.Trim(try, "\n"), "PORT", port))
}
