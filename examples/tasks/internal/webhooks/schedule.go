package webhooks

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter is the longest wait that an endpoint can ask for.
const maxRetryAfter = 24 * time.Hour

// pause returns the time to wait after a number of failed attempts, from 1; false if there are no more.
func (c Config) pause(failed int) (time.Duration, bool) {
	if failed > len(c.Schedule) {
		return 0, false
	}
	return c.jittered(c.Schedule[failed-1]), true
}

// jittered makes a pause longer at random, and never shorter.
func (c Config) jittered(pause time.Duration) time.Duration {
	return pause + time.Duration(rand.Float64()*c.Jitter*float64(pause))
}

// retryAfter is the wait that an answer asks for, in seconds or until a time; 0 if it does not.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
