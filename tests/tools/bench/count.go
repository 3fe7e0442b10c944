package main

import (
	"context"
	"math"
	"runtime"
	"time"
)

// count tells what one run of an operation uses: round trips and bytes on the socket, allocations, time of the client's
// and the server's processors.
func (b *bench) count(ctx context.Context, op operation) (err error) {
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	costs := make([]cost, len(variants))
	subjects := make([]*subject, len(variants))
	servers := make([]*backend, len(variants))
	for i, v := range variants {
		costs[i] = cost{Operation: op.Name, Variant: v.Name}
		if err := b.countOnWire(ctx, v, op, &costs[i]); err != nil {
			return err
		}
		if subjects[i], err = b.ready(ctx, v, op, network{}, &ends); err != nil {
			return err
		}
		if err := warm(subjects[i].run); err != nil {
			return err
		}
		if err := countAllocations(subjects[i].run, op.countedAllocations(), &costs[i]); err != nil {
			return err
		}
		if servers[i], err = subjects[i].backend(ctx); err != nil {
			return err
		}
	}
	rounds, err := b.countProcessors(ctx, op, subjects, servers, costs)
	if err != nil {
		return err
	}
	b.results.Costs = append(b.results.Costs, costs...)
	return b.wrote(ctx, op, 2*warmUp+op.countedOnWire()+op.countedAllocations()+rounds*op.countedTogether(), variants)
}

// How many runs are counted, of each kind of cost; those of a processor's time in each round.
func (op operation) countedOnWire() int      { return max(10/op.heavy(), 2) }
func (op operation) countedAllocations() int { return max(50/op.heavy(), 2) }
func (op operation) countedTogether() int    { return max(20/op.heavy(), 1) }

// heavy is roughly how many times longer an operation takes than First.
func (op operation) heavy() int {
	if op.Name == "Rows10000" {
		return 100
	}
	return 1
}

func warm(run func(n int) error) error {
	for n := range warmUp {
		if err := run(n); err != nil {
			return err
		}
	}
	return nil
}

// countOnWire counts what passes a proxy.
func (b *bench) countOnWire(ctx context.Context, v variant, op operation, into *cost) (err error) {
	runs := op.countedOnWire()
	var ends closer
	defer ends.close(&err)
	s, err := b.ready(ctx, v, op, network{proxied: true}, &ends)
	if err != nil {
		return err
	}
	if err := warm(s.run); err != nil {
		return err
	}
	trips := s.proxy.RoundTrips()
	sent, received := s.proxy.Bytes()
	for n := range runs {
		if err := s.run(n); err != nil {
			return err
		}
	}
	into.RoundTrips = float64(s.proxy.RoundTrips()-trips) / float64(runs)
	sentAfter, receivedAfter := s.proxy.Bytes()
	into.SentBytes = float64(sentAfter-sent) / float64(runs)
	into.ReceivedBytes = float64(receivedAfter-received) / float64(runs)
	return nil
}

// countAllocations works as testing.AllocsPerRun does, and counts bytes as well.
func countAllocations(run func(n int) error, runs int, into *cost) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range runs {
		if err := run(n); err != nil {
			return err
		}
	}
	runtime.ReadMemStats(&after)
	into.Allocations = math.Floor(float64(after.Mallocs-before.Mallocs) / float64(runs))
	into.AllocatedBytes = math.Floor(float64(after.TotalAlloc-before.TotalAlloc) / float64(runs))
	return nil
}

// countProcessors lets the variants take turns, some runs at a time, for a process is charged for its time not quite at
// once.
func (b *bench) countProcessors(ctx context.Context, op operation, subjects []*subject, servers []*backend, costs []cost) (rounds int, err error) {
	const fewest = 2
	runs := op.countedTogether()
	budget := b.either(2*time.Second, 500*time.Millisecond)
	client, server := make([][]float64, len(subjects)), make([][]float64, len(subjects))
	for start := time.Now(); rounds < fewest || b.samples == 0 && time.Since(start) < budget; rounds++ {
		if err := ctx.Err(); err != nil {
			return rounds, err
		}
		for _, i := range b.rng.Perm(len(subjects)) {
			clientBefore, clientKnown := processTime()
			serverBefore, serverKnown := servers[i].time()
			for n := range runs {
				if err := subjects[i].run(n); err != nil {
					return rounds, err
				}
			}
			if after, ok := servers[i].time(); ok && serverKnown {
				server[i] = append(server[i], perRun(after-serverBefore, runs))
			}
			if after, ok := processTime(); ok && clientKnown {
				client[i] = append(client[i], perRun(after-clientBefore, runs))
			}
		}
	}
	for i := range costs {
		costs[i].ClientCPU, costs[i].ServerCPU = medianIfAny(client[i]), medianIfAny(server[i])
	}
	if costs[0].ServerCPU == nil {
		b.skip("The server's processor time: " + servers[0].why)
	}
	return rounds, nil
}

// skip notes once that something was not measured.
func (b *bench) skip(why string) {
	for _, known := range b.results.Skipped {
		if known == why {
			return
		}
	}
	b.results.Skipped = append(b.results.Skipped, why)
}

func perRun(d time.Duration, runs int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(runs)
}

func medianIfAny(values []float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	m := median(values)
	return &m
}
