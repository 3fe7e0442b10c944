package guard

import (
	"runtime"
	"strings"
)

// isHeld reports whether the call at hand comes from a *sql.Conn, whose user may send more on the same connection and expects
// to find the session as it was. A pool gives the connection back after one statement or transaction. To a driver the two look
// the same but for who calls, and who is taken for a holder in error has the session cleaned a little later.
//
// It costs about a microsecond, and is asked where SQL of the caller is sent.
func isHeld() bool {
	const (
		skipped = 2  // runtime.Callers and this function
		deepest = 40 // from here up to the application
		holder  = "database/sql.(*Conn)."
	)
	var callers [deepest]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(skipped, callers[:])])
	for {
		frame, more := frames.Next()
		// The guard reaches a lent connection through Raw.
		if method, found := strings.CutPrefix(frame.Function, holder); found && !strings.HasPrefix(method, "Raw") {
			return true
		}
		if !more {
			return false
		}
	}
}
