package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gormtenancy/tenancy/internal/clock"
)

// Source returns the keys. It is called again from time to time.
type Source func(context.Context) ([]Key, error)

// refreshAfter is how old keys may be before a statement has them read again, beside itself.
const refreshAfter = time.Minute

// refreshTimeout bounds how long that takes.
const refreshTimeout = 30 * time.Second

// Signer makes proofs by the newest of the keys that a source returns. It is safe for concurrent use.
type Signer struct {
	Lifetime time.Duration // of a proof
	Unbound  bool          // proofs do not name the server's process

	source  Source
	log     *slog.Logger
	keys    atomic.Pointer[keyring]
	reading sync.Mutex
	busy    atomic.Bool
}

type keyring struct {
	keys []Key
	read time.Time
}

// NewSigner returns a signer. The log gets a warning each time the keys cannot be read again.
func NewSigner(source Source, lifetime time.Duration, unbound bool, log *slog.Logger) *Signer {
	return &Signer{Lifetime: lifetime, Unbound: unbound, source: source, log: log}
}

// Load reads the keys if they have not been read yet.
func (s *Signer) Load(ctx context.Context) error {
	if s.keys.Load() != nil {
		return nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.keys.Load() != nil {
		return nil
	}
	return s.read(ctx)
}

func (s *Signer) read(ctx context.Context) error {
	keys, err := s.ask(ctx)
	if err == nil {
		err = CheckKeys(keys)
	}
	now := clock.Now()
	if err == nil {
		if _, found := newest(keys, now); !found {
			err = errors.New("no signing key is valid yet")
		}
	}
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	s.keys.Store(&keyring{keys: keys, read: now})
	return nil
}

// ask calls the source. A panic of it becomes an error, because it may run where nothing else recovers. What was given to panic may
// be a secret.
func (s *Signer) ask(ctx context.Context) (keys []Key, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("panic in the function that returns them")
		}
	}()
	return s.source(ctx)
}

// refresh reads the keys again, beside the statement that has found them old. If that fails, the known ones go on signing.
func (s *Signer) refresh() {
	if !s.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.busy.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
		defer cancel()
		if err := s.read(ctx); err != nil {
			known := *s.keys.Load()
			known.read = clock.Now() // not with each statement
			s.keys.Store(&known)
			s.log.WarnContext(ctx, "tenancy: the signing keys could not be read again; the known ones stay in use", "error", err)
		}
	}()
}

// Agrees reports whether two signers, which may be nil, make proofs alike and have a key in common. It reads the keys of both, unless they have been
// read before.
func (s *Signer) Agrees(ctx context.Context, other *Signer) (bool, error) {
	switch {
	case s == other:
		return true, nil
	case s == nil, other == nil, s.Lifetime != other.Lifetime, s.Unbound != other.Unbound:
		return false, nil
	}
	for _, one := range []*Signer{s, other} {
		if err := one.Load(ctx); err != nil {
			return false, err
		}
	}
	for _, mine := range s.keys.Load().keys {
		for _, theirs := range other.keys.Load().keys {
			if mine.id == theirs.id && bytes.Equal(mine.secret(), theirs.secret()) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Signed is a proof, and until when it may be used again.
type Signed struct {
	Proof   []byte
	Key     string    // the id of the key
	Renew   time.Time // when half of its life is over
	Expires time.Time
}

// Sign makes a proof. The times are the signer's.
func (s *Signer) Sign(ctx context.Context, c Claims) (Signed, error) {
	if err := s.Load(ctx); err != nil {
		return Signed{}, err
	}
	now := clock.Now()
	ring := s.keys.Load()
	if now.Sub(ring.read) > refreshAfter {
		s.refresh()
	}
	key, found := newest(ring.keys, now)
	if !found {
		return Signed{}, errors.New("no signing key is valid yet")
	}
	switch {
	case c.Kind == Tenant && c.Tenant == "":
		return Signed{}, errors.New("no proof is made for an empty tenant")
	case s.Unbound:
		c.Process = 0
	case c.Process == 0:
		return Signed{}, errors.New("the connection does not say which process of the server it has: a pooler may be between")
	}
	c.Issued, c.Expires = now, now.Add(s.Lifetime)
	return Signed{Proof: key.Proof(c), Key: key.id, Renew: now.Add(s.Lifetime / 2), Expires: c.Expires}, nil
}

// KeyID returns the id of the key that signs now, empty if there is none.
func (s *Signer) KeyID() string {
	ring := s.keys.Load()
	if ring == nil {
		return ""
	}
	key, _ := newest(ring.keys, clock.Now())
	return key.id
}

// Signs reports whether the key of this id is the one that signs now.
func (s *Signer) Signs(id string) bool {
	ring := s.keys.Load()
	if ring == nil {
		return false
	}
	now := clock.Now()
	if now.Sub(ring.read) > refreshAfter {
		s.refresh()
	}
	key, found := newest(ring.keys, now)
	return found && key.id == id
}
