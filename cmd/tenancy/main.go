// Command tenancy checks that a PostgreSQL database keeps its tenants apart, and prints the SQL that fixes what does not.
//
//	go run github.com/gormtenancy/tenancy/cmd/tenancy check --dsn postgres://app@localhost/shop
//
// Only "tenant import", "tenant erase --yes", "tenant move", "tenant isolate", "audit maintain", "keys add" and "keys retire" change the database; "explain --analyze" runs a statement and rolls it back. "tenancy help" lists the commands, and "tenancy help check" the options of one.
//
// The exit code is 0 if the command did its work and check found nothing, 1 if check has findings (at or above --fail-on, and not in
// --baseline) or diff dangerous differences,
// or lint, callsites or tenant diff found some, 2 after an error, and 130 after Ctrl-C.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() { os.Exit(interruptible()) }

func interruptible() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv})
}
