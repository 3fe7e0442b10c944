package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/wire"
)

// BenchmarkTenancy takes turns: each round runs every variant once, in random order, so that whatever else the machine
// does meets all of them alike. It reports the median of each variant in microseconds ("guard-µs"), the medians' ratio
// to plain GORM ("guard/plain"), and allocations of a statement ("guard-allocs").
func BenchmarkTenancy(b *testing.B) {
	for _, op := range operations {
		for _, delay := range []time.Duration{0, 500 * time.Microsecond} {
			b.Run(fmt.Sprintf("%s/delay=%v", op.name, delay), func(b *testing.B) { compare(b, op, delay) })
		}
	}
}

// warmUp is more than the five executions after which PostgreSQL may go over to a generic plan
// (https://www.postgresql.org/docs/current/sql-prepare.html).
const warmUp = 20

func compare(b *testing.B, op operation, delay time.Duration) {
	d := newDatabase(b)
	_, throughProxy := wire.Start(b, d.App.DSN, wire.WithDelay(delay))
	run := make([]func() error, len(variants))
	for i, v := range variants {
		run[i] = v.open(b, throughProxy, op)
		for range warmUp {
			require.NoError(b, run[i]())
		}
	}

	took := make([][]time.Duration, len(variants))
	runtime.GC()
	for b.Loop() {
		for _, i := range rand.Perm(len(variants)) {
			began := time.Now()
			err := run[i]()
			took[i] = append(took[i], time.Since(began))
			if err != nil {
				b.Fatal(err)
			}
		}
	}

	b.ReportMetric(0, "ns/op") // that of a round says nothing
	plain := median(took[0])
	for i, v := range variants {
		m := median(took[i])
		b.ReportMetric(float64(m)/float64(time.Microsecond), v.name+"-µs")
		if i > 0 {
			b.ReportMetric(float64(m)/float64(plain), v.name+"/plain")
		}
		b.ReportMetric(allocations(b, v.open(b, d.App.DSN, op)), v.name+"-allocs")
	}
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// allocations of one run, on a connection without the proxy, which has its own.
func allocations(b *testing.B, run func() error) float64 {
	for range warmUp {
		require.NoError(b, run())
	}
	return testing.AllocsPerRun(100, func() {
		if err := run(); err != nil {
			b.Fatal(err)
		}
	})
}

// TestVariantsDoTheSame keeps the benchmark honest: in every variant an operation finds its rows, and writes as many.
func TestVariantsDoTheSame(t *testing.T) {
	d := newDatabase(t)
	admin := open(t, d.Admin.DSN, true)
	count := func(model any) (n int64) {
		require.NoError(t, where(admin.Model(model)).Count(&n).Error)
		return n
	}
	for _, op := range operations {
		for _, v := range variants {
			t.Run(op.name+"/"+v.name, func(t *testing.T) {
				protected, unprotected := count(&Patient{}), count(&Unprotected{})
				require.NoError(t, v.open(t, d.App.DSN, op)())
				if v.name == "plain" {
					unprotected += op.writes
				} else {
					protected += op.writes
				}
				require.Equal(t, protected, count(&Patient{}))
				require.Equal(t, unprotected, count(&Unprotected{}))
			})
		}
	}
}
