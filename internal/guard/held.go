package guard

import (
	"maps"
	"runtime"
	"strings"
	"sync/atomic"
)

// isHeld reports whether the call comes from a *sql.Conn. Its user may send more on the same connection, and expects to find the
// session as it was; a pool takes the connection back after one statement or transaction. To a driver the two look alike except
// for the caller. A pool that is mistaken for a holder has its session cleaned a little later.
//
// The depth is how many callers to look at. Those within database/sql are few, and some of the guard may stand before them.
func isHeld(depth int) bool {
	const skipped = 2 // runtime.Callers and this function
	var callers [farCallers]uintptr
	for _, pc := range callers[:runtime.Callers(skipped, callers[:depth])] {
		if isHolder(pc) {
			return true
		}
	}
	return false
}

const (
	nearCallers = 10 // if database/sql calls directly
	farCallers  = 40 // if the guard has taken a connection in between
)

// holders says of places in the program whether they are in a method of *sql.Conn. To look up the name of a place is expensive.
var holders atomic.Pointer[map[uintptr]bool]

func isHolder(pc uintptr) bool {
	known := holders.Load()
	if known != nil {
		if is, ok := (*known)[pc]; ok {
			return is
		}
	}
	is := false
	for frames := runtime.CallersFrames([]uintptr{pc}); ; {
		frame, more := frames.Next()
		// The guard reaches a borrowed connection through Raw.
		method, found := strings.CutPrefix(frame.Function, "database/sql.(*Conn).")
		is = is || found && !strings.HasPrefix(method, "Raw")
		if !more {
			break
		}
	}
	next := map[uintptr]bool{}
	if known != nil {
		next = maps.Clone(*known)
	}
	next[pc] = is
	holders.CompareAndSwap(known, &next) // or another goroutine was faster, and it is looked at again
	return is
}
