//go:build !linux

package wire

import "time"

// preciseSleep returns the best sleep this platform has.
func preciseSleep() func(time.Duration) { return time.Sleep }
