package faults

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/gormtenancy/tenancy/tests/wire"
)

// injector decides about the messages that pass a proxy. It does nothing until it is armed.
type injector struct {
	mu    sync.Mutex
	pid   int // of the backend connected last
	plan  plan
	all   bool      // the plan is followed for every message
	seen  [2][]byte // the kinds of the messages since it was armed, by sender
	fired bool
}

// plan decides about the n-th message of a side since the injector was armed, counted from 0. It is followed until it
// says something else than the zero Fate.
type plan func(from wire.Side, n int, message []byte) wire.Fate

func (i *injector) intercept(from wire.Side, message []byte) wire.Fate {
	i.mu.Lock()
	defer i.mu.Unlock()
	if from == wire.Server && message[0] == 'K' { // BackendKeyData
		i.pid = int(binary.BigEndian.Uint32(message[5:]))
	}
	if i.plan == nil || i.fired && !i.all {
		return wire.Fate{}
	}
	fate := i.plan(from, len(i.seen[from]), message)
	i.fired = fate != wire.Fate{}
	if !i.fired {
		kind := message[0]
		if from == wire.Client && isCleaning(message) {
			kind = cleaning
		}
		i.seen[from] = append(i.seen[from], kind)
	}
	return fate
}

// arm begins to count, and returns the backend that is connected.
func (i *injector) arm(p plan) (pid int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan, i.all, i.fired, i.seen = p, false, false, [2][]byte{}
	return i.pid
}

// always arms with a plan for every message.
func (i *injector) always(p plan) {
	i.arm(p)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = true
}

// disarm returns the messages that passed unharmed, and whether the fault was injected.
func (i *injector) disarm() (seen [2][]byte, fired bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan = nil
	return i.seen, i.fired
}

// cleaning stands for the message that cleans the session, among the kinds of PostgreSQL's messages.
const cleaning = 'q'

// work is the number of messages that a client sends for an operation, before the session is cleaned behind it.
func work(sent []byte) int { return len(bytes.TrimRight(sent, string(cleaning))) }

// watch is a plan that only counts.
func watch(wire.Side, int, []byte) wire.Fate { return wire.Fate{} }

// place is where at a message a connection is cut.
type place int

const (
	before place = iota
	inside
	after
	places
)

func (p place) bytes(message []byte) int { return len(message) * int(p) / 2 }

// at is a plan that gives the n-th message of a side its fate, at a place.
func at(side wire.Side, n int, p place, fate func(bytes int) wire.Fate) plan {
	return func(from wire.Side, k int, message []byte) wire.Fate {
		if from != side || k != n {
			return wire.Fate{}
		}
		return fate(p.bytes(message))
	}
}
