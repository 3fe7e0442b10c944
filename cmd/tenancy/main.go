// Command tenancy checks that a PostgreSQL database keeps its tenants apart, and prints the SQL that mends it.
//
//	go run github.com/gormtenancy/tenancy/cmd/tenancy check --dsn postgres://app@localhost/shop
//
// It never writes to the database. "tenancy help" lists what it can do.
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
