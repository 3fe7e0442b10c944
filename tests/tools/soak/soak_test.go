package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// TestSoak is the command for a few seconds, with many faults.
func TestSoak(t *testing.T) {
	r, err := soak(t.Context(), plan{
		duration: 3 * time.Second, every: 250 * time.Millisecond, faults: 50 * time.Millisecond,
		goroutines: 16, out: t.Output(),
	})
	require.NoError(t, err)
	t.Log(r)
	require.Empty(t, r.wrong())
	require.NotEmpty(t, r.faults)
	require.NotEmpty(t, r.errs)
	require.Positive(t, r.maxPrepared)
}

// TestReportTellsWhatIsWrong makes reports of runs that went wrong.
func TestReportTellsWhatIsWrong(t *testing.T) {
	steady := func(change func(i int, s *sample)) (samples []sample) {
		for i := range 60 {
			s := sample{at: time.Duration(i) * 10 * time.Second, heap: 20*mega + uint64(i%7)*mega/4, goroutines: 100 + i%9}
			change(i, &s)
			samples = append(samples, s)
		}
		return samples
	}
	for name, test := range map[string]struct {
		report *report
		want   string
	}{
		"heap": {
			&report{well: 1, samples: steady(func(i int, s *sample) { s.heap += uint64(i) * mega / 5 })}, "the heap grew by 7",
		},
		"goroutines": {
			&report{well: 1, samples: steady(func(i int, s *sample) { s.goroutines += i })}, "more goroutines",
		},
		"prepared":   {&report{well: 1, maxPrepared: 100}, "100 statements were prepared"},
		"rows":       {&report{well: 1, rows: []error{errRows}}, "wrong rows"},
		"unexpected": {&report{well: 1, unexpected: []error{os.ErrExist}}, "nothing explains: file already exists"},
		"stuck":      {&report{well: 1, stuck: 1}, "stuck for 30s"},
		"connection": {&report{well: 1, inUse: 2}, "2 connections are still in use"},
		"nothing":    {&report{}, "nothing went well"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := test.report.wrong()
			require.Len(t, wrong, 1)
			require.Contains(t, wrong[0], test.want)
			require.Contains(t, test.report.String(), "WRONG: "+wrong[0])
		})
	}
	well := &report{well: 1, samples: steady(func(int, *sample) {})}
	require.Empty(t, well.wrong())
	require.Contains(t, well.String(), "all well")
}
