package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
)

// point is one size of a curve, with the databases that have it.
type point struct {
	size    int
	rows    int
	tenants int
}

// tenants measures a table of constant size with the rows of more and more tenants.
func (b *bench) tenants(ctx context.Context) error {
	rows := 1_000_000
	if b.quick {
		rows = 100_000
	}
	var points []point
	step := 10
	if b.quick {
		step = 100
	}
	for tenants := 100_000; tenants > 0; tenants /= step {
		points = slices.Insert(points, 0, point{size: tenants, rows: rows, tenants: tenants})
	}
	sized, err := b.overSizes(ctx, points, b.either(20*time.Second, 3*time.Second), map[string]reading{"First": firstOf})
	b.results.Tenants = sized
	return err
}

// bytesPerRow is what a row takes on the server's disk with its indexes; there are two databases.
const bytesPerRow = 2 * 200

// rows measures a table of more and more rows, 100 of each tenant.
func (b *bench) rows(ctx context.Context) error {
	most := 10_000_000
	if b.quick {
		most = 100_000
	}
	room, err := b.room(ctx)
	if err != nil {
		b.skip("Tables of more than a million rows: " + err.Error() + ".")
		most = min(most, 1_000_000)
	}
	var points []point
	for rows := 10_000; rows <= most; rows *= 10 {
		if err == nil && int64(rows)*bytesPerRow > room {
			b.skip(fmt.Sprintf("Tables of %d rows and more: the server's disk has %d MB of room for them.", rows, room>>20))
			break
		}
		points = append(points, point{size: rows, rows: rows, tenants: rows / each})
	}
	sized, err := b.overSizes(ctx, points, b.either(25*time.Second, 2*time.Second),
		map[string]reading{"First": firstOf, "Find100": findOf})
	b.results.Rows = sized
	return err
}

// reading is a statement for some tenant of a point; which one depends on the number.
type reading func(ctx context.Context, c *client, p point, number int) error

func firstOf(ctx context.Context, c *client, p point, number int) error {
	id := 1 + number%p.rows
	s := c.as(ctx, tenantOf(id, p.tenants))
	return s.do(false, func(db *gorm.DB) error {
		var found Patient
		return s.mine(db).First(&found, id).Error
	})
}

func findOf(ctx context.Context, c *client, p point, number int) error {
	s := c.as(ctx, tenantOf(number, p.tenants))
	return s.do(false, func(db *gorm.DB) error { return find(s, db, 0) })
}

// overSizes measures readings at all points, which take turns as the variants do.
func (b *bench) overSizes(ctx context.Context, points []point, budget time.Duration, readings map[string]reading) (all []sizes, err error) {
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	var clients []*client // by point and variant
	for _, p := range points {
		databases, err := b.filled(ctx, p, &ends)
		if err != nil {
			return nil, err
		}
		for _, v := range curve {
			c, err := v.open(databases[v.way != byHand].App.DSN, true, 1)
			if err != nil {
				return nil, err
			}
			ends.add(c.close)
			clients = append(clients, c)
		}
	}

	for name, read := range readings {
		runs := make([]func(int) error, len(clients))
		for i, c := range clients {
			p := points[i/len(curve)]
			runs[i] = func(int) error { return read(ctx, c, p, b.rng.IntN(p.rows)) }
		}
		took, err := b.takeTurns(ctx, budget/time.Duration(len(readings)), runs)
		if err != nil {
			return nil, err
		}
		all = append(all, b.growth(name, points, took)...)
	}
	return all, nil
}

// filled makes the two databases of a point, one without policies and one with.
func (b *bench) filled(ctx context.Context, p point, ends *closer) (map[bool]*database, error) {
	databases := map[bool]*database{}
	for _, policies := range []bool{false, true} {
		d, err := newDatabase(ctx, b.server, policies)
		if err != nil {
			return nil, err
		}
		ends.add(func() error { return d.Drop(context.WithoutCancel(ctx)) })
		// Nobody but us writes to it, and without a log it is filled in half the time.
		err = d.asOwner(func(owner *gorm.DB) error { return execute(ctx, owner, "ALTER TABLE patients SET UNLOGGED") })
		if err != nil {
			return nil, err
		}
		databases[policies] = d
	}
	var both sync.WaitGroup
	errs := make(chan error, len(databases))
	for _, d := range databases {
		both.Go(func() { errs <- d.fill(ctx, evenRows(p.rows, p.tenants)) })
	}
	both.Wait()
	return databases, errors.Join(<-errs, <-errs)
}

// growth compares each variant with plain GORM at the same point, and with itself at the first point that has more than
// one tenant.
func (b *bench) growth(operation string, points []point, took [][]float64) (all []sizes) {
	boot := newBootstrap(took, b.rng, 0.5, 0.99)
	origin := 0
	for origin < len(points)-1 && points[origin].tenants < 10 {
		origin++
	}
	for i := range took {
		at, v := i/len(curve), i%len(curve)
		all = append(all, sizes{
			Operation: operation,
			Variant:   curve[v].Name,
			Size:      points[at].size,
			Median:    boot.of(i, 0),
			P99:       boot.of(i, 1),
			Ratio:     boot.ratio(i, at*len(curve)),
			Growth:    boot.ratio(i, origin*len(curve)+v),
		})
	}
	return all
}
