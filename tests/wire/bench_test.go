package wire

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkRoundTrip tells what the proxy adds to a round trip, and how exact its delays are.
func BenchmarkRoundTrip(b *testing.B) {
	for _, bench := range []struct {
		name string
		opts []Option
	}{
		{"direct", nil},
		{"delay=0", []Option{WithDelay(0)}},
		{"delay=100us", []Option{WithDelay(100 * time.Microsecond)}},
		{"delay=500us", []Option{WithDelay(500 * time.Microsecond)}},
		{"delay=5ms", []Option{WithDelay(5 * time.Millisecond)}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			address := echo(b, "tcp", "127.0.0.1:0").Addr().String()
			if bench.opts != nil {
				address = start(b, address, bench.opts...).Addr()
			}
			c, err := net.Dial("tcp", address)
			require.NoError(b, err)
			defer c.Close()
			roundTrip(b, c, startup())
			question := message('Q', "SELECT * FROM patients WHERE id = 1")
			took := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for range b.N {
				began := time.Now()
				roundTrip(b, c, question)
				took = append(took, time.Since(began))
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}
