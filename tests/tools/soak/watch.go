package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy"
)

// sample is what the process and the server hold at one moment.
type sample struct {
	at         time.Duration
	heap       uint64 // bytes in use after a garbage collection
	goroutines int
}

// watch takes samples until the context ends, and says how it goes.
func (r *report) watch(ctx context.Context, f *fixture) {
	tick := time.NewTicker(r.plan.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		s := sample{at: time.Since(r.begun), heap: m.HeapInuse, goroutines: runtime.NumGoroutine()}
		for _, c := range f.clients {
			if err := c.countPrepared(ctx, r, 2); err != nil && kind(err) == "" {
				r.unexplained(err)
			}
		}
		r.add(s)
		fmt.Fprintln(r.plan.out, r.line(s))
	}
}

// countPrepared asks some connections of the client's pool how many statements are prepared there.
func (c *client) countPrepared(ctx context.Context, r *report, conns int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, tooLong)
	defer cancel()
	for range conns {
		conn, connErr := c.inner.Conn(ctx)
		if connErr != nil {
			return errors.Join(err, connErr)
		}
		defer func() { _ = conn.Close() }() // when all have been asked, so that each is another
		var n int
		askErr := conn.QueryRowContext(tenancy.WithoutTenant(ctx), "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'tenancy%'",
			pgx.QueryExecModeExec).Scan(&n) // prepares nothing itself
		if askErr != nil {
			err = errors.Join(err, askErr)
			continue
		}
		r.prepared(n)
	}
	return err
}
