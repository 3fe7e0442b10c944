// Package meter measures what a request costs: the statements that it sent to PostgreSQL, and the network round trips that it
// waited for. Round trips are counted on the socket, so that preparing statements, ending transactions and pinging idle
// connections are included.
package meter

import (
	"context"
	"sync/atomic"
)

// Counter counts what one context has done. It may be read at any time.
type Counter struct{ statements, roundTrips atomic.Int64 }

// Statements is the number of statements sent. It does not include BEGIN, COMMIT and ROLLBACK.
func (c *Counter) Statements() int64 { return c.statements.Load() }

// RoundTrips is the number of network round trips. Connecting is not counted.
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
