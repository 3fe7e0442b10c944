package main

import (
	"context"
	"runtime"
	"time"

	"gorm.io/gorm"
)

// skewVariants are compared where tenants differ in size. Plain GORM reads the very same tables: it logs in as a superuser, so
// that no policy applies.
var skewVariants = []variant{
	{Name: "plain", way: byHand, where: true},
	{Name: "tenancy", way: borrowed},
	{Name: "policy alone", way: borrowed, omit: true},
}

// skewQuery is a statement that an application sends for a tenant.
type skewQuery struct {
	name   string
	custom bool // under plan_cache_mode=force_custom_plan
	table  string
	joins  bool // the notes
	run    func(db *gorm.DB, t skewTenant) error
}

const day = 24 * time.Hour

var skewQueries = []skewQuery{
	{name: "Newest 20", table: "notes", run: func(db *gorm.DB, _ skewTenant) error {
		return newest[Note](db, "notes")
	}},
	{name: "Newest 20, filter", table: "notes", run: rare},
	{name: "Newest 20, filter, custom plan", table: "notes", custom: true, run: rare},
	{name: "Newest 20, Joins", table: "comments", joins: true, run: joined},
	{name: "Newest 20, Joins, custom plan", table: "comments", joins: true, custom: true, run: joined},
	{name: "Keyset page", table: "notes", run: func(db *gorm.DB, t skewTenant) error {
		return newest[Note](db.Where("notes.created_at < ?", t.middle), "notes")
	}},
	{name: "Count", table: "notes", run: func(db *gorm.DB, t skewTenant) error {
		var n int64
		if err := db.Model(&Note{}).Count(&n).Error; err != nil {
			return err
		}
		return want(int(n), t.Rows)
	}},
	{name: "One day", table: "notes", run: func(db *gorm.DB, t skewTenant) error {
		var all []Note
		return db.Where("notes.created_at >= ? AND notes.created_at < ?", t.middle.Add(-day/2), t.middle.Add(day/2)).Find(&all).Error
	}},
}

func rare(db *gorm.DB, _ skewTenant) error {
	return newest[Note](db.Where("notes.kind = ?", "rare"), "notes")
}

func joined(db *gorm.DB, _ skewTenant) error {
	return newest[Comment](db.Joins("Note"), "comments")
}

func newest[T any](db *gorm.DB, table string) error {
	var page []T
	return db.Order(table + ".created_at DESC").Limit(20).Find(&page).Error
}

// skewNetworks are two: on loopback the plugin's own time shows, behind a network that of the plans.
var skewNetworks = []network{
	{name: loopback, variants: skewVariants, full: 5 * time.Second, quick: 150 * time.Millisecond},
	{name: halfMs, proxied: true, delay: 500 * time.Microsecond, variants: skewVariants[:2], full: 2 * time.Second, quick: 150 * time.Millisecond},
}

// skewTasks are one to make the tables, and one for each query and network.
func (b *bench) skewTasks() []task {
	tasks := []task{{"skew", b.either(90*time.Second, 4*time.Second), func(ctx context.Context) error {
		_, err := b.skewed(ctx)
		return err
	}}}
	for _, n := range skewNetworks {
		for _, q := range skewQueries {
			tasks = append(tasks, task{
				name:   "skew, " + q.name + ", " + n.name,
				budget: 3 * n.budget(b.quick),
				run:    func(ctx context.Context) error { return b.skew(ctx, q, n) },
			})
		}
	}
	return tasks
}

// skew measures a query for all three tenants in all variants.
func (b *bench) skew(ctx context.Context, q skewQuery, n network) error {
	d, err := b.skewed(ctx)
	if err != nil || d == nil {
		return err
	}
	var subjects []skewSubject
	for _, v := range n.variants {
		subjects = append(subjects, skewSubject{v, d})
	}
	cells, err := b.skewCells(ctx, q, n, subjects)
	b.results.Skew.Cells = append(b.results.Skew.Cells, cells...)
	return err
}

// skewSubject is a variant on the tables of one database.
type skewSubject struct {
	variant
	database *skewDatabase
}

// skewCells measures a query for all three tenants. Each subject has one connection, which serves all tenants, as an application's
// does: a plan that PostgreSQL keeps for a prepared statement has to do for all of them. All databases have the same tenants.
func (b *bench) skewCells(ctx context.Context, q skewQuery, n network, subjects []skewSubject) (cells []skewCell, err error) {
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	clients := make([]*client, len(subjects))
	for i, s := range subjects {
		if clients[i], err = s.database.open(s.variant, q.custom, n, &ends); err != nil {
			return nil, err
		}
		ends.add(clients[i].close)
	}
	tenants := subjects[0].database.tenants
	turns := make([]skewTurns, len(tenants))
	for t, tenant := range tenants {
		for i, c := range clients {
			turns[t].variants = append(turns[t].variants, subjects[i].variant)
			turns[t].runs = append(turns[t].runs, q.of(c.as(ctx, tenant.id), tenant))
		}
	}
	for range warmUp {
		for t := range turns {
			if err := turns[t].warm(); err != nil {
				return nil, err
			}
		}
	}
	for t := range turns {
		if err := b.takeSkewTurns(ctx, n.budget(b.quick), &turns[t]); err != nil {
			return nil, err
		}
		cells = append(cells, b.skewCell(q, n, tenants[t], &turns[t]))
	}
	return cells, nil
}

// open connects in a variant, with custom under plan_cache_mode=force_custom_plan.
func (d *skewDatabase) open(v variant, custom bool, n network, ends *closer) (*client, error) {
	dsn := d.app
	if v.way == byHand {
		dsn = d.super
	}
	dsn, _, err := n.path(dsn, ends)
	if err != nil {
		return nil, err
	}
	if custom {
		if dsn, err = withSetting(dsn, "plan_cache_mode", "force_custom_plan"); err != nil {
			return nil, err
		}
	}
	return v.open(dsn, true, 1)
}

// of is the query of a tenant, ready to run.
func (q skewQuery) of(s *session, t skewTenant) func() error {
	return func() error {
		return s.do(false, func(db *gorm.DB) error {
			if s.where {
				db = db.Where(q.table+".tenant_id = ?", s.tenant)
			}
			if s.whereJoined && q.joins {
				db = db.Where(`"Note".tenant_id = ?`, s.tenant)
			}
			return q.run(db, t)
		})
	}
}

// skewTurns are the runs of a query for one tenant, by variant, and the microseconds that each took.
type skewTurns struct {
	variants []variant
	runs     []func() error
	last     []time.Duration // of the last run before those that count
	took     [][]float64
}

// A query of the policy alone that takes longer than slow takes part in few rounds, so that it leaves time for the others.
const (
	slow      = 20 * time.Millisecond
	fewRounds = 5
)

func (t *skewTurns) isSlow(variant int) bool {
	return t.variants[variant].omit && t.last[variant] > slow
}

// warm runs each once.
func (t *skewTurns) warm() error {
	if t.last == nil {
		t.last, t.took = make([]time.Duration, len(t.runs)), make([][]float64, len(t.runs))
	}
	for v, run := range t.runs {
		began := time.Now()
		if err := run(); err != nil {
			return err
		}
		t.last[v] = time.Since(began)
	}
	return nil
}

// takeSkewTurns runs rounds in random order, as takeTurns does. What is slow takes part in a few, spread over all; the budget is
// for the others.
func (b *bench) takeSkewTurns(ctx context.Context, budget time.Duration, t *skewTurns) error {
	const mostRounds = 5_000 // more make nothing more exact
	var round time.Duration
	for v := range t.runs {
		if !t.isSlow(v) {
			round += t.last[v]
		}
	}
	rounds := min(max(int(budget/round), fewRounds), mostRounds)
	if b.samples > 0 {
		rounds = b.samples
	}
	every := max(rounds/fewRounds, 1)
	runtime.GC()
	for n := range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, v := range b.rng.Perm(len(t.runs)) {
			if t.isSlow(v) && n%every != 0 {
				continue
			}
			began := time.Now()
			if err := t.runs[v](); err != nil {
				return err
			}
			t.took[v] = append(t.took[v], float64(time.Since(began))/float64(time.Microsecond))
		}
	}
	return nil
}

// skewCell compares the variants with the first. Where one has run in fewer rounds there is no interval.
func (b *bench) skewCell(q skewQuery, n network, tenant skewTenant, t *skewTurns) skewCell {
	base := t.took[0]
	c := skewCell{Query: q.name, Network: n.name, Tenant: tenant.Name}
	for v, took := range t.took {
		timing := skewTiming{Variant: t.variants[v].Name, Rounds: len(took), Median: median(took)}
		if len(took) == len(base) {
			timing.Ratio = newBootstrap([][]float64{base, took}, b.rng, 0.5).ratio(1, 0)
		} else {
			timing.Ratio = exactly(timing.Median / median(base))
		}
		c.Timings = append(c.Timings, timing)
	}
	return c
}
