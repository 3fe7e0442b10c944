package wire

import (
	"strings"
	"sync"
)

// A conversation follows one connection as its client sees it, and knows for what the client is still waiting.
//
// A plain change of direction would not do: a server may begin to answer a long pipeline while the client is still
// sending it. Nor would the number of ReadyForQuery: Flush and COPY make a client wait as well. So each message that
// must be answered is kept until its answer has been delivered; what a client sends when there is none, or when the
// server asked it for data, begins a round trip.
type conversation struct {
	counters *counters

	mu       sync.Mutex
	client   framer
	server   framer
	ready    bool   // start-up is over
	waiting  []byte // kinds of the client's messages whose answers are outstanding, oldest first
	skipping bool   // after an error the server discards all messages up to the next Sync
	copying  bool   // the server is taking COPY data
	asked    bool   // the server waits for the client: for that data, or for a Sync after an error
}

func newConversation(c *counters) *conversation {
	return &conversation{counters: c, client: framer{untyped: true, early: true}}
}

// sent takes the next bytes of the client.
func (c *conversation) sent(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client.feed(b, c.clientMessage)
}

// received takes the next bytes of the server, before they are delivered.
func (c *conversation) received(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server.feed(b, c.serverMessage)
}

func (c *conversation) clientMessage(kind byte) {
	if !c.ready {
		return
	}
	c.counters.sentByKind[kind].Add(1)
	if c.begins(kind) {
		c.counters.roundTrips.Add(1)
	}
	c.asked = false
	switch kind {
	case 'P', 'B', 'D', 'E', 'C': // Parse, Bind, Describe, Execute, Close
		if !c.skipping && !c.copying {
			c.waiting = append(c.waiting, kind)
		}
	case 'Q', 'F': // Query, FunctionCall
		if !c.skipping {
			c.waiting = append(c.waiting, kind)
		}
	case 'S': // Sync, which the server overlooks while it takes COPY data
		if !c.copying {
			c.waiting = append(c.waiting, kind)
			c.skipping = false
		}
	case 'c', 'f': // CopyDone, CopyFail
		c.copying = false
	}
}

// begins reports whether a message of the client begins a round trip.
func (c *conversation) begins(kind byte) bool {
	switch kind {
	case 'X', 'H': // Terminate and Flush have no answer of their own
		return false
	case 'd', 'c', 'f': // COPY data, which may be stragglers after an error
		return c.asked
	default:
		return c.asked || len(c.waiting) == 0 && !c.skipping
	}
}

func (c *conversation) serverMessage(kind byte) {
	if !c.ready {
		c.ready = kind == 'Z'
		return
	}
	c.counters.gotByKind[kind].Add(1)
	switch kind {
	case '1': // ParseComplete
		c.answered('P')
	case '2': // BindComplete
		c.answered('B')
	case '3': // CloseComplete
		c.answered('C')
	case 'T', 'n': // RowDescription, NoData
		c.answered('D')
	case 'C', 'I', 's': // CommandComplete, EmptyQueryResponse, PortalSuspended
		c.answered('E')
	case 'G', 'W': // CopyInResponse, CopyBothResponse
		c.copying, c.asked = true, true
		if len(c.waiting) > 0 && c.waiting[0] == 'E' {
			c.waiting = c.waiting[:1] // what was sent behind the Execute is overlooked
		}
	case 'E': // ErrorResponse
		c.failed()
	case 'Z': // ReadyForQuery
		c.drop("SQF")
		if len(c.waiting) > 0 {
			c.waiting = c.waiting[1:]
		}
		c.copying, c.asked = false, false
	}
}

// answered notes the answer to the oldest message, if that is of this kind; the results of a simple Query look the
// same and answer nothing before its ReadyForQuery.
func (c *conversation) answered(kind byte) {
	if len(c.waiting) > 0 && c.waiting[0] == kind {
		c.waiting = c.waiting[1:]
	}
}

// failed notes an error. For a simple Query or a Sync, ReadyForQuery follows; in the extended protocol everything up
// to the next Sync is void.
func (c *conversation) failed() {
	c.copying, c.asked = false, false
	if len(c.waiting) == 0 || strings.IndexByte("PBDEC", c.waiting[0]) < 0 {
		return
	}
	c.drop("S")
	if len(c.waiting) == 0 {
		c.skipping, c.asked = true, true
	}
}

// drop forgets the oldest messages up to the first of one of these kinds.
func (c *conversation) drop(until string) {
	for len(c.waiting) > 0 && strings.IndexByte(until, c.waiting[0]) < 0 {
		c.waiting = c.waiting[1:]
	}
}
