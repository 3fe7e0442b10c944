package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// plan says how long and how hard to work.
type plan struct {
	duration, every, faults time.Duration
	goroutines              int
	out                     io.Writer // for progress
}

// soak does all of it. Its error is about what should not fail, such as starting a server; what was found out is in the
// report.
func soak(ctx context.Context, p plan) (_ *report, err error) {
	f, err := newFixture(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	fmt.Fprintf(p.out, "soak: %s, %d goroutines, %d tenants, for %s\n", f.server.Source(), p.goroutines, tenants, p.duration)

	working, cancel := context.WithTimeout(ctx, p.duration)
	defer cancel()
	r := &report{begun: time.Now(), plan: p, errs: make(map[string]int)}
	var running sync.WaitGroup
	for i := range p.goroutines {
		running.Go(func() { f.work(working, f.clients[i%len(f.clients)], r) })
	}
	running.Go(func() { f.disturb(working, p.faults, r) })
	r.watch(working, f)
	running.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err() // interrupted
	}
	r.took = time.Since(r.begun)
	return r, f.settle(ctx, r)
}

// settle looks at what is left when all is quiet.
func (f *fixture) settle(ctx context.Context, r *report) error {
	for _, c := range f.clients {
		// database/sql rolls back a cancelled transaction on a goroutine of its own.
		for range 1000 {
			if c.inner.Stats().InUse == 0 {
				break
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.inUse += c.inner.Stats().InUse
		if err := c.countPrepared(ctx, r, c.maxOpen); err != nil && kind(err) == "" { // some were cut at the very end
			return err
		}
	}
	return f.checkRows(ctx, r)
}
