package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"

	"golang.org/x/crypto/argon2"
)

// passwords hashes by argon2id. The zero value can't be used; see strong.
type passwords struct {
	memory, passes uint32        // memory in KiB
	slots          chan struct{} // bounds the memory in use, however many sign in
}

// strong is what OWASP recommends: 19 MiB, 2 passes
// (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html).
func strong() passwords { return passwords{19 << 10, 2, make(chan struct{}, 4)} }

const saltLength, keyLength = 16, 32

// hash returns what to store: a salt, and the key made with it.
func (p passwords) hash(password string) []byte {
	salt := make([]byte, saltLength, saltLength+keyLength)
	_, _ = rand.Read(salt) // never fails
	return append(salt, p.key(password, salt)...)
}

// match reports whether stored is the password's hash. Where nothing is stored it takes as long, and is not.
func (p passwords) match(ctx context.Context, stored []byte, password string) (bool, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	known := len(stored) == saltLength+keyLength
	if !known {
		stored = make([]byte, saltLength+keyLength)
	}
	key := p.key(password, stored[:saltLength])
	return subtle.ConstantTimeCompare(key, stored[saltLength:]) == 1 && known, nil
}

func (p passwords) key(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, p.passes, p.memory, 1, keyLength)
}
