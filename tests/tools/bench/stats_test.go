package main

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(7, 11)) }

func TestQuantile(t *testing.T) {
	tests := []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{"one value", []float64{3}, 0.99, 3},
		{"odd median", []float64{9, 1, 5}, 0.5, 5},
		{"even median is the lower one", []float64{4, 1, 3, 2}, 0.5, 2},
		{"nearest rank", []float64{15, 20, 35, 40, 50}, 0.4, 20},
		{"least", []float64{2, 1}, 0, 1},
		{"most", []float64{1, 2}, 1, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.InDelta(t, tt.want, quantile(tt.values, tt.q), 0)
		})
	}

	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	require.InDelta(t, 99, quantile(hundred, 0.99), 0)
	require.InDelta(t, 100, hundred[0], 0, "the values keep their order")
}

func TestDrawnRoundsAreAsManyAndInBlocks(t *testing.T) {
	for _, n := range []int{1, 2, 7, 8, 1000} {
		times := make([]int, n)
		for range 20 {
			drawRounds(times, newRand())
			sum := 0
			for _, k := range times {
				sum += k
			}
			require.Equal(t, n, sum)
		}
	}
	times := make([]int, 1000) // blocks of 10
	drawRounds(times, newRand())
	changes := 0
	for i := 1; i < len(times); i++ {
		if times[i] != times[i-1] {
			changes++
		}
	}
	require.LessOrEqual(t, changes, 200, "each of 100 blocks begins and ends once")
}

func TestNth(t *testing.T) {
	values := []float64{30, 10, 20}
	order, times := []int{1, 2, 0}, []int{2, 1, 0} // drawn: 30, 30, 10
	for n, want := range []float64{10, 30, 30} {
		require.InDelta(t, want, values[nth(order, times, n)], 0)
	}
}

// TestIntervalsHoldTheTruth draws from distributions whose medians are known, again and again: an interval of 95 % holds
// the ratio of the medians most of the time, and not always.
func TestIntervalsHoldTheTruth(t *testing.T) {
	const experiments, rounds, truth = 200, 101, 1.25
	rng := newRand()
	held := 0
	for range experiments {
		samples := [][]float64{nil, nil}
		for range rounds {
			disturbance := rng.ExpFloat64() * 5 // of the whole round
			samples[0] = append(samples[0], 400+10*rng.NormFloat64()+disturbance)
			samples[1] = append(samples[1], truth*(400+10*rng.NormFloat64()+disturbance))
		}
		i := newBootstrap(samples, rng, 0.5).ratio(1, 0)
		require.LessOrEqual(t, i.Low, i.High)
		if i.Low <= truth && truth <= i.High {
			held++
		}
	}

	require.Greater(t, held, experiments*88/100)
	require.Less(t, held, experiments)
}

// TestDisturbancesOfARoundCancelOut: where all subjects of a round are disturbed alike, the interval of their ratio is
// narrow, as it is not if each is drawn by itself.
func TestDisturbancesOfARoundCancelOut(t *testing.T) {
	rng := newRand()
	together := [][]float64{nil, nil}
	for range 200 {
		x := 100 + 900*rng.Float64()
		together[0], together[1] = append(together[0], x), append(together[1], 1.1*x)
	}
	i := newBootstrap(together, rng, 0.5).ratio(1, 0)
	require.InDelta(t, 1.1, i.Low, 1e-9)
	require.InDelta(t, 1.1, i.Value, 1e-9)
	require.InDelta(t, 1.1, i.High, 1e-9)
}

func TestDifference(t *testing.T) {
	samples := [][]float64{{1, 1, 1, 50}, {3, 3, 3, 90}}
	b := newBootstrap(samples, newRand(), 0.5, 0.99)
	require.Equal(t, interval{2, 2, 40}, b.difference(1, 0, 0))
	require.InDelta(t, 40, b.difference(1, 0, 1).Value, 0)
	require.InDelta(t, 90, b.of(1, 1), 0)
}
