package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// position is the last row of a page.
type position struct {
	ID   int64
	Name string
}

// cursors encrypts positions in lists, and binds each to its list and its tenant.
type cursors struct{ cipher.AEAD }

func newCursors(key ed25519.PrivateKey) (*cursors, error) {
	derived, err := derive(key, "cursors")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &cursors{aead}, err
}

func (c *cursors) seal(list string, p position) string {
	text, _ := json.Marshal(p) // never fails
	return base64.RawURLEncoding.EncodeToString(c.Seal(nil, nil, text, []byte(list)))
}

// open returns false for a cursor of another list, and for a text that is not a cursor.
func (c *cursors) open(list, cursor string) (p position, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return p, false
	}
	text, err := c.Open(nil, nil, sealed, []byte(list))
	if err != nil {
		return p, false
	}
	return p, json.Unmarshal(text, &p) == nil
}

// derive makes a secret for a purpose of its own.
func derive(key ed25519.PrivateKey, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, key.Seed(), nil, purpose, 32)
}
