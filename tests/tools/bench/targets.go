package main

import "fmt"

// goal is what the plugin is to reach, and what was measured.
type goal struct {
	Text  string
	Bound float64
	least bool // the bound is a least, not a most
	Found []finding
}

// finding is one measurement that a goal is about.
type finding struct {
	What   string
	Guard  figure
	Direct *figure // nil where it was not measured
}

// figure is an amount as it was measured. Where it was counted, its bounds are the amount itself.
type figure struct {
	interval
	Unit string // "" for ratios
}

const (
	p99Bound    = 100 // microseconds that may come on top at the 99th percentile
	memoryBound = 16  // KiB that may come on top for more rows; a slice of them takes a hundred times as many
)

// goals compares what was measured with what is to be reached. What was not measured is left out.
func (r *results) goals() []goal {
	single := func(op operation) bool { return op.Single }
	written := func(op operation) bool { return op.Written }
	all := []goal{
		{Text: "Single statements, 0.5 ms each way: at most 1.02 times plain GORM", Bound: 1.02, Found: r.ratios(single, halfMs)},
		{Text: "Single statements, no proxy, loopback: at most 1.05 times", Bound: 1.05, Found: r.ratios(single, loopback)},
		{Text: "Single statements, through a proxy without a delay: at most 1.05 times", Bound: 1.05, Found: r.ratios(single, noDelay)},
		{Text: "Writes in GORM's default transaction, 0.5 ms each way: at most 0.70 times", Bound: 0.70, Found: r.ratios(written, halfMs)},
		{Text: "Writes in GORM's default transaction, loopback: at most 0.85 times", Bound: 0.85, Found: r.ratios(written, loopback)},
		{Text: "Allocations of a statement: at most 1.10 times", Bound: 1.10, Found: r.allocations()},
		{Text: "At the 99th percentile, 0.5 ms each way: at most 100 µs more", Bound: p99Bound, Found: r.p99s(halfMs)},
		{Text: "At the 99th percentile, loopback: at most 100 µs more", Bound: p99Bound, Found: r.p99s(loopback)},
		{Text: "Throughput of 16 goroutines: at least 0.97 times", Bound: 0.97, least: true, Found: r.throughputs(16)},
		{Text: "From 10 to 100,000 tenants in a table of constant size: at most 1.05 times", Bound: 1.05, Found: r.flatness()},
		{Text: "Tenants of very different sizes, 0.5 ms each way: at most 1.10 times", Bound: 1.10, Found: r.skewed(halfMs)},
		{Text: "Tenants of very different sizes, loopback: at most 1.10 times", Bound: 1.10, Found: r.skewed(loopback)},
		{Text: "Memory for 10,000 rows, streamed: at most 16 KiB more than for 100", Bound: memoryBound, Found: r.memoryGrowth()},
	}
	var measured []goal
	for _, g := range all {
		if len(g.Found) > 0 {
			measured = append(measured, g)
		}
	}
	return measured
}

func (r *results) ratios(of func(operation) bool, network string) (found []finding) {
	for _, op := range r.Operations {
		c := r.cell(op.Name, network)
		if !of(op) || c.of("tenancy") == nil {
			continue
		}
		f := finding{What: op.Title, Guard: figure{interval: c.of("tenancy").Ratio}}
		if d := c.of("OpenDB"); d != nil {
			f.Direct = &figure{interval: d.Ratio}
		}
		found = append(found, f)
	}
	return found
}

func (r *results) p99s(network string) (found []finding) {
	for _, op := range r.Operations {
		c := r.cell(op.Name, network)
		if !op.Single || op.heavy() > 1 || c.of("tenancy") == nil {
			continue
		}
		f := finding{What: op.Title, Guard: figure{c.of("tenancy").P99Added, "µs"}}
		if d := c.of("OpenDB"); d != nil {
			f.Direct = &figure{d.P99Added, "µs"}
		}
		found = append(found, f)
	}
	return found
}

func (r *results) allocations() (found []finding) {
	for _, op := range r.Operations {
		base, guard, direct := r.cost(op.Name, "plain"), r.cost(op.Name, "tenancy"), r.cost(op.Name, "OpenDB")
		if base == nil || guard == nil || direct == nil {
			continue
		}
		d := figure{interval: exactly(direct.Allocations / base.Allocations)}
		found = append(found, finding{op.Title, figure{interval: exactly(guard.Allocations / base.Allocations)}, &d})
	}
	return found
}

func exactly(value float64) interval { return interval{value, value, value} }

func (r *results) throughputs(goroutines int) (found []finding) {
	for _, t := range r.Goroutines {
		if t.Goroutines == goroutines && t.Variant == "tenancy" {
			found = append(found, finding{What: "First, " + t.Network, Guard: figure{interval: t.Ratio}})
		}
	}
	return found
}

func (r *results) flatness() (found []finding) {
	for _, s := range r.Tenants {
		if s.Variant == "tenancy" && s.Size == 100_000 {
			found = append(found, finding{What: "First of a random row, by the number of tenants", Guard: figure{interval: s.Growth}})
		}
	}
	return found
}

func (r *results) skewed(network string) (found []finding) {
	if r.Skew == nil {
		return nil
	}
	for i := range r.Skew.Cells {
		if c := &r.Skew.Cells[i]; c.Network == network {
			found = append(found, finding{What: c.Query + ", " + c.Tenant, Guard: figure{interval: c.of("tenancy").Ratio}})
		}
	}
	return found
}

func (r *results) memoryGrowth() (found []finding) {
	peaks := map[string]float64{}
	for _, m := range r.Memory {
		peaks[fmt.Sprintf("%s %s %d", m.Variant, m.How, m.Rows)] = float64(m.Peak)
	}
	growth := func(variant string) figure {
		return figure{exactly((peaks[variant+" streamed 10000"] - peaks[variant+" streamed 100"]) / 1024), "KiB"}
	}
	if len(peaks) > 0 {
		d := growth("OpenDB")
		found = append(found, finding{"Peak of the heap", growth("tenancy"), &d})
	}
	return found
}

// holds reports whether a figure keeps to the goal's bound.
func (g goal) holds(value float64) bool {
	if g.least {
		return value >= g.Bound
	}
	return value <= g.Bound
}

// Verdict says of a figure whether the goal is met, and whether the interval leaves a doubt.
func (g goal) Verdict(f figure) string {
	met := g.holds(f.Value)
	sure := g.holds(f.Low) == met && g.holds(f.High) == met
	switch {
	case met && sure:
		return "met"
	case met:
		return "met, with a doubt"
	case sure:
		return "**missed**"
	default:
		return "missed, with a doubt"
	}
}

// Missed reports whether a finding of the goal is not as good as its bound.
func (g goal) Missed() bool {
	for _, f := range g.Found {
		if !g.holds(f.Guard.Value) {
			return true
		}
	}
	return false
}
