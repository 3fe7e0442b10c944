// Package passwords hashes the passwords of users with argon2id, with the parameters that OWASP recommends:
// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
package passwords

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Hasher hashes and compares passwords. It may be used concurrently.
type Hasher struct {
	// Absent is the hash that a password is compared with if none is stored, so that the answer takes as long.
	Absent string

	memory, passes uint32        // memory in KiB
	slots          chan struct{} // bounds the memory in use
}

// New returns a Hasher that takes 19 MiB and 2 passes.
func New() *Hasher { return newHasher(19<<10, 2) }

// NewWeak returns a Hasher for tests: it takes no time.
func NewWeak() *Hasher { return newHasher(64, 1) }

func newHasher(memory, passes uint32) *Hasher {
	h := &Hasher{memory: memory, passes: passes, slots: make(chan struct{}, 4)}
	h.Absent = h.Hash(rand.Text())
	return h
}

const format = "$argon2id$v=19$m=%d,t=%d,p=1$%s"

const saltLength, keyLength = 16, 32

var encoding = base64.RawStdEncoding

var errMalformed = errors.New("a stored password is malformed")

// Hash returns the text to store: the parameters, a salt and the hash.
func (h *Hasher) Hash(password string) string {
	salt := make([]byte, saltLength, saltLength+keyLength)
	_, _ = rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, h.passes, h.memory, 1, keyLength)
	return fmt.Sprintf(format, h.memory, h.passes, encoding.EncodeToString(append(salt, key...)))
}

// Matches reports whether stored is a hash of the password. An empty one, of a user that does not exist, matches no
// password, and takes as long.
func (h *Hasher) Matches(ctx context.Context, stored, password string) (bool, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	exists := stored != ""
	if !exists {
		stored = h.Absent
	}
	var memory, passes uint32
	var text string
	if _, err := fmt.Sscanf(stored, format, &memory, &passes, &text); err != nil {
		return false, errMalformed
	}
	b, err := encoding.DecodeString(text)
	if err != nil || len(b) != saltLength+keyLength {
		return false, errMalformed
	}
	key := argon2.IDKey([]byte(password), b[:saltLength], passes, memory, 1, keyLength)
	return subtle.ConstantTimeCompare(key, b[saltLength:]) == 1 && exists, nil
}
