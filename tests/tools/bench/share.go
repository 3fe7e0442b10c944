package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// A pool of poolSize connections, of which one tenant sends noisyStatements slow statements at a time.
const (
	poolSize        = 10
	noisyStatements = 64
)

// slowStatements are what the noisy tenant sends.
var slowStatements = []struct{ name, what, sql string }{
	{"sleeping", "`pg_sleep(0.1)`, which holds a connection and no processor", "SELECT pg_sleep(0.1)"},
	{"computing", "a count of 500,000 generated rows, which holds a connection and a processor", "SELECT count(*) FROM generate_series(1, 500000)"},
}

// shares are the values of Config.Share that are compared. 0 is none.
var shares = []int{0, 4, 2}

// shareCell is what a tenant's statements take beside those of a noisy one.
type shareCell struct {
	slow  int  // of slowStatements
	share int  // Config.Share
	noise bool // or the tenant is alone

	took  []float64 // of the quiet tenant's statements, in microseconds
	noisy int       // statements of the other that have ended
	time  time.Duration
}

// measureShare measures what the statements of one tenant take while another sends slow ones, with Config.Share and without, and writes
// its section of the report.
func measureShare(ctx context.Context, s settings) (err error) {
	load := loadAverage()
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	d, err := newDatabase(ctx, server, true)
	if err != nil {
		return err
	}
	if err := d.fill(ctx, standardRows...); err != nil {
		return err
	}
	var ends closer
	defer ends.close(&err)
	clients := map[int]*gorm.DB{}
	for _, share := range shares {
		if clients[share], err = openShared(d.App.DSN, share, &ends); err != nil {
			return err
		}
	}
	rounds, each := 5, 4*time.Second
	if s.quick {
		rounds, each = 1, 300*time.Millisecond
	}
	var cells []*shareCell
	for slow := range slowStatements {
		cells = append(cells, &shareCell{slow: slow})
		for _, share := range shares {
			cells = append(cells, &shareCell{slow: slow, share: share, noise: true})
		}
	}
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "bench:        share: round %d of %d\n", round+1, rounds)
		for i := range cells {
			c := cells[(i+round)%len(cells)] // none is always behind the same
			if err := c.measure(ctx, clients[c.share], each); err != nil {
				return err
			}
		}
	}
	b := &bench{settings: s, server: server}
	return writeSection(s.out, "share", shareSection(b.machine(load), s.quick, cells), nil)
}

// openShared opens GORM with the plugin, on a pool whose connections are made.
func openShared(dsn string, share int, ends *closer) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		return nil, err
	}
	if err := db.Use(tenancy.New(tenancy.Config{Share: share})); err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	ends.add(pool.Close)
	inner, err := tenancy.UnguardedPool(db)
	if err != nil {
		return nil, err
	}
	for _, p := range []interface {
		SetMaxOpenConns(n int)
		SetMaxIdleConns(n int)
	}{pool, inner} {
		p.SetMaxOpenConns(poolSize)
		p.SetMaxIdleConns(poolSize)
	}
	return db, nil
}

// measure has the noisy tenant send its statements, and times those of the quiet one.
func (c *shareCell) measure(ctx context.Context, db *gorm.DB, each time.Duration) error {
	noise, stop := context.WithCancel(tenancy.WithTenant(ctx, writer))
	defer stop()
	var (
		senders sync.WaitGroup
		ended   atomic.Int64
		failed  atomic.Pointer[error]
	)
	if c.noise {
		for range noisyStatements {
			senders.Go(func() {
				for noise.Err() == nil {
					err := db.WithContext(noise).Exec(slowStatements[c.slow].sql).Error
					if err != nil && noise.Err() == nil {
						failed.Store(&err)
						return
					}
					ended.Add(1)
				}
			})
		}
		time.Sleep(each / 8) // until all of them wait
	}
	quiet := db.WithContext(tenancy.WithTenant(ctx, reader))
	began, before := time.Now(), ended.Load()
	for n := 0; time.Since(began) < each; n++ {
		sent := time.Now()
		if err := quiet.First(&Patient{}, idOf(reader, n)).Error; err != nil {
			return err
		}
		c.took = append(c.took, float64(time.Since(sent))/float64(time.Microsecond))
	}
	c.time += time.Since(began)
	c.noisy += int(ended.Load() - before)
	stop()
	senders.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// shareSection is the section of the report.
func shareSection(m machine, quick bool, cells []*shareCell) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## A noisy tenant\n\nOne tenant sends %d slow statements at a time over a pool of %d connections, and another reads a row by its key, again and again. `Config.Share`\n"+
		"bounds the connections of each tenant. `go run ./tests/tools/bench -only share` measures this section alone.\n\n", noisyStatements, poolSize)
	b.WriteString(m.paragraph(quick))
	b.WriteString("\nThe slow statements are of two kinds:\n\n")
	for _, s := range slowStatements {
		fmt.Fprintf(&b, "- *%s*: %s.\n", s.name, s.what)
	}
	t := newTable("slow statements", "Share", "statements", "median", "p99", "median / alone", "p99 / alone", "slow statements per second")
	for _, c := range cells {
		alone := cells[0]
		for _, other := range cells {
			if other.slow == c.slow && !other.noise {
				alone = other
			}
		}
		kind, share, noisy := slowStatements[c.slow].name, number(float64(c.share)), amount(float64(c.noisy)/c.time.Seconds())
		if c.share == 0 {
			share = "–"
		}
		if !c.noise {
			kind, noisy = "none", "–"
		}
		t.row(kind, share, number(float64(len(c.took))), milliseconds(median(c.took)), milliseconds(quantile(c.took, 0.99)),
			times(median(c.took)/median(alone.took)), times(quantile(c.took, 0.99)/quantile(alone.took, 0.99)), noisy)
	}
	fmt.Fprintf(&b, "\n%s\n\nThe target is a p99 of at most 2 times that without the noisy tenant, where connections are what is short. `Share` shares connections, and not\n"+
		"processors: those that compute slow down all, by as many as compute at a time. Bound these with `Settings` (`statement_timeout`) as well.\n", t)
	return b.String()
}
