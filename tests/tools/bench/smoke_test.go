package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// TestCommand runs a part of the benchmark, and renders its numbers a second time. No time is asserted.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	s, err := readFlags([]string{"-quick", "-only", "First$|First, (loopback|0.5 ms)", "-samples", "5", "-out", dir})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), s))

	r, err := readResults(filepath.Join(dir, "benchmark.json"))
	require.NoError(t, err)
	require.Equal(t, 5, r.cell("First", loopback).Rounds)
	for _, v := range variants {
		require.Positive(t, r.cell("First", halfMs).of(v.Name).Median, v.Name)
		require.Positive(t, r.cost("First", v.Name).Allocations, v.Name)
	}
	for variant, trips := range map[string]float64{"plain": 1, "wrapper": 4, "session": 2, "tenancy": 1, "OpenDB": 1} {
		require.InDelta(t, trips, r.cost("First", variant).RoundTrips, 0, variant)
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmark.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "First by primary key")
	require.FileExists(t, filepath.Join(dir, "benchmark", "ratios.svg"))

	again := t.TempDir()
	require.NoError(t, run(t.Context(), settings{render: filepath.Join(dir, "benchmark.json"), out: again}))
	second, err := os.ReadFile(filepath.Join(again, "benchmark.md"))
	require.NoError(t, err)
	require.Equal(t, string(page), string(second))
}

// TestCommandMeasuresSkewAlone measures tenants of very different sizes, and keeps all other numbers.
func TestCommandMeasuresSkewAlone(t *testing.T) {
	rest := madeUp()
	rest.Skew = nil
	before := t.TempDir()
	require.NoError(t, write(rest, before))
	dir := t.TempDir()
	s, err := readFlags([]string{"-quick", "-only", "skew", "-samples", "5", "-rest", filepath.Join(before, "benchmark.json"), "-out", dir})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), s))

	r, err := readResults(filepath.Join(dir, "benchmark.json"))
	require.NoError(t, err)
	require.Equal(t, rest.Machine, r.Machine)
	require.Equal(t, rest.Cells, r.Cells)
	require.NotEqual(t, rest.Machine, r.Skew.Machine)
	for _, tenant := range r.Skew.Tenants {
		require.Positive(t, tenant.Rows)
	}
	require.Equal(t, 40_000, r.Skew.Tenants[0].Rows)
	for _, n := range skewNetworks {
		for _, q := range skewQueries {
			for _, tenant := range r.Skew.Tenants {
				for _, v := range n.variants {
					require.Positive(t, r.Skew.cell(q.name, n.name, tenant.Name).of(v.Name).Median, "%s, %s, %s, %s", q.name, n.name, tenant.Name, v.Name)
				}
			}
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmark.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "Measured in a separate run")
	require.FileExists(t, filepath.Join(dir, "benchmark", "skew.svg"))
}

// TestVariantsDoTheSame keeps the benchmark honest: in every variant an operation finds its rows, and writes as many; and
// none of the policies' tables shows a row without a tenant.
func TestVariantsDoTheSame(t *testing.T) {
	server, err := pgserver.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	b := &bench{server: server, databases: map[string]*database{}}
	for _, v := range variants {
		d, err := b.database(t.Context(), v)
		require.NoError(t, err)
		observer := v
		if v.way != byHand {
			observer.way = wrapped
		}
		watch, err := observer.open(d.App.DSN, true, 1)
		require.NoError(t, err)
		for _, op := range operations {
			t.Run(op.Name+"/"+v.Name, func(t *testing.T) {
				var ends closer
				defer func() {
					var err error
					ends.close(&err)
					require.NoError(t, err)
				}()
				s, err := b.ready(t.Context(), v, op, network{}, &ends)
				require.NoError(t, err)
				before := watch.count(t, op.tenant)
				require.NoError(t, s.run(3))
				require.Equal(t, before+int64(op.writes), watch.count(t, op.tenant))
			})
		}
		t.Run("without a tenant/"+v.Name, func(t *testing.T) {
			var n int64
			require.NoError(t, watch.db.Model(&Patient{}).Count(&n).Error)
			require.Equal(t, v.way == byHand, n > 0)
		})
		require.NoError(t, watch.close())
	}
}

// count is how many rows the tenant has.
func (c *client) count(t *testing.T, tenant string) (n int64) {
	s := c.as(t.Context(), tenant)
	require.NoError(t, s.do(false, func(db *gorm.DB) error { return s.mine(db.Model(&Patient{})).Count(&n).Error }))
	return n
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		err  string
	}{
		{[]string{"-only", "First"}, "-only needs -out"},
		{[]string{"-only", "(", "-out", "x"}, "missing closing )"},
		{[]string{"-only", "rows", "-rest", "x"}, "-rest needs -only skew"},
		{[]string{"-rest", "x"}, "-rest needs -only skew"},
		{[]string{"First"}, "unknown argument"},
	} {
		_, err := readFlags(tt.args)
		require.ErrorContains(t, err, tt.err)
	}
	s, err := readFlags(nil)
	require.NoError(t, err)
	require.Equal(t, "docs", filepath.Base(s.out))
	require.DirExists(t, s.out)

	s, err = readFlags([]string{"-only", "no such task", "-out", t.TempDir()})
	require.NoError(t, err)
	require.ErrorContains(t, run(t.Context(), s), "no task matches")
}

// TestCommandMeasuresSignedAlone measures statements with a key and the function that verifies, and writes no report.
func TestCommandMeasuresSignedAlone(t *testing.T) {
	s, err := readFlags([]string{"-quick", "-only", "signed", "-samples", "3"})
	require.NoError(t, err)
	require.True(t, s.signed)
	var out strings.Builder
	require.NoError(t, measureSigned(t.Context(), &out, s))
	for _, network := range []string{loopback, halfMs} {
		for _, operation := range signedOperations {
			require.Contains(t, out.String(), "| "+network+" | 10 | "+operation.name+" | 100000 | ")
			require.Contains(t, out.String(), "| "+network+" | 100 | "+operation.name+" | 100000 | ")
		}
	}
	require.Contains(t, out.String(), "The verifying function takes")
}

// TestCommandMeasuresAuditAlone measures records of changes, and writes no report.
func TestCommandMeasuresAuditAlone(t *testing.T) {
	s, err := readFlags([]string{"-quick", "-only", "audit", "-samples", "2"})
	require.NoError(t, err)
	require.True(t, s.audit)
	var out strings.Builder
	require.NoError(t, measureAudit(t.Context(), &out, s))
	for _, statement := range auditStatements {
		for _, rows := range []string{"1", "100", "10000"} {
			require.Contains(t, out.String(), "| "+statement.name+" | "+rows+" | ")
		}
	}
}

// TestCommandMeasuresTenantKeysAlone measures primary keys that hold the tenant, and writes no report.
func TestCommandMeasuresTenantKeysAlone(t *testing.T) {
	s, err := readFlags([]string{"-quick", "-only", "tenantkeys", "-samples", "2"})
	require.NoError(t, err)
	require.True(t, s.keys)
	var out strings.Builder
	require.NoError(t, measureTenantKeys(t.Context(), &out, s))
	for _, operation := range tenantKeysOperations {
		require.Contains(t, out.String(), "| "+operation.name+" | ")
	}
	require.Contains(t, out.String(), "| (id) | 10000 | ")
	require.Contains(t, out.String(), "| records_pkey, uni_records_tenant_id_id |")
	require.Contains(t, out.String(), "| (tenant_id, id) | 10000 | ")
	require.Contains(t, out.String(), "| records_pkey |")
}
