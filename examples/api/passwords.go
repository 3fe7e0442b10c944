package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// passwords hashes by argon2id, with the parameters that OWASP recommends
// (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html): 19 MiB, 2 passes.
type passwords struct {
	memory, passes uint32        // memory in KiB
	slots          chan struct{} // bounds the memory in use
	nobody         string        // is compared where there is no user, so that it takes as long
}

func newPasswords(memory, passes uint32) *passwords {
	p := &passwords{memory: memory, passes: passes, slots: make(chan struct{}, 4)}
	p.nobody = p.hash(rand.Text())
	return p
}

const format = "$argon2id$v=19$m=%d,t=%d,p=1$%s"

var encoding = base64.RawStdEncoding

// hash returns what to store: the parameters, 16 bytes of salt and 32 of hash.
func (p *passwords) hash(password string) string {
	salt := make([]byte, 16, 48)
	_, _ = rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, p.passes, p.memory, 1, 32)
	return fmt.Sprintf(format, p.memory, p.passes, encoding.EncodeToString(append(salt, key...)))
}

// matches tells whether the stored hash is the password's. An empty one, of a user that does not exist, is nobody's, and
// takes as long to say so.
func (p *passwords) matches(ctx context.Context, stored, password string) (bool, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	exists := stored != ""
	if !exists {
		stored = p.nobody
	}
	var memory, passes uint32
	var text string
	if _, err := fmt.Sscanf(stored, format, &memory, &passes, &text); err != nil {
		return false, errors.New("a stored password is malformed")
	}
	b, err := encoding.DecodeString(text)
	if err != nil || len(b) != 48 {
		return false, errors.New("a stored password is malformed")
	}
	key := argon2.IDKey([]byte(password), b[:16], passes, memory, 1, 32)
	return subtle.ConstantTimeCompare(key, b[16:]) == 1 && exists, nil
}
