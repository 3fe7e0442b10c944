// Package meter tells what a request costs: how many statements it sent to PostgreSQL, and how many network round trips
// it waited for. They are counted on the socket, so that nothing is left out: preparing statements, ending transactions,
// pinging a connection that was idle.
package meter

import (
	"context"
	"sync/atomic"
)

// Counter counts what is done under one context. It may be read at any time.
type Counter struct{ statements, roundTrips atomic.Int64 }

// Statements is the number of statements sent. BEGIN, COMMIT and ROLLBACK of an explicit transaction are not among them.
func (c *Counter) Statements() int64 { return c.statements.Load() }

// RoundTrips is how often something was sent and an answer awaited. Connecting is not counted.
func (c *Counter) RoundTrips() int64 { return c.roundTrips.Load() }

type counterKey struct{}

// WithCounter returns a context whose statements are counted, and their Counter.
func WithCounter(ctx context.Context) (context.Context, *Counter) {
	c := new(Counter)
	return context.WithValue(ctx, counterKey{}, c), c
}

// counterOf returns the Counter of a context, or nil.
func counterOf(ctx context.Context) *Counter {
	c, _ := ctx.Value(counterKey{}).(*Counter)
	return c
}
