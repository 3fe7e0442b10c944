package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// interval is an estimate with the bounds between which it lies with a probability of 95 %.
type interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// confidence is the probability of an interval, and resamples how often a bootstrap draws for it.
const (
	confidence = 0.95
	resamples  = 1000
)

// rank is the position of a quantile among n values in ascending order: the nearest rank, from 0.
func rank(n int, q float64) int {
	return min(max(int(math.Ceil(q*float64(n)))-1, 0), n-1)
}

// quantile of values in any order, at least one.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[rank(len(sorted), q)]
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// bootstrap draws rounds anew, again and again, and tells how far the quantiles of the subjects move. All subjects of a
// round are drawn together, for what disturbs a round disturbs all of them; and rounds are drawn in blocks of successive
// ones, for a disturbance lasts longer than one (Künsch, 1989, "The jackknife and the bootstrap for general stationary
// observations").
type bootstrap struct {
	samples   [][]float64 // by subject and round; every subject has as many
	quantiles []float64
	drawn     [][][]float64 // by subject, quantile and resample
}

func newBootstrap(samples [][]float64, rng *rand.Rand, quantiles ...float64) *bootstrap {
	b := &bootstrap{samples: samples, quantiles: quantiles, drawn: make([][][]float64, len(samples))}
	rounds := len(samples[0])
	order := make([][]int, len(samples)) // rounds, by the value of the subject
	for s, values := range samples {
		b.drawn[s] = make([][]float64, len(quantiles))
		order[s] = make([]int, rounds)
		for i := range order[s] {
			order[s][i] = i
		}
		slices.SortFunc(order[s], func(i, j int) int { return compareFloats(values[i], values[j]) })
	}
	times := make([]int, rounds) // how often a round was drawn
	for range resamples {
		drawRounds(times, rng)
		for s, values := range samples {
			for q := range quantiles {
				at := nth(order[s], times, rank(rounds, quantiles[q]))
				b.drawn[s][q] = append(b.drawn[s][q], values[at])
			}
		}
	}
	return b
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// drawRounds fills times with as many rounds as there are.
func drawRounds(times []int, rng *rand.Rand) {
	clear(times)
	n := len(times)
	block := max(int(math.Cbrt(float64(n))), 1)
	for left := n; left > 0; left -= block {
		start := rng.IntN(n)
		for i := range min(block, left) {
			times[(start+i)%n]++
		}
	}
}

// nth returns the round that holds the n-th smallest value, from 0, if each round is there as often as times says.
func nth(order, times []int, n int) int {
	for _, round := range order {
		if n -= times[round]; n < 0 {
			return round
		}
	}
	return order[len(order)-1]
}

// of is the subject's own quantile: the i-th of those asked for.
func (b *bootstrap) of(subject, i int) float64 { return quantile(b.samples[subject], b.quantiles[i]) }

// ratio of a subject's first quantile to that of another.
func (b *bootstrap) ratio(subject, to int) interval {
	return b.compare(subject, to, 0, func(x, y float64) float64 { return x / y })
}

// difference of a subject's i-th quantile, from 0, and that of another.
func (b *bootstrap) difference(subject, from, i int) interval {
	return b.compare(subject, from, i, func(x, y float64) float64 { return x - y })
}

func (b *bootstrap) compare(x, y, i int, f func(x, y float64) float64) interval {
	all := make([]float64, resamples)
	for k := range all {
		all[k] = f(b.drawn[x][i][k], b.drawn[y][i][k])
	}
	const tail = (1 - confidence) / 2
	return interval{
		Value: f(b.of(x, i), b.of(y, i)),
		Low:   quantile(all, tail),
		High:  quantile(all, 1-tail),
	}
}

// paired is the median of the differences between two subjects in the same round. It is finer than the difference of their
// medians where the whole machine is slow for a while, and both with it.
func paired(x, y []float64, rng *rand.Rand) interval {
	differences := make([]float64, len(x))
	for round := range x {
		differences[round] = x[round] - y[round]
	}
	nothing := make([]float64, len(x))
	return newBootstrap([][]float64{differences, nothing}, rng, 0.5).difference(0, 1, 0)
}
