package page

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
)

// position is the last row of a page.
type position struct{ Value, Key string }

// Cursors encrypts positions, so that a client can neither read nor make one.
type Cursors struct{ aead cipher.AEAD }

// NewCursors returns the cursors of a secret of 32 bytes.
func NewCursors(secret []byte) (*Cursors, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Cursors{aead}, err
}

// seal makes a cursor that is good for one list.
func (c *Cursors) seal(list string, p position) string {
	text, _ := json.Marshal(p) // never fails
	return base64.RawURLEncoding.EncodeToString(c.aead.Seal(nil, nil, text, []byte(list)))
}

// open returns false for a cursor of another list, and for a text that is not a cursor.
func (c *Cursors) open(list, cursor string) (p position, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return p, false
	}
	text, err := c.aead.Open(nil, nil, sealed, []byte(list))
	if err != nil {
		return p, false
	}
	return p, json.Unmarshal(text, &p) == nil
}
