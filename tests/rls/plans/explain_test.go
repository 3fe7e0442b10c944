package plans

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// node is a node of a plan, as EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) tells of it.
type node struct {
	Type         string `json:"Node Type"`
	Relationship string `json:"Parent Relationship"`
	Table        string `json:"Relation Name"`
	Index        string `json:"Index Name"`
	Cond         string `json:"Index Cond"`
	Filter       string
	Rows         float64 `json:"Actual Rows"` // PostgreSQL 18 gives fractions
	Loops        float64 `json:"Actual Loops"`
	Removed      float64 `json:"Rows Removed by Filter"`
	Hit          int     `json:"Shared Hit Blocks"`
	Read         int     `json:"Shared Read Blocks"`
	Plans        []node
}

// measured is what one or more runs of a statement took.
type measured struct {
	plan    node
	buffers int       // pages of 8 kB that were looked at, in shared buffers or read into them; those of the last run
	times   []float64 // in milliseconds, without planning
}

func (m measured) median() float64 {
	sorted := slices.Sorted(slices.Values(m.times))
	return sorted[len(sorted)/2]
}

// explain runs a statement once unmeasured, so that what a session must read from the catalogs is read, and then the given
// number of times.
func explain(t *testing.T, conn *pgx.Conn, runs int, sql string, args ...any) measured {
	t.Helper()
	var m measured
	for n := range runs + 1 {
		var text []byte
		err := conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+sql, args...).Scan(&text)
		require.NoError(t, err, sql)
		var result []struct {
			Plan node
			Time float64 `json:"Execution Time"`
		}
		require.NoError(t, json.Unmarshal(text, &result))
		if n > 0 {
			m.plan, m.times = result[0].Plan, append(m.times, result[0].Time)
			m.buffers = m.plan.Hit + m.plan.Read
		}
	}
	return m
}

// nodes returns the node and all below it.
func (n node) nodes() []node {
	list := []node{n}
	for _, child := range n.Plans {
		list = append(list, child.nodes()...)
	}
	return list
}

func (n node) has(is func(node) bool) bool { return slices.ContainsFunc(n.nodes(), is) }

// seeks reports whether a node finds the tenant's rows in an index.
func seeks(n node) bool { return strings.Contains(n.Cond, "tenant_id = ") }

// scansAll reports whether a node reads a table from its first page to its last.
func scansAll(n node) bool { return n.Type == "Seq Scan" }

// uses reports whether a node is a scan of an index.
func uses(index string) func(node) bool { return func(n node) bool { return n.Index == index } }

// readsSetting reports whether a node reads the setting for each row that it filters.
func readsSetting(n node) bool { return strings.Contains(n.Filter, "current_setting(") }

// initPlan reports whether a node is a subquery that is evaluated before the rest.
func initPlan(n node) bool { return n.Relationship == "InitPlan" }

// String names the nodes that read tables, which are what differs between our plans.
func (n node) String() string {
	var scans []string
	for _, s := range n.nodes() {
		var what string
		switch {
		case s.Index != "":
			what = fmt.Sprintf("%s on `%s`", s.Type, s.Index)
		case s.Type == "Seq Scan":
			what = fmt.Sprintf("%s on `%s`", s.Type, s.Table)
		default:
			continue
		}
		if !slices.Contains(scans, what) {
			scans = append(scans, what)
		}
	}
	return strings.Join(scans, ", ")
}

// shape is all of a plan that is the same whenever it is run.
func (n node) shape() string {
	var b strings.Builder
	for _, s := range n.nodes() {
		fmt.Fprintln(&b, s.Type, s.Table, s.Index, s.Cond, s.Filter, s.Rows, s.Loops)
	}
	return b.String()
}
