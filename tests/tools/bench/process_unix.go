//go:build unix

package main

import (
	"syscall"
	"time"
)

// processTime is how long this process has run on processors so far, and whether that is known.
func processTime() (time.Duration, bool) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, false
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), true
}
