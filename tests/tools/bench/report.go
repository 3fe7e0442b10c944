package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/template"
)

//go:embed report.md.tmpl
var reportText string

// report writes the numbers as a page of Markdown. Its words are in report.md.tmpl.
func report(r *results) ([]byte, error) {
	t, err := template.New("report").Parse(reportText)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = t.Execute(&page, view{r})
	return page.Bytes(), err
}

// view is what the template sees.
type view struct{ *results }

// Has reports whether anything was measured under a network.
func (v view) Has(network string) bool {
	return slices.ContainsFunc(v.Cells, func(c cell) bool { return c.Network == network })
}

// NetworkNames are those under which everything is measured.
func (view) NetworkNames() []string { return []string{halfMs, noDelay, loopback} }

// StepNetworks are those under which messages are measured.
func (view) StepNetworks() []string { return []string{loopback, halfMs} }

// Missed are the goals that were missed.
func (v view) Missed() (missed []goal) {
	for _, g := range v.goals() {
		if g.Missed() {
			missed = append(missed, g)
		}
	}
	return missed
}

// Score counts the findings that keep to their goals' bounds, and all.
func (v view) Score() string {
	met, all := 0, 0
	for _, g := range v.goals() {
		for _, f := range g.Found {
			all++
			if g.holds(f.Guard.Value) {
				met++
			}
		}
	}
	return fmt.Sprintf("%d of %d", met, all)
}

// TargetTable has a row for each finding.
func (v view) TargetTable() string {
	t := newTable("target", "operation", "tenancy", "", "OpenDB")
	for _, g := range v.goals() {
		text := g.Text
		for _, f := range g.Found {
			second := "–"
			if f.Direct != nil {
				second = f.Direct.String()
			}
			t.row(text, f.What, f.Guard.String(), g.Verdict(f.Guard), second)
			text = ""
		}
	}
	return t.String()
}

// RatioTable has a row for each operation, and a column for each variant.
func (v view) RatioTable(network string) string {
	t := newTable("operation", "plain")
	var columns []string
	for _, v := range v.Variants {
		if v.Name != "plain" && v.Name != "plain, PrepareStmt" {
			columns = append(columns, v.Name)
			t.column(v.Name)
		}
	}
	for _, op := range v.Operations {
		c := v.cell(op.Name, network)
		if c == nil {
			continue
		}
		row := []string{op.Title, fmt.Sprintf("%.2f ms", c.of("plain").Median/1000)}
		for _, name := range columns {
			row = append(row, c.of(name).ratio())
		}
		t.row(row...)
	}
	return t.String()
}

// DelayTable has a row for each operation and a column for each network.
func (v view) DelayTable(variant string) string {
	t := newTable("operation")
	var columns []string
	for _, n := range networks {
		if v.Has(n.name) {
			columns = append(columns, n.name)
			t.column(n.name)
		}
	}
	for _, op := range v.Operations {
		row := []string{op.Title}
		for _, network := range columns {
			row = append(row, v.cell(op.Name, network).of(variant).ratio())
		}
		t.row(row...)
	}
	return t.String()
}

// P99Table has the 99th percentiles, and what the plugin adds to them.
func (v view) P99Table(network string) string {
	t := newTable("operation", "plain", "wrapper", "tenancy", "added to plain", "OpenDB", "added to plain")
	for _, op := range v.Operations {
		c := v.cell(op.Name, network)
		if c == nil {
			continue
		}
		at := func(variant string) string { return fmt.Sprintf("%.2f ms", c.of(variant).P99/1000) }
		t.row(op.Title, at("plain"), at("wrapper"), at("tenancy"), figure{c.of("tenancy").P99Added, "µs"}.String(),
			at("OpenDB"), figure{c.of("OpenDB").P99Added, "µs"}.String())
	}
	return t.String()
}

// CostTable has a row for each operation and a column for each variant.
func (v view) CostTable(what string) string {
	t := newTable("operation")
	for _, v := range v.Variants {
		t.column(v.Name)
	}
	for _, op := range v.Operations {
		row := []string{op.Title}
		for _, variant := range v.Variants {
			row = append(row, v.cost(op.Name, variant.Name).tell(what))
		}
		if slices.ContainsFunc(row[1:], func(s string) bool { return s != "–" }) {
			t.row(row...)
		}
	}
	return t.String()
}

func (c *cost) tell(what string) string {
	switch {
	case c == nil:
		return "–"
	case what == "round trips":
		return number(c.RoundTrips)
	case what == "wire":
		return number(math.Round(c.SentBytes)) + " + " + number(math.Round(c.ReceivedBytes))
	case what == "allocations":
		return number(c.Allocations)
	case what == "allocated":
		return number(math.Round(c.AllocatedBytes))
	case what == "client":
		return amountOf(c.ClientCPU)
	default:
		return amountOf(c.ServerCPU)
	}
}

func amountOf(value *float64) string {
	if value == nil {
		return "–"
	}
	return amount(*value)
}

// GoroutineTable has the throughput by the number of goroutines.
func (v view) GoroutineTable(network string) string {
	t := newTable("goroutines", "plain, per second", "wrapper / plain", "tenancy / plain", "p99 plain", "p99 tenancy")
	for _, base := range v.Goroutines {
		if base.Network != network || base.Variant != "plain" {
			continue
		}
		of := func(variant string) (found throughput) {
			for _, t := range v.Goroutines {
				if t.Network == network && t.Goroutines == base.Goroutines && t.Variant == variant {
					found = t
				}
			}
			return found
		}
		t.row(number(float64(base.Goroutines)), number(math.Round(base.PerSecond)), ratio(of("wrapper").Ratio),
			ratio(of("tenancy").Ratio), fmt.Sprintf("%.2f ms", base.P99/1000), fmt.Sprintf("%.2f ms", of("tenancy").P99/1000))
	}
	return t.String()
}

// SizeTable has the medians by size.
func (v view) SizeTable(curve, operation string) string {
	all := map[string][]sizes{"tenants": v.Tenants, "rows": v.Rows, "texts": v.Statements}[curve]
	t := newTable(curve, "plain", "wrapper / plain", "tenancy / plain", "growth of plain", "growth of tenancy")
	for _, base := range all {
		if base.Operation != operation || base.Variant != "plain" {
			continue
		}
		of := func(variant string) (found sizes) {
			for _, s := range all {
				if s.Operation == operation && s.Size == base.Size && s.Variant == variant {
					found = s
				}
			}
			return found
		}
		t.row(number(float64(base.Size)), fmt.Sprintf("%.2f ms", base.Median/1000), ratio(of("wrapper").Ratio),
			ratio(of("tenancy").Ratio), ratio(base.Growth), ratio(of("tenancy").Growth))
	}
	return t.String()
}

// SkewTable has a row for each query and tenant.
func (v view) SkewTable() string {
	t := newTable("query", "tenant", "plain", "tenancy", "tenancy / plain", "the same, 0.5 ms each way", "policy alone", "policy alone / plain")
	query := ""
	for i := range v.Skew.Cells {
		c := &v.Skew.Cells[i]
		if c.Network != loopback {
			continue
		}
		name := c.Query
		if name == query {
			name = ""
		}
		query = c.Query
		far := "–"
		if timing := v.Skew.cell(c.Query, halfMs, c.Tenant).of("tenancy"); timing != nil {
			far = ratio(timing.Ratio)
		}
		plain, guarded, policy := c.of("plain"), c.of("tenancy"), c.of("policy alone")
		t.row(name, c.Tenant, milliseconds(plain.Median), milliseconds(guarded.Median), ratio(guarded.Ratio), far,
			milliseconds(policy.Median), times(policy.Ratio.Value))
	}
	return t.String()
}

// SkewTenants names the tenants and how many rows each has.
func (v view) SkewTenants() string {
	var parts []string
	for _, t := range v.Skew.Tenants {
		parts = append(parts, fmt.Sprintf("*%s* with %s", t.Name, number(float64(t.Rows))))
	}
	return strings.Join(parts, ", ")
}

// SkewWarmUp is how often each tenant's query runs before it is timed.
func (view) SkewWarmUp() int { return warmUp }

// SkewAlone reports whether the tenants of different sizes were measured in a run of their own.
func (v view) SkewAlone() bool { return v.Skew.Machine != v.Machine }

// Number writes an integer with commas.
func (view) Number(n int) string { return number(float64(n)) }

func milliseconds(microseconds float64) string {
	if microseconds >= 10_000 {
		return number(math.Round(microseconds/1000)) + " ms"
	}
	return fmt.Sprintf("%.3g ms", microseconds/1000)
}

func times(ratio float64) string {
	if ratio >= 10 {
		return number(math.Round(ratio))
	}
	return fmt.Sprintf("%.2f", ratio)
}

// Prepared is how many statements the server held prepared at most, with a variant.
func (v view) Prepared(variant string) (most int) {
	for _, s := range v.Statements {
		if s.Variant == variant {
			most = max(most, s.Prepared)
		}
	}
	return most
}

// MemoryTable has the peaks of the heap.
func (v view) MemoryTable() string {
	t := newTable("", "streamed, 100 rows", "streamed, 10,000 rows", "into a slice, 100 rows", "into a slice, 10,000 rows")
	peak := func(variant, how string, rows int) string {
		for _, m := range v.Memory {
			if m.Variant == variant && m.How == how && m.Rows == rows {
				return fmt.Sprintf("%.1f KiB", float64(m.Peak)/1024)
			}
		}
		return "–"
	}
	for _, variant := range []string{"plain", "tenancy", "OpenDB"} {
		t.row(variant, peak(variant, "streamed", each), peak(variant, "streamed", bigRows),
			peak(variant, "collected", each), peak(variant, "collected", bigRows))
	}
	return t.String()
}

// StepsUnder are those that were measured under a network.
func (v view) StepsUnder(network string) (under []step) {
	for _, s := range v.Steps {
		if s.Network == network {
			under = append(under, s)
		}
	}
	return under
}

// StepTable has what it takes to answer messages, step by step.
func (v view) StepTable(network string) string {
	t := newTable("sent together", "server CPU, µs", "more", "answered after, µs", "more", "than")
	for i, s := range v.StepsUnder(network) {
		cpu, time, than := "–", "–", "–"
		if s.Than != i {
			time, than = more(s.MoreTime), fmt.Sprintf("line %d", s.Than+1)
			if s.MoreCPU != nil {
				cpu = more(*s.MoreCPU)
			}
		}
		t.row(fmt.Sprintf("%d. %s", i+1, s.Title), amountOf(s.ServerCPU), cpu, amount(s.Time), time, than)
	}
	return t.String()
}

func more(by interval) string {
	return fmt.Sprintf("%+.1f (%+.1f to %+.1f)", by.Value, by.Low, by.High)
}

// ShareTable has the shares of functions or packages, the greatest difference first.
func (v view) ShareTable(title string, all []share) string {
	const (
		most  = 14
		least = 0.05 // of what nobody asks
	)
	t := newTable(title, "plain", "tenancy", "OpenDB", "tenancy − plain")
	for i, s := range all {
		if i == most {
			break
		}
		if math.Abs(s.more("tenancy")) >= least || math.Abs(s.more("OpenDB")) >= least {
			t.row(strings.Replace(s.Name, "*", "\\*", 1), amount(s.Per["plain"]), amount(s.Per["tenancy"]), amount(s.Per["OpenDB"]),
				fmt.Sprintf("%+.1f", s.more("tenancy")))
		}
	}
	return t.String()
}

// More is by how much more of a package the plugin needs than plain GORM, in the profile of an operation.
func (v view) More(operation, pkg string) string {
	for _, p := range v.Profiles {
		for _, s := range p.CPU.Packages {
			if p.Operation == operation && s.Name == pkg {
				return fmt.Sprintf("%+.1f µs", s.more("tenancy"))
			}
		}
	}
	return "0 µs"
}

// StepLater is how much later than the statement by hand a step is answered, in microseconds.
func (v view) StepLater(network string, step int) string {
	return more(v.StepsUnder(network)[step].Later)
}

// Saturated is what First takes of all processors with 16 goroutines on loopback, in plain GORM, in microseconds.
func (v view) Saturated() string {
	for _, t := range v.Goroutines {
		if t.Network == loopback && t.Goroutines == 16 && t.Variant == "plain" {
			return fmt.Sprintf("%.0f", float64(v.Machine.CPUs)*1e6/t.PerSecond)
		}
	}
	return "an unknown number of"
}

// Part is a part of the time of plain GORM's operation, in microseconds.
func (v view) Part(part float64, operation, network string) string {
	c := v.cell(operation, network)
	if c == nil {
		return "an unknown time"
	}
	return fmt.Sprintf("%.1f", part*c.of("plain").Median)
}

func (f figure) String() string {
	switch {
	case f.Unit == "":
		return ratio(f.interval)
	case f.Low == f.High:
		return fmt.Sprintf("%+.1f %s", f.Value, f.Unit)
	}
	return fmt.Sprintf("%+.0f %s (%+.0f to %+.0f)", f.Value, f.Unit, f.Low, f.High)
}

// ratio writes the interval only where there is one.
func ratio(i interval) string {
	if i.Low == i.High {
		return fmt.Sprintf("%.2f", i.Value)
	}
	return fmt.Sprintf("%.3f (%.3f to %.3f)", i.Value, i.Low, i.High)
}

// ratio is short enough for a table of many columns: the greater half of the interval stands for both.
func (t *timing) ratio() string {
	if t == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f ±%.2f", t.Ratio.Value, max(t.Ratio.High-t.Ratio.Value, t.Ratio.Value-t.Ratio.Low))
}

func amount(value float64) string {
	if math.Abs(value) >= 100 {
		return number(math.Round(value))
	}
	return fmt.Sprintf("%.1f", value)
}

// table is one of Markdown's.
type table struct {
	head []string
	rows [][]string
}

func newTable(head ...string) *table { return &table{head: head} }

func (t *table) column(name string)  { t.head = append(t.head, name) }
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	line(slices.Repeat([]string{"---"}, len(t.head)))
	for _, row := range t.rows {
		line(row)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func withoutMarkup(s string) string { return strings.ReplaceAll(s, "`", "") }
