package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gormtenancy/tenancy/tests/wire"
)

// network is what lies between the client and the server.
type network struct {
	name     string
	proxied  bool
	delay    time.Duration // in each direction
	variants []variant

	full, quick time.Duration // of one operation
	quickly     []string      // the operations of a quick run; nil for all
}

// has reports whether the operation is measured under this network.
func (n network) has(op operation, quick bool) bool {
	return !quick || n.quickly == nil || slices.Contains(n.quickly, op.Name)
}

func (n network) budget(quick bool) time.Duration {
	if quick {
		return n.quick
	}
	return n.full
}

const (
	loopback = "loopback"
	noDelay  = "0 ms"
	halfMs   = "0.5 ms"
)

// The proxy has no part in the loopback network: its own delay, of some tens of microseconds, would hide those of the
// variants.
var networks = []network{
	{name: loopback, variants: variants, full: 14 * time.Second, quick: 1500 * time.Millisecond},
	{name: noDelay, proxied: true, variants: variants, full: 8 * time.Second, quick: 500 * time.Millisecond, quickly: some},
	{name: "0.25 ms", proxied: true, delay: 250 * time.Microsecond, variants: essence, full: 6 * time.Second, quick: 500 * time.Millisecond, quickly: some},
	{name: halfMs, proxied: true, delay: 500 * time.Microsecond, variants: variants, full: 24 * time.Second, quick: 2 * time.Second},
	{name: "1 ms", proxied: true, delay: time.Millisecond, variants: essence, full: 6 * time.Second, quick: 500 * time.Millisecond, quickly: some},
	{name: "5 ms", proxied: true, delay: 5 * time.Millisecond, variants: essence, full: 9 * time.Second, quick: 500 * time.Millisecond, quickly: some},
}

var some = []string{"First", "CreateInTx"}

// path puts the network in front of a database, and returns the DSN that leads through it.
func (n network) path(dsn string, ends *closer) (string, *wire.Proxy, error) {
	if !n.proxied {
		return dsn, nil, nil
	}
	target, err := wire.Target(dsn)
	if err != nil {
		return "", nil, err
	}
	proxy, err := wire.New(target, wire.WithDelay(n.delay))
	if err != nil {
		return "", nil, err
	}
	ends.add(proxy.Close)
	through, err := proxy.DSN(dsn)
	return through, proxy, err
}

// subject is an operation in one variant, ready to run.
type subject struct {
	*client
	*database
	proxy *wire.Proxy // nil on loopback
	run   func(n int) error
}

// ready connects a variant through a network, and prepares the operation.
func (b *bench) ready(ctx context.Context, v variant, op operation, n network, ends *closer) (*subject, error) {
	d, err := b.database(ctx, v)
	if err != nil {
		return nil, err
	}
	dsn, proxy, err := n.path(d.App.DSN, ends)
	if err != nil {
		return nil, err
	}
	c, err := v.open(dsn, op.skipTx, 1)
	if err != nil {
		return nil, err
	}
	ends.add(c.close)
	run, end, err := op.prepare(ctx, c, op.tenant)
	if err != nil {
		return nil, err
	}
	ends.add(func() error { end(); return nil })
	return &subject{client: c, database: d, proxy: proxy, run: run}, nil
}

// compare times one operation under one network.
func (b *bench) compare(ctx context.Context, op operation, n network) (err error) {
	var ends closer
	defer ends.close(&err)
	// A context that can be cancelled, as a request's: database/sql and pgx watch such a one, and not the background's.
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	runs := make([]func(int) error, len(n.variants))
	for i, v := range n.variants {
		s, err := b.ready(ctx, v, op, n, &ends)
		if err != nil {
			return err
		}
		runs[i] = s.run
	}
	took, err := b.takeTurns(ctx, n.budget(b.quick), runs)
	if err != nil {
		return err
	}
	b.results.Cells = append(b.results.Cells, b.summarize(op, n, took))
	return b.wrote(ctx, op, warmUp+len(took[0]), n.variants)
}

func (b *bench) summarize(op operation, n network, took [][]float64) cell {
	const atMedian, atP99 = 0, 1
	boot := newBootstrap(took, b.rng, 0.5, 0.99)
	c := cell{Operation: op.Name, Network: n.name, Rounds: len(took[0])}
	for i, v := range n.variants {
		base := indexOf(n.variants, v.baseline())
		c.Timings = append(c.Timings, timing{
			Variant:  v.Name,
			Baseline: v.baseline(),
			Median:   boot.of(i, atMedian),
			P99:      boot.of(i, atP99),
			Ratio:    boot.ratio(i, base),
			P99Added: boot.difference(i, base, atP99),
		})
	}
	return c
}

func indexOf(among []variant, name string) int {
	for i, v := range among {
		if v.Name == name {
			return i
		}
	}
	panic(errors.New("no variant " + name))
}
