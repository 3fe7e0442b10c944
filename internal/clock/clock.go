// Package clock tells the time to what grows old: tests can move it on, so that they need not wait.
package clock

import (
	"sync/atomic"
	"time"
)

var ahead atomic.Int64 // in nanoseconds

// Now is the current time.
func Now() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }

// Advance moves the clock on, for all of the process. Only tests call it.
func Advance(d time.Duration) { ahead.Add(int64(d)) }
