package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
)

// goroutines measures how many statements a second get through, with more and more goroutines at work, each on a
// connection of its own.
func (b *bench) goroutines(ctx context.Context) error {
	numbers := []int{1, 2, 4, 8, 16, 32, 64}
	if b.quick {
		numbers = []int{1, 4, 16}
	}
	for _, n := range networks {
		if n.name != loopback && n.name != halfMs {
			continue
		}
		if err := b.underLoad(ctx, n, numbers); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) underLoad(ctx context.Context, n network, numbers []int) (err error) {
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	clients := make([]*client, len(curve))
	for i, v := range curve {
		d, err := b.database(ctx, v)
		if err != nil {
			return err
		}
		dsn, _, err := n.path(d.App.DSN, &ends)
		if err != nil {
			return err
		}
		if clients[i], err = v.open(dsn, true, slices.Max(numbers)); err != nil {
			return err
		}
		ends.add(clients[i].close)
	}
	for _, number := range numbers {
		if err := b.atOnce(ctx, n, number, clients); err != nil {
			return err
		}
	}
	return nil
}

// atOnce lets the variants take turns, a slice of time each.
func (b *bench) atOnce(ctx context.Context, n network, number int, clients []*client) error {
	turns, slice := 10, b.either(250*time.Millisecond, 80*time.Millisecond)
	if b.quick {
		turns = 5
	}
	for _, c := range clients { // connect
		if _, _, err := burst(ctx, c, number, slice); err != nil {
			return err
		}
	}
	took := make([][]float64, len(clients)) // microseconds per statement, by turn
	latencies := make([][]float64, len(clients))
	for range turns {
		for _, i := range b.rng.Perm(len(clients)) {
			each, statements, err := burst(ctx, clients[i], number, slice)
			if err != nil {
				return err
			}
			took[i] = append(took[i], float64(slice)/float64(time.Microsecond)/statements)
			latencies[i] = append(latencies[i], each...)
		}
	}
	boot := newBootstrap(took, b.rng, 0.5)
	for i, c := range clients {
		b.results.Goroutines = append(b.results.Goroutines, throughput{
			Network:    n.name,
			Goroutines: number,
			Variant:    c.Name,
			PerSecond:  float64(time.Second/time.Microsecond) / boot.of(i, 0),
			P99:        quantile(latencies[i], 0.99),
			Ratio:      boot.ratio(0, i), // plain's time to the variant's: the variant's throughput to plain's
		})
	}
	return nil
}

// burst reads rows with so many goroutines for so long. It returns what each statement took, in microseconds, and how
// many there were; those that were under way at the end count by the part that was within the time.
func burst(ctx context.Context, c *client, number int, length time.Duration) (took []float64, statements float64, err error) {
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		failed atomic.Bool
		end    = time.Now().Add(length)
	)
	for g := range number {
		all.Go(func() {
			s := c.as(ctx, reader)
			do := func(n int) error {
				return s.do(false, func(db *gorm.DB) error { return first(s, db, n) })
			}
			var mine []float64
			var whole float64
			var runErr error
			for n := g; !failed.Load(); n++ {
				began := time.Now()
				if !began.Before(end) {
					break
				}
				if runErr = do(n); runErr != nil {
					failed.Store(true)
					break
				}
				lasted := time.Since(began)
				mine = append(mine, float64(lasted)/float64(time.Microsecond))
				whole += min(1, float64(end.Sub(began))/float64(lasted))
			}
			mu.Lock()
			defer mu.Unlock()
			took, statements = append(took, mine...), statements+whole
			if err == nil {
				err = runErr
			}
		})
	}
	all.Wait()
	return took, statements, err
}
