package main

import (
	"bytes"
	"context"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/google/pprof/profile"
)

// profile finds the functions in which the client's time and allocations go, in the plugin and without.
func (b *bench) profile(ctx context.Context, op operation) (err error) {
	var ends closer
	defer ends.close(&err)
	ctx, cancel := context.WithCancel(ctx)
	ends.add(func() error { cancel(); return nil })

	among := pick("plain", "tenancy", "OpenDB")
	cpu, allocated := perFunction{}, perFunction{}
	runs := 0
	for _, v := range among {
		s, err := b.ready(ctx, v, op, network{}, &ends)
		if err != nil {
			return err
		}
		if err := warm(s.run); err != nil {
			return err
		}
		n, err := profileCPU(s.run, b.profileTime(), v.Name, cpu)
		if err != nil {
			return err
		}
		runs = max(runs, n)
		if err := profileAllocations(s.run, v.Name, allocated); err != nil {
			return err
		}
	}
	b.results.Profiles = append(b.results.Profiles, profiled{
		Operation:   op.Name,
		CPU:         cpu.breakdown(),
		Allocations: allocated.breakdown(),
	})
	return b.wrote(ctx, op, runs+profiledRuns, among)
}

func (b *bench) profileTime() time.Duration {
	if b.samples > 0 {
		return 50 * time.Millisecond
	}
	return b.either(6*time.Second, time.Second)
}

// profileCPU returns how often it ran.
func profileCPU(run func(int) error, length time.Duration, variant string, into perFunction) (n int, err error) {
	var buf bytes.Buffer
	if err := pprof.StartCPUProfile(&buf); err != nil {
		return 0, err
	}
	for start := time.Now(); err == nil && time.Since(start) < length; n++ {
		err = run(n)
	}
	pprof.StopCPUProfile()
	if err != nil {
		return n, err
	}
	p, err := profile.Parse(&buf)
	if err != nil {
		return n, err
	}
	const nanoseconds = 1 // the other value of a sample is its count
	for _, sample := range p.Sample {
		var names []string
		for _, location := range sample.Location {
			for _, line := range location.Line {
				names = append(names, line.Function.Name)
			}
		}
		into.add(responsible(names), variant, float64(sample.Value[nanoseconds])/1000/float64(n))
	}
	return n, nil
}

// profiledRuns is how many runs have their allocations looked at.
const profiledRuns = 500

func profileAllocations(run func(int) error, variant string, into perFunction) error {
	const runs = profiledRuns
	before := allocatedBy()
	runtime.MemProfileRate = 1
	for n := range runs {
		if err := run(n); err != nil {
			return err
		}
	}
	runtime.MemProfileRate = 0
	for name, count := range allocatedBy() {
		if more := count - before[name]; more >= runs/2 {
			into.add(name, variant, float64(more)/runs)
		}
	}
	return nil
}

// allocatedBy counts the allocations so far, by the function that is responsible for them.
func allocatedBy() map[string]int64 {
	runtime.GC() // the profile is as of the last but one
	runtime.GC()
	n, _ := runtime.MemProfile(nil, true)
	var records []runtime.MemProfileRecord
	for ok := false; !ok; {
		records = make([]runtime.MemProfileRecord, n+50)
		n, ok = runtime.MemProfile(records, true)
	}
	counts := map[string]int64{}
	for _, r := range records[:n] {
		var names []string
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			names = append(names, frame.Function)
		}
		counts[responsible(names)] += r.AllocObjects
	}
	return counts
}
