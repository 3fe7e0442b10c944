package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var updateGolden = flag.Bool("update", false, "write the expected report again")

// TestReport renders made-up numbers, and compares the page with testdata/report.md.
func TestReport(t *testing.T) {
	const golden = "testdata/report.md"
	page, err := report(madeUp())
	require.NoError(t, err)
	if *updateGolden {
		require.NoError(t, os.WriteFile(golden, page, 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(page), "go test ./tests/tools/bench -run TestReport -update writes it again")
}

func TestReportOfPartOfTheNumbers(t *testing.T) {
	all := madeUp()
	for name, part := range map[string]*results{
		"nothing":  {},
		"one cell": {Operations: all.Operations, Variants: all.Variants, Cells: all.Cells[:1]},
		"skew":     {Operations: all.Operations, Variants: all.Variants, Skew: all.Skew},
		"memory":   {Operations: all.Operations, Variants: all.Variants, Memory: all.Memory},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := report(part)
			require.NoError(t, err)
			require.NotContains(t, string(page), "<no value>")
			require.NotContains(t, string(page), "\n\n\n\n")
			_, err = part.plots()
			require.NoError(t, err)
		})
	}
}

func TestPlotsAreSVG(t *testing.T) {
	plots, err := madeUp().plots()
	require.NoError(t, err)
	require.Len(t, plots, 2)
	for name, svg := range plots {
		decoder := xml.NewDecoder(strings.NewReader(string(svg)))
		var words strings.Builder
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
			if text, ok := token.(xml.CharData); ok {
				words.Write(text)
			}
		}
		if name != "skew.svg" {
			require.Contains(t, words.String(), "usual wrapper", name)
		}
		require.Contains(t, words.String(), "tenancy", name)
		require.NotContains(t, string(svg), "NaN", name)
	}
}

func TestReportWarnsOfABusyMachine(t *testing.T) {
	for load, busy := range map[float64]bool{0: false, 1.9: false, 2.1: true} {
		page, err := report(&results{Machine: machine{CPUs: 4, Load: load}})
		require.NoError(t, err)
		require.Equal(t, busy, strings.Contains(string(page), "The machine was busy"))
	}
}

func TestVerdict(t *testing.T) {
	most, least := goal{Bound: 1.05}, goal{Bound: 0.97, least: true}
	for _, tt := range []struct {
		goal             goal
		low, value, high float64
		want             string
	}{
		{most, 1.00, 1.02, 1.04, "met"},
		{most, 1.00, 1.04, 1.06, "met, with a doubt"},
		{most, 1.04, 1.06, 1.08, "missed, with a doubt"},
		{most, 1.06, 1.07, 1.08, "**missed**"},
		{most, 1.05, 1.05, 1.05, "met"},
		{least, 0.98, 0.99, 1.00, "met"},
		{least, 0.96, 0.98, 1.00, "met, with a doubt"},
		{least, 0.94, 0.96, 0.98, "missed, with a doubt"},
		{least, 0.90, 0.92, 0.94, "**missed**"},
	} {
		require.Equal(t, tt.want, tt.goal.Verdict(figure{interval: interval{tt.value, tt.low, tt.high}}))
	}
}

// madeUp are numbers of every kind.
func madeUp() *results {
	r := &results{
		Machine:    machine{OS: "linux/amd64", CPUs: 4, Go: "go1.99", PostgreSQL: "17.5", Minutes: 18.6},
		Operations: operations[:5],
		Variants:   variants,
		Skipped:    []string{"Tables of 10000000 rows and more: the server's disk has 100 MB of room for them."},
	}
	madeUpCells(r)
	madeUpCosts(r)
	madeUpCurve(r)
	madeUpMemory(r)
	madeUpSteps(r)
	madeUpSkew(r)
	madeUpProfiles(r)
	return r
}

func madeUpCells(r *results) {
	for _, network := range []string{loopback, noDelay, halfMs, "1 ms"} {
		for _, op := range r.Operations {
			c := cell{Operation: op.Name, Network: network, Rounds: 1000}
			for i, v := range variants {
				times := 1 + float64(i)/50
				c.Timings = append(c.Timings, timing{
					Variant: v.Name, Baseline: v.baseline(), Median: 200 * times, P99: 400 * times,
					Ratio:    interval{times, times - 0.01, times + 0.02},
					P99Added: interval{float64(i) * 20, float64(i)*20 - 30, float64(i)*20 + 40},
				})
			}
			r.Cells = append(r.Cells, c)
		}
	}
}

func madeUpCosts(r *results) {
	for i, v := range variants {
		cpu, amount := float64(80+i), float64(100+i)
		c := cost{Operation: "First", Variant: v.Name, RoundTrips: 1, SentBytes: 10 * amount, ReceivedBytes: 20 * amount,
			Allocations: amount, AllocatedBytes: 70 * amount, ClientCPU: &cpu}
		if i < 5 {
			c.ServerCPU = &amount
		}
		r.Costs = append(r.Costs, c)
	}
}

// madeUpCurve are numbers by how many goroutines, tenants, rows and statements there are.
func madeUpCurve(r *results) {
	for i, v := range curve {
		times := 1 + float64(i)/10
		ratio := interval{times, times - 0.01, times + 0.01}
		for _, network := range []string{loopback, halfMs} {
			for _, n := range []int{1, 16} {
				r.Goroutines = append(r.Goroutines, throughput{Network: network, Goroutines: n, Variant: v.Name,
					PerSecond: 9000 * float64(n) / times, P99: 300 * times, Ratio: interval{1 / times, 0.9 / times, 1.1 / times}})
			}
		}
		for _, size := range []int{10, 100_000} {
			s := sizes{Operation: "First", Variant: v.Name, Size: size, Median: 200 * times, P99: 400, Ratio: ratio, Growth: ratio, Prepared: size}
			r.Tenants, r.Rows, r.Statements = append(r.Tenants, s), append(r.Rows, s), append(r.Statements, s)
			s.Operation = "Find100"
			r.Rows = append(r.Rows, s)
		}
	}
}

func madeUpMemory(r *results) {
	for _, variant := range []string{"plain", "tenancy", "OpenDB"} {
		r.Memory = append(r.Memory, memory{variant, "streamed", each, 3000}, memory{variant, "streamed", bigRows, 3100},
			memory{variant, "collected", each, 30_000}, memory{variant, "collected", bigRows, 1_700_000})
	}
}

func madeUpSteps(r *results) {
	for _, network := range []string{loopback, halfMs} {
		for i, title := range []string{"the statement", "`SELECT 1` before it", "the tenant", "a look", "the role", "the guard's", "an `INSERT`", "the guard's"} {
			cpu, by := 20+2*float64(i), interval{2, 1.5, 2.5}
			r.Steps = append(r.Steps, step{Network: network, Title: title, Than: max(i-1, 0), ServerCPU: &cpu, MoreCPU: &by,
				Time: 3 * cpu, MoreTime: by, Later: interval{2 * float64(i), 1, 20}})
		}
	}
}

func madeUpSkew(r *results) {
	r.Skew = &skewResults{Machine: machine{OS: "linux/amd64", CPUs: 4, PostgreSQL: "17.5", Load: 3}, Rows: 2_000_000, TenantCount: 100_000,
		Tenants: []skewTenant{{Name: "huge", Rows: 800_000}, {Name: "tiny", Rows: 12}}}
	for _, n := range skewNetworks {
		for _, q := range skewQueries[:2] {
			for i, tenant := range r.Skew.Tenants {
				c := skewCell{Query: q.name, Network: n.name, Tenant: tenant.Name}
				for j, v := range n.variants {
					times := 1 + float64(i+j)/10
					c.Timings = append(c.Timings, skewTiming{Variant: v.Name, Rounds: 500, Median: 100 * times, Ratio: interval{times, times - 0.02, times + 0.03}})
				}
				r.Skew.Cells = append(r.Skew.Cells, c)
			}
		}
	}
}

func madeUpProfiles(r *results) {
	of := breakdown{
		Packages:  []share{{"the guard", map[string]float64{"tenancy": 5, "OpenDB": 4}}},
		Functions: []share{{"guard.(*conn).query", map[string]float64{"tenancy": 2, "OpenDB": 2}}, {"gorm.(*DB).Where", map[string]float64{"plain": 3}}},
	}
	r.Profiles = []profiled{{Operation: "First", CPU: of, Allocations: of}}
}
