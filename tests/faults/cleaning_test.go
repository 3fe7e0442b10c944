package faults

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tests/wire"
)

// untidy are operations that leave something in the session, so that it is cleaned behind them, or when their holder gives the
// connection back. Each writes one note, and reports success before the cleaning has been answered.
var untidy = []operation{
	{"cleaning behind a statement", 1, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		return nil, f.db.WithContext(ctx).Exec("WITH told AS (SELECT set_config('my.secret', 'told', false)) INSERT INTO notes (body) SELECT ? FROM told WHERE set_config IS NOT NULL", mark).Error
	}},
	{"cleaning behind a commit", 1, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		return nil, f.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("SET my.secret = 'told'").Error; err != nil {
				return err
			}
			return tx.Create(&Note{Body: mark}).Error
		})
	}},
	{"cleaning at give-back", 1, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		return nil, f.db.WithContext(ctx).Connection(func(tx *gorm.DB) error {
			if err := tx.Exec("SET my.secret = 'told'").Error; err != nil {
				return err
			}
			return tx.Create(&Note{Body: mark}).Error
		})
	}},
}

// isCleaning recognises the text that cleans.
func isCleaning(message []byte) bool {
	return message[0] == 'Q' && bytes.Contains(message, []byte("SET SESSION AUTHORIZATION DEFAULT"))
}

// atCleaning is a plan that gives the cleaning its fate: when it is about to reach the server, or its answer the client. The
// answers of what it travels behind come first.
func atCleaning(answer bool, p place, fate func(int) wire.Fate) plan {
	sent := false // asked for both directions, by an injector that asks for one at a time
	return func(from wire.Side, _ int, message []byte) wire.Fate {
		sent = sent || from == wire.Client && isCleaning(message)
		answers := sent && from == wire.Server && message[0] == 'C' && bytes.Contains(message, []byte("SET"))
		if answer && answers || !answer && from == wire.Client && isCleaning(message) {
			return fate(p.bytes(message))
		}
		return wire.Fate{}
	}
}

// TestCleaningBreaks cuts the connection, and ends the backend, while the session is cleaned.
func TestCleaningBreaks(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, op := range untidy {
				f.check(t, op, globex)
				for p := range places {
					f.breakCleaning(t, op, "cut", atCleaning(false, p, wire.Break))
					require.NoError(t, f.breakCleaning(t, op, "cut", atCleaning(true, p, wire.Break)), "its own answer has arrived")
				}
				f.breakCleaning(t, op, "backend terminated", atCleaning(false, before, func(int) wire.Fate {
					if _, err := f.super.Exec(`SELECT pg_terminate_backend($1, 10000)`, f.injector.pid); err != nil {
						t.Error(err)
					}
					return wire.Trickle(0)
				}))
			}
		})
	}
}

// breakCleaning runs an operation of acme under a plan that breaks the connection while it is cleaned.
func (f *fixture) breakCleaning(t *testing.T, op operation, fault string, p plan) error {
	t.Helper()
	f.check(t, op, globex)
	mark := f.mark()
	ctx, cancel := context.WithTimeout(as(acme), patience)
	defer cancel()
	pid := f.injector.arm(p)
	begun := time.Now()
	_, err := op.run(ctx, f, mark)
	f.finds(t, globex)
	_, fired := f.injector.disarm()
	require.True(t, fired, "%s: %s", op.name, fault)
	require.Less(t, time.Since(begun), patience)
	f.gone(t, pid)
	f.settle(t, op.name+": "+fault, op, mark, true, err)
	f.recovered(t, true)
	return err
}

// finds requires that a tenant finds nothing that another has left.
func (f *fixture) finds(t *testing.T, tenant string) {
	t.Helper()
	var secret string
	row := f.db.WithContext(as(tenant)).Raw("SELECT coalesce(current_setting('my.secret', true), '')").Row()
	if err := row.Scan(&secret); err != nil {
		requireReadable(t, err) // the connection may be found broken now
		return
	}
	require.Empty(t, secret, "it has leaked")
}

// cleanTimeout is the guard's limit for a cleaning.
const cleanTimeout = 5 * time.Second

// TestCleaningFallsSilent: a network that falls silent while the session is cleaned holds the connection until the guard's
// limit, and then costs it. The caller has its result, and closing the pool returns.
func TestCleaningFallsSilent(t *testing.T) {
	for _, op := range untidy {
		for _, answer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/answer=%t", op.name, answer), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, way{})
				f.check(t, op, globex)
				mark := f.mark()
				pid := f.injector.arm(atCleaning(answer, before, wire.FallSilent))
				begun := time.Now()
				// The statement that the cleaning travels behind may be lost with it, and its caller waits no longer than it wants.
				ctx, cancel := context.WithTimeout(as(acme), cleanTimeout)
				defer cancel()
				_, err := op.run(ctx, f, mark)
				if answer {
					require.NoError(t, err, "its own answer has arrived")
				}
				f.finds(t, globex)
				_, fired := f.injector.disarm()
				require.True(t, fired)
				require.Less(t, time.Since(begun), 3*cleanTimeout)
				f.proxy.CutAll()
				f.gone(t, pid)
				f.settle(t, op.name+": half-open connection", op, mark, true, err)
				f.recovered(t, false)
			})
		}
	}
}

// TestCleaningWhilePoolCloses: closing the pool returns within the guard's limit, and leaves no goroutine.
func TestCleaningWhilePoolCloses(t *testing.T) {
	for _, op := range untidy {
		t.Run(op.name, func(t *testing.T) {
			f := newFixture(t, way{})
			f.check(t, op, globex)
			others := goleak.IgnoreCurrent()
			silent := make(chan struct{})
			f.injector.arm(atCleaning(true, before, func(n int) wire.Fate { close(silent); return wire.FallSilent(n) }))
			mark := f.mark()
			done := make(chan error, 1)
			go func() {
				_, err := op.run(as(acme), f, mark)
				done <- err
			}()
			<-silent
			begun := time.Now()
			_ = f.pool.Close() // its connection is broken
			err := <-done
			require.Less(t, time.Since(begun), 2*cleanTimeout)
			f.proxy.CutAll()
			f.settle(t, op.name+": pool closed", op, mark, true, err)
			require.NoError(t, goleak.Find(others))
		})
	}
}
