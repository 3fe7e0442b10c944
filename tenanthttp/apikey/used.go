package apikey

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gormtenancy/tenancy"
)

const (
	maxRemembered = 10_000           // keys whose last use is remembered
	maxPending    = 1_000            // uses that wait to be written; more are dropped
	writeTimeout  = 10 * time.Second // of one use
)

// uses writes when keys were used, one after another and after the request. What it drops is written with a later use.
type uses struct {
	store Store
	every time.Duration

	mu      sync.Mutex
	written map[string]time.Time
	pending []use
	done    chan struct{} // of the goroutine that writes; nil if there is none
}

type use struct {
	id, tenant string
	at         time.Time
}

func (u *uses) init(store Store, every time.Duration) {
	u.store, u.every, u.written = store, every, map[string]time.Time{}
}

// note writes a use in the background, unless another one was written a short time ago, by this server or another.
func (u *uses) note(key Key, now time.Time) {
	if u.every < 0 || key.LastUsedAt != nil && now.Sub(*key.LastUsedAt) < u.every {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.written[key.ID]; ok && now.Sub(last) < u.every || len(u.pending) == maxPending {
		return
	}
	if len(u.written) >= maxRemembered {
		clear(u.written) // the database remembers
	}
	u.written[key.ID] = now
	u.pending = append(u.pending, use{key.ID, key.TenantID, now})
	if u.done == nil {
		u.done = make(chan struct{})
		go u.write(u.done)
	}
}

// write ends when nothing is pending.
func (u *uses) write(done chan struct{}) {
	defer close(done)
	for {
		u.mu.Lock()
		if len(u.pending) == 0 {
			u.pending, u.done = nil, nil
			u.mu.Unlock()
			return
		}
		next := u.pending[0]
		u.pending = u.pending[1:]
		u.mu.Unlock()
		u.writeOne(next)
	}
}

func (u *uses) writeOne(next use) {
	ctx, cancel := context.WithTimeout(tenancy.WithTenant(context.Background(), next.tenant), writeTimeout)
	defer cancel()
	defer func() {
		if recover() != nil { // in a goroutine of its own it would end the program
			slog.Error("apikey: the store panicked while it wrote the last use of a key")
		}
	}()
	if err := u.store.Used(ctx, next.id, next.at); err != nil && !errors.Is(err, ErrNotFound) {
		slog.Warn("apikey: the last use of a key could not be written", "key", next.id) // the error may quote values
	}
}

func (u *uses) flush(ctx context.Context) error {
	u.mu.Lock()
	done := u.done
	u.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
