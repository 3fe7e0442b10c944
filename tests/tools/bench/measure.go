package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// bench is a run.
type bench struct {
	settings
	server  *pgserver.Server
	results results
	rng     *rand.Rand

	databases map[string]*database // of the variants, by name
	skewData  *skewDatabase        // nil until it is needed
}

// task is a part of a run. Its budget is roughly how long it takes.
type task struct {
	name   string
	budget time.Duration
	run    func(ctx context.Context) error
}

// measure runs all tasks, or those that are asked for.
func measure(ctx context.Context, s settings) (_ *results, err error) {
	began, load := time.Now(), loadAverage()
	server, err := pgserver.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()

	b := &bench{settings: s, server: server, databases: map[string]*database{}, rng: rand.New(rand.NewPCG(1, 2))}
	b.results.Operations, b.results.Variants = operations, variants
	tasks := b.tasks()
	if s.only != nil {
		tasks = slices.DeleteFunc(tasks, func(t task) bool { return !s.only.MatchString(t.name) })
		if len(tasks) == 0 {
			return nil, fmt.Errorf("no task matches %q", s.only)
		}
	}
	if err := runTasks(ctx, tasks); err != nil {
		return nil, err
	}
	b.results.Machine = b.machine(load)
	b.results.Machine.Minutes = time.Since(began).Minutes()
	if b.results.Skew != nil {
		b.results.Skew.Machine = b.results.Machine
	}
	return &b.results, nil
}

// machine is this one, with its load before the run.
func (b *bench) machine(load float64) machine {
	return machine{
		OS:         runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:       runtime.NumCPU(),
		Go:         runtime.Version(),
		PostgreSQL: fmt.Sprintf("%d.%d", b.server.Version()/10000, b.server.Version()%10000),
		Quick:      b.quick,
		Load:       load,
	}
}

// loadAverage is that of the last minute, where the system is Linux.
func loadAverage() (load float64) {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(content), &load) // it stays 0
	return load
}

// runTasks tells the terminal how far it is.
func runTasks(ctx context.Context, tasks []task) error {
	var all, done time.Duration
	for _, t := range tasks {
		all += t.budget
	}
	began := time.Now()
	for i, t := range tasks {
		left, elapsed := all-done, time.Since(began)
		if done > 0 {
			left = time.Duration(float64(left) * float64(elapsed) / float64(done))
		}
		fmt.Fprintf(os.Stderr, "bench: %3d/%d  %-42s %6v gone, %v left\n", i+1, len(tasks), t.name,
			elapsed.Round(time.Second), left.Round(time.Second))
		if err := t.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		done += t.budget
	}
	return nil
}

func (b *bench) tasks() []task {
	var tasks []task
	for _, n := range networks {
		for _, op := range operations {
			if !n.has(op, b.quick) {
				continue
			}
			tasks = append(tasks, task{
				name:   op.Name + ", " + n.name,
				budget: n.budget(b.quick),
				run:    func(ctx context.Context) error { return b.compare(ctx, op, n) },
			})
		}
	}
	for _, op := range operations {
		tasks = append(tasks, task{
			name:   "costs of " + op.Name,
			budget: b.either(3*time.Second, time.Second),
			run:    func(ctx context.Context) error { return b.count(ctx, op) },
		})
	}
	for _, name := range []string{"First", "Create"} {
		tasks = append(tasks, task{
			name:   "profile of " + name,
			budget: b.either(20*time.Second, 4*time.Second),
			run:    func(ctx context.Context) error { return b.profile(ctx, operationNamed(name)) },
		})
	}
	tasks = append(tasks,
		task{"goroutines", b.either(100*time.Second, 9*time.Second), b.goroutines},
		task{"tenants", b.either(60*time.Second, 8*time.Second), b.tenants},
		task{"rows", b.either(150*time.Second, 6*time.Second), b.rows},
		task{"prepared statements", b.either(15*time.Second, 4*time.Second), b.statements},
		task{"memory", b.either(5*time.Second, 2*time.Second), b.memory},
		task{"messages", b.either(30*time.Second, 3*time.Second), b.steps},
	)
	return append(tasks, b.skewTasks()...)
}

// either is the first in a full run, and the second in a quick one.
func (b *bench) either(full, quick time.Duration) time.Duration {
	if b.quick {
		return quick
	}
	return full
}

// database is the variant's own, with the standard rows.
func (b *bench) database(ctx context.Context, v variant) (*database, error) {
	if d := b.databases[v.Name]; d != nil {
		return d, nil
	}
	d, err := newDatabase(ctx, b.server, v.way != byHand)
	if err != nil {
		return nil, err
	}
	b.databases[v.Name] = d
	return d, d.fill(ctx, standardRows...)
}

// wrote notes the rows that runs of an operation have written to each variant's database. When they are as many as there
// were to begin with, it throws them away, so that no operation meets a much larger table than another.
func (b *bench) wrote(ctx context.Context, op operation, runs int, among []variant) error {
	for _, v := range among {
		d := b.databases[v.Name]
		if d.written += runs * op.writes; d.written < tenants*each+bigRows {
			continue
		}
		d.written = 0
		if err := d.fill(ctx, standardRows...); err != nil {
			return err
		}
	}
	return nil
}

// warmUp is more than the five executions after which PostgreSQL may go over to a generic plan
// (https://www.postgresql.org/docs/current/sql-prepare.html).
const warmUp = 8

// takeTurns times the subjects: in each round every one runs once, in random order, so that whatever else the machine
// does meets all of them alike. It returns microseconds by subject and round.
func (b *bench) takeTurns(ctx context.Context, budget time.Duration, subjects []func(n int) error) ([][]float64, error) {
	const (
		leastRounds = 5
		mostRounds  = 20_000 // more make nothing more exact
	)
	for n := range warmUp {
		for _, run := range subjects {
			if err := run(n); err != nil {
				return nil, err
			}
		}
	}
	took := make([][]float64, len(subjects))
	enough := func(round int, since time.Time) bool {
		if b.samples > 0 {
			return round >= b.samples
		}
		return round >= mostRounds || round >= leastRounds && time.Since(since) > budget
	}
	runtime.GC()
	for round, start := 0, time.Now(); !enough(round, start); round++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, i := range b.rng.Perm(len(subjects)) {
			began := time.Now()
			err := subjects[i](warmUp + round)
			took[i] = append(took[i], float64(time.Since(began))/float64(time.Microsecond))
			if err != nil {
				return nil, err
			}
		}
	}
	return took, nil
}

// closer collects what is to be ended when a task is over.
type closer []func() error

func (c *closer) add(f func() error) { *c = append(*c, f) }

func (c *closer) close(err *error) {
	for _, f := range slices.Backward(*c) {
		*err = errors.Join(*err, f())
	}
}
