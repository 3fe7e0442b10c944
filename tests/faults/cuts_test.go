package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/wire"
)

var ways = []way{{}, {simple: true}, {prepare: true}, {simple: true, prepare: true}, {cold: true}}

// TestConnectionCutAtEachMessage cuts the connection before, inside and after each message of each operation, in both directions. After a
// message is before the next one, unless one side waits between the two.
func TestConnectionCutAtEachMessage(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, op := range operations {
				if way.same(op) {
					continue
				}
				clean := f.clean(t, op)
				for side, towards := range []string{wire.Client: "to the server", wire.Server: "to the client"} {
					for n := range clean[side] {
						for p := range places {
							if p == after && n+1 < len(clean[side]) && !waits(clean[side][n]) || p == inside && !way.thorough() {
								continue
							}
							cut := at(wire.Side(side), n, p, wire.Break)
							f.disturb(t, op.name+": cut at a message "+towards, op, clean, cut)
						}
					}
				}
			}
		})
	}
}

// same reports whether an operation sends in this way what it sends in another.
func (w way) same(op operation) bool {
	switch op.name {
	case "Create", "Transaction":
		return false
	case "Exec of two statements": // nothing of which is ever prepared
		return w.prepare || w.cold
	case "Rows", "Stmt": // when nothing is prepared they are like Find and Raw
		return w.cold || w.simple && w.prepare
	default: // what is prepared uses the extended protocol in any case
		return w.simple && w.prepare
	}
}

// thorough reports whether messages are cut inside, too. It is done where the protocols differ.
func (w way) thorough() bool { return !w.prepare && !w.cold }

// waits reports whether a side waits for an answer after a message of this kind: Query, Sync, ReadyForQuery.
func waits(kind byte) bool { return kind == 'Q' || kind == cleaning || kind == 'S' || kind == 'Z' }

// TestBackendTerminatedAtEachMessage has the backend terminated when each message of each operation is about to reach the server.
func TestBackendTerminatedAtEachMessage(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:2] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, op := range operations {
				clean := f.clean(t, op)
				for n := range clean[wire.Client] {
					f.disturb(t, op.name+": backend terminated", op, clean,
						at(wire.Client, n, before, func(int) wire.Fate {
							_, err := f.super.Exec(`SELECT pg_terminate_backend($1, 10000)`, f.injector.pid)
							if err != nil {
								t.Error(err)
							}
							return wire.Trickle(0) // the message itself comes as it is
						}))
				}
			}
		})
	}
}

// prime makes the connection ready for the next fault.
func (f *fixture) prime(t *testing.T, op operation) {
	t.Helper()
	if !f.cold {
		f.check(t, op, globex)
	}
}

// clean returns the messages of an undisturbed operation, by sender.
func (f *fixture) clean(t *testing.T, op operation) (seen [2][]byte) {
	t.Helper()
	f.reconnect(t)
	f.prime(t, op)
	f.injector.arm(watch)
	f.check(t, op, acme)
	seen, _ = f.injector.disarm()
	require.NotEmpty(t, seen[wire.Client])
	require.NotEmpty(t, seen[wire.Server])
	f.reconnect(t)
	return seen
}

// reconnect gives the pool a connection on which nothing is prepared.
func (f *fixture) reconnect(t *testing.T) {
	t.Helper()
	f.proxy.CutAll()
	f.recovered(t, false)
}

// disturb runs an operation of acme under a plan that breaks its connection.
func (f *fixture) disturb(t *testing.T, fault string, op operation, clean [2][]byte, p plan) {
	t.Helper()
	f.prime(t, op)
	mark := f.mark()
	defer func() {
		if seen, _ := f.injector.disarm(); t.Failed() {
			t.Logf("%s: %q had passed of %q", fault, seen, clean)
		}
	}()
	ctx, cancel := context.WithTimeout(as(acme), patience)
	defer cancel()
	pid := f.injector.arm(p)
	begun := time.Now()
	notes, err := op.run(ctx, f, mark)
	seen, fired := f.injector.disarm()
	require.Less(t, time.Since(begun), patience, "a broken connection must be noticed without a deadline")
	require.True(t, fired, "%s: only %q passed, not %q", fault, seen, clean)
	f.gone(t, pid)

	if notes != nil {
		checkNotes(t, acme, notes, err)
	}
	// What commits an operation is its last message, before the session is cleaned.
	committed := len(seen[wire.Client]) >= work(clean[wire.Client])-1
	o := f.settle(t, fault, op, mark, committed, err)
	f.recovered(t, o != succeeded)
	if f.cold && o == succeeded {
		f.reconnect(t) // it may have been done on a new connection, and be prepared there
	}
}
