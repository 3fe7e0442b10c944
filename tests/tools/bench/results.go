package main

import (
	"encoding/json"
	"os"
)

// results are all numbers of a run. The report is made of them alone. Times are in microseconds.
type results struct {
	Machine    machine     `json:"machine"`
	Operations []operation `json:"operations"`
	Variants   []variant   `json:"variants"`

	Cells      []cell       `json:"cells"`
	Costs      []cost       `json:"costs"`
	Goroutines []throughput `json:"goroutines"`
	Tenants    []sizes      `json:"tenants"`
	Rows       []sizes      `json:"rows"`
	Statements []sizes      `json:"statements"`
	Memory     []memory     `json:"memory"`
	Steps      []step       `json:"steps"`
	Skew       *skewResults `json:"skew,omitempty"`
	Profiles   []profiled   `json:"profiles"`

	// Skipped says what was not measured, and why.
	Skipped []string `json:"skipped"`

	sections map[string]string // those of the page that other runs have measured
}

// machine is what the numbers depend on.
type machine struct {
	OS         string  `json:"os"`
	CPUs       int     `json:"cpus"`
	Go         string  `json:"go"`
	PostgreSQL string  `json:"postgresql"`
	Quick      bool    `json:"quick"`
	Minutes    float64 `json:"minutes"`
	// Load is how many processes wanted a processor in the minute before, 0 where the system does not tell.
	Load float64 `json:"load"`
}

// Busy reports whether others worked on the machine, more than a comparison can take.
func (m machine) Busy() bool { return m.Load > float64(m.CPUs)/2 }

// cell is one operation under one network, in all the variants that were compared.
type cell struct {
	Operation string   `json:"operation"`
	Network   string   `json:"network"`
	Rounds    int      `json:"rounds"`
	Timings   []timing `json:"timings"`
}

// timing is what one variant took, and how that compares with its baseline.
type timing struct {
	Variant  string   `json:"variant"`
	Baseline string   `json:"baseline"`
	Median   float64  `json:"median"`
	P99      float64  `json:"p99"`
	Ratio    interval `json:"ratio"`     // of the medians
	P99Added interval `json:"p99_added"` // difference of the 99th percentiles
}

// cost is what one run of an operation uses, in one variant.
type cost struct {
	Operation      string   `json:"operation"`
	Variant        string   `json:"variant"`
	RoundTrips     float64  `json:"round_trips"`
	SentBytes      float64  `json:"sent_bytes"`
	ReceivedBytes  float64  `json:"received_bytes"`
	Allocations    float64  `json:"allocations"`
	AllocatedBytes float64  `json:"allocated_bytes"`
	ClientCPU      *float64 `json:"client_cpu"` // nil where the system does not tell
	ServerCPU      *float64 `json:"server_cpu"` // nil where the server is out of reach
}

// throughput of one variant, with so many goroutines at work.
type throughput struct {
	Network    string   `json:"network"`
	Goroutines int      `json:"goroutines"`
	Variant    string   `json:"variant"`
	PerSecond  float64  `json:"per_second"`
	P99        float64  `json:"p99"`
	Ratio      interval `json:"ratio"`
}

// sizes is how an operation of one variant takes a size: of a table, of the number of tenants, of a cache.
type sizes struct {
	Operation string   `json:"operation"`
	Variant   string   `json:"variant"`
	Size      int      `json:"size"`
	Median    float64  `json:"median"`
	P99       float64  `json:"p99"`
	Ratio     interval `json:"ratio"` // to plain GORM at this size
	Growth    interval `json:"growth"`
	// Prepared is the number of statements that the server holds prepared for the connection, where that was asked.
	Prepared int `json:"prepared,omitempty"`
}

// memory is the most that was alive on the heap while rows were read, beyond what was before.
type memory struct {
	Variant string `json:"variant"`
	How     string `json:"how"`
	Rows    int    `json:"rows"`
	Peak    int64  `json:"peak"` // bytes
}

// step is what it takes to answer messages, as one part is added after the other. Times are in microseconds.
type step struct {
	Network   string    `json:"network"`
	Title     string    `json:"title"`
	Than      int       `json:"than"`       // the step that it exceeds, as numbered from 0
	ServerCPU *float64  `json:"server_cpu"` // nil where the server is out of reach
	MoreCPU   *interval `json:"more_cpu"`
	Time      float64   `json:"time"`
	MoreTime  interval  `json:"more_time"`
	Later     interval  `json:"later"` // than the statement by hand
}

// skewResults are of tables that tenants of very different sizes share.
type skewResults struct {
	Machine     machine      `json:"machine"`
	Rows        int          `json:"rows"` // of each table
	TenantCount int          `json:"tenant_count"`
	Tenants     []skewTenant `json:"tenants"`
	Cells       []skewCell   `json:"cells"`
}

// skewCell is a query for a tenant under a network, in all variants.
type skewCell struct {
	Query   string       `json:"query"`
	Network string       `json:"network"`
	Tenant  string       `json:"tenant"`
	Timings []skewTiming `json:"timings"`
}

// skewTiming is what one variant took, and its ratio to plain GORM: an interval where it ran in as many rounds.
type skewTiming struct {
	Variant string   `json:"variant"`
	Rounds  int      `json:"rounds"`
	Median  float64  `json:"median"`
	Ratio   interval `json:"ratio"`
}

// cell finds one, or nil.
func (r *skewResults) cell(query, network, tenant string) *skewCell {
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Query == query && c.Network == network && c.Tenant == tenant {
			return c
		}
	}
	return nil
}

// of finds the timing of a variant, or nil.
func (c *skewCell) of(variant string) *skewTiming {
	if c == nil {
		return nil
	}
	for i := range c.Timings {
		if c.Timings[i].Variant == variant {
			return &c.Timings[i]
		}
	}
	return nil
}

// profiled is where the client's time and allocations of an operation go.
type profiled struct {
	Operation   string    `json:"operation"`
	CPU         breakdown `json:"cpu"` // microseconds
	Allocations breakdown `json:"allocations"`
}

// breakdown has each amount twice: by package, and by function, there without the small ones.
type breakdown struct {
	Packages  []share `json:"packages"`
	Functions []share `json:"functions"`
}

// share is the amount per statement that a function or a package has, by variant.
type share struct {
	Name string             `json:"name"`
	Per  map[string]float64 `json:"per"`
}

// takeRest takes all but the tenants of very different sizes from a file of numbers.
func (r *results) takeRest(path string) error {
	rest, err := readResults(path)
	if err != nil {
		return err
	}
	rest.Skew = r.Skew
	*r = *rest
	return nil
}

func readResults(path string) (*results, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(results)
	return r, json.Unmarshal(content, r)
}

// cell finds one, or nil.
func (r *results) cell(operation, network string) *cell {
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Operation == operation && c.Network == network {
			return c
		}
	}
	return nil
}

// of finds the timing of a variant, or nil.
func (c *cell) of(variant string) *timing {
	if c == nil {
		return nil
	}
	for i := range c.Timings {
		if c.Timings[i].Variant == variant {
			return &c.Timings[i]
		}
	}
	return nil
}

// cost finds one, or nil.
func (r *results) cost(operation, variant string) *cost {
	for i := range r.Costs {
		if c := &r.Costs[i]; c.Operation == operation && c.Variant == variant {
			return c
		}
	}
	return nil
}
