package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// report is what came of it all. Its methods may be used concurrently while the work goes on.
type report struct {
	plan  plan
	begun time.Time
	took  time.Duration

	mu          sync.Mutex
	well        int            // pieces of work that went well
	errs        map[string]int // pieces of work that failed, by kind of error, and faults
	faults      map[string]int
	rows        []error // wrong rows
	unexpected  []error
	stuck       int
	maxPrepared int
	samples     []sample
	inUse       int // connections in use when all was quiet
}

func (r *report) done(err error, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if took >= tooLong {
		r.stuck++
	}
	switch {
	case err == nil:
		r.well++
	case errors.Is(err, errRows):
		r.rows = append(r.rows, err)
	case kind(err) == "":
		r.unexpected = append(r.unexpected, err)
	default:
		r.errs[kind(err)]++
	}
}

func (r *report) foreign(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, err)
}

func (r *report) unexplained(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unexpected = append(r.unexpected, err)
}

func (r *report) fault(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.faults == nil {
		r.faults = make(map[string]int)
	}
	r.faults[kind]++
}

func (r *report) prepared(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.maxPrepared = max(r.maxPrepared, n)
}

func (r *report) add(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, s)
}

const mega = 1 << 20

// line is the progress so far.
func (r *report) line(s sample) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%7s  %9d well  %7d failed as made to  %5d faults  heap %5.1f MB  %4d goroutines  ≤%d prepared  %d wrong",
		s.at.Round(100*time.Millisecond), r.well, sum(r.errs), sum(r.faults), float64(s.heap)/mega, s.goroutines, r.maxPrepared,
		len(r.rows)+len(r.unexpected))
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// What may grow, for a heap is never used to the same degree, and a context that ends takes goroutines a moment.
const (
	heapMayGrow       = 4 * mega
	goroutinesMayGrow = 30
	// A statement that leaves the cache is dropped with the next that is prepared, and those that set the tenant are kept
	// besides.
	preparedBound = capacity + 8
)

// wrong lists what must not be.
func (r *report) wrong() (wrong []string) {
	add := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	for _, err := range r.rows {
		add(true, "%v", err)
	}
	for _, err := range r.unexpected {
		add(true, "nothing explains: %v", err)
	}
	heap, goroutines := r.growth()
	add(heap > heapMayGrow, "the heap grew by %.1f MB", heap/mega)
	add(goroutines > goroutinesMayGrow, "there are %.0f more goroutines", goroutines)
	add(r.maxPrepared > preparedBound, "%d statements were prepared on a connection: %d are its share", r.maxPrepared, capacity)
	add(r.stuck > 0, "%d pieces of work were stuck for %s", r.stuck, tooLong)
	add(r.inUse > 0, "%d connections are still in use", r.inUse)
	add(r.well == 0, "nothing went well")
	return wrong
}

// growth compares the last third of the time with the first, by their medians. The first tenth, in which pools and caches
// fill, does not count.
func (r *report) growth() (heap, goroutines float64) {
	steady := r.samples[len(r.samples)/10:]
	third := len(steady) / 3
	if third == 0 {
		return 0, 0
	}
	first, last := steady[:third], steady[len(steady)-third:]
	heap = median(last, sample.heapBytes) - median(first, sample.heapBytes)
	goroutines = median(last, sample.goroutineCount) - median(first, sample.goroutineCount)
	return heap, goroutines
}

func (s sample) heapBytes() float64      { return float64(s.heap) }
func (s sample) goroutineCount() float64 { return float64(s.goroutines) }
func (s sample) minutes() float64        { return s.at.Minutes() }

func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// slope is how much something grows in a minute, by linear regression.
func slope(samples []sample, of func(sample) float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, s := range samples {
		x, y := s.minutes(), of(s)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// String is the report for people.
func (r *report) String() string {
	var b strings.Builder
	steady := r.samples[len(r.samples)/10:]
	heap, goroutines := r.growth()
	fmt.Fprintf(&b, "\n%s, %d goroutines, %d tenants\n", r.took.Round(time.Second), r.plan.goroutines, tenants)
	fmt.Fprintf(&b, "%9d pieces of work went well\n", r.well)
	list(&b, r.errs, "failed as they were made to")
	list(&b, r.faults, "faults")
	fmt.Fprintf(&b, "%9d wrong rows\n%9d errors that nothing explains\n", len(r.rows), len(r.unexpected))
	fmt.Fprintf(&b, "%9d prepared statements at most on a connection, which may keep %d\n", r.maxPrepared, capacity)
	fmt.Fprintf(&b, "heap in use after collection: %+.2f MB from first to last third, %+.3f MB a minute\n",
		heap/mega, slope(steady, sample.heapBytes)/mega)
	fmt.Fprintf(&b, "goroutines: %+.0f from first to last third, %+.2f a minute\n", goroutines, slope(steady, sample.goroutineCount))
	wrong := r.wrong()
	if len(wrong) == 0 {
		b.WriteString("all well\n")
	}
	for _, w := range wrong[:min(len(wrong), 20)] {
		fmt.Fprintf(&b, "WRONG: %s\n", w)
	}
	return b.String()
}

func list(b *strings.Builder, counts map[string]int, what string) {
	fmt.Fprintf(b, "%9d %s\n", sum(counts), what)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(b, "%9d   %s\n", counts[kind], kind)
	}
}
