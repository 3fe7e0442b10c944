package wire

import (
	"runtime"
	"syscall"
	"time"
)

// preciseSleep returns a function that sleeps for a duration or until a signal, whichever is sooner. It is for the
// goroutine that asked for it, which keeps its thread from then on and takes it along when it ends.
//
// time.Sleep will not do: it wakes from a wait that counts in milliseconds. The kernel's own slack of 50 µs is taken
// off the thread.
func preciseSleep() func(time.Duration) {
	runtime.LockOSThread()
	const slack = 1 // nanosecond; 0 would mean the default
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, slack, 0)
	return func(d time.Duration) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // the caller looks at the clock again
	}
}
