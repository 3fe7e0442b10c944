package webhooks

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBreakerOpensAndOneAttemptDecides, for all workers, and what waits is not counted as attempts.
func TestBreakerOpensAndOneAttemptDecides(t *testing.T) {
	const events, failures = 20, 4
	config := testConfig()
	config.BreakAfter, config.BreakFor, config.Jitter = failures-1, 500*time.Millisecond, -1
	config.Schedule = slices.Repeat([]time.Duration{10 * time.Millisecond}, 5)
	f := newFixture(t, config)
	r := newReceiver(t)
	r.answer(func(w http.ResponseWriter, _ *http.Request) {
		if r.count() <= failures {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	endpoint, _ := f.endpoint(t, acme, r.URL)
	breaker := func() (b Breaker) {
		require.NoError(t, f.db.WithContext(as(acme)).Take(&b, "endpoint_id = ?", endpoint.ID).Error)
		return b
	}
	f.work(t)
	f.work(t) // another process, with a connection pool of its own
	ids := []string{f.emit(t, acme, "task.created", nil)}
	eventually(t, func() bool { return breaker().OpenUntil != nil }, "it opens")
	for range events {
		ids = append(ids, f.emit(t, acme, "task.created", nil))
	}
	for _, id := range ids {
		f.waitFor(t, id, Delivered)
	}
	require.Equal(t, "closed", breaker().State(time.Now()))
	require.Zero(t, breaker().Failures)
	var attempts []Attempt
	require.NoError(t, f.admin.Order("created_at, id").Find(&attempts).Error)
	var failed int
	for i, attempt := range attempts {
		if attempt.Error != "" {
			failed++
		}
		if i == failures-1 || i == failures { // the one that decides, twice
			require.GreaterOrEqual(t, attempt.CreatedAt.Sub(attempts[i-1].CreatedAt), config.BreakFor-time.Millisecond, i)
		}
	}
	require.Equal(t, failures, failed, "one after it has opened, though many wait and two workers work")
}

// TestBreakerAdmitsOneWhileHalfOpen.
func TestBreakerAdmitsOneWhileHalfOpen(t *testing.T) {
	config := mustDefaults(t, Config{})
	now := time.Now()
	var b Breaker
	for range config.BreakAfter {
		require.Zero(t, b.admit(now, time.Second))
		b.failed(now, config)
	}
	require.Equal(t, "open", b.State(now))
	require.Equal(t, config.BreakFor, b.admit(now, time.Second))
	now = now.Add(config.BreakFor)
	require.Equal(t, "half-open", b.State(now))
	require.Zero(t, b.admit(now, time.Second))
	require.Equal(t, time.Second, b.admit(now, time.Second), "another one waits")
	require.Zero(t, b.admit(now.Add(time.Second), time.Second), "the worker that had it was killed")
	b.failed(now, config)
	require.Equal(t, "open", b.State(now), "one failure is enough")
	require.Zero(t, b.admit(now.Add(config.BreakFor), time.Second))
	b.succeeded()
	require.Equal(t, "closed", b.State(now))
	require.Zero(t, b.admit(now, time.Second))
}

// TestEndpointThatFailsTooLongIsDisabled, with an event to the tenant's other endpoints; so is one that is gone.
func TestEndpointThatFailsTooLongIsDisabled(t *testing.T) {
	for reason, answer := range map[string]int{DisabledFailing: http.StatusBadGateway, DisabledGone: http.StatusGone} {
		f := newFixture(t, testConfig())
		failing, other, foreign := newReceiver(t), newReceiver(t), newReceiver(t)
		failing.answer(status(answer))
		endpoint, _ := f.endpoint(t, acme, failing.URL, "task.created")
		f.endpoint(t, acme, other.URL, TypeDisabled)
		f.endpoint(t, globex, foreign.URL)
		if reason == DisabledFailing {
			since := time.Now().Add(-6 * 24 * time.Hour)
			require.NoError(t, f.admin.Model(&Breaker{}).Where("endpoint_id = ?", endpoint.ID).Update("failing_since", since).Error)
		}
		f.work(t)
		id := f.emit(t, acme, "task.created", nil)
		d := f.waitFor(t, id, Dead)
		require.Equal(t, "the endpoint is disabled: "+reason, d.Reason)
		require.Equal(t, 1, failing.count())
		eventually(t, func() bool { return other.count() == 1 }, "the event")
		var body struct {
			Type string
			Data map[string]string
		}
		require.NoError(t, json.Unmarshal(other.all()[0].body, &body))
		require.Equal(t, TypeDisabled, body.Type)
		require.Equal(t, map[string]string{"endpoint_id": endpoint.ID, "reason": reason}, body.Data)
		require.Zero(t, foreign.count())

		failing.answer(nil)
		_, err := f.service.Update(f.db.WithContext(as(acme)), endpoint.ID, 0, Settings{URL: failing.URL, Types: endpoint.Types})
		require.NoError(t, err)
		f.waitFor(t, f.emit(t, acme, "task.created", nil), Delivered)
	}
}

// TestRetryAfterIsHonoured, within bounds.
func TestRetryAfterIsHonoured(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for text, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-1": 0, "x": 0, "99999999": maxRetryAfter, "99999999999999999999": 0,
		now.Add(time.Minute).UTC().Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).UTC().Format(http.TimeFormat): 0,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {text}}, now), text)
	}
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	r.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	f.endpoint(t, acme, r.URL)
	f.work(t)
	id := f.emit(t, acme, "task.created", nil)
	eventually(t, func() bool {
		var d Delivery
		return f.admin.Take(&d, "event_id = ? AND attempts = 1", id).Error == nil && time.Until(d.NextAttemptAt) > 59*time.Minute
	}, "it waits as it was asked to")
}

// TestDefaultScheduleLastsDays: pauses grow from half a minute to a day, and jitter makes them longer only.
func TestDefaultScheduleLastsDays(t *testing.T) {
	config := mustDefaults(t, Config{})
	var last, sum time.Duration
	for n := 1; ; n++ {
		pause, more := config.pause(n)
		if !more {
			require.Equal(t, len(config.Schedule)+1, n)
			break
		}
		require.GreaterOrEqual(t, pause, config.Schedule[n-1])
		require.LessOrEqual(t, float64(pause), 1.2*float64(config.Schedule[n-1]))
		require.Greater(t, config.Schedule[n-1], last)
		last = config.Schedule[n-1]
		sum += pause
	}
	first, _ := config.pause(1)
	require.GreaterOrEqual(t, first, 30*time.Second)
	require.Equal(t, 24*time.Hour, last)
	require.Greater(t, sum, 46*time.Hour)
}
