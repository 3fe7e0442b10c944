package signing

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"time"
)

// MinSecret and MaxSecret bound the length of a secret in bytes. HMAC-SHA-256 gains nothing by more than 64 bytes, and a secret
// with fewer bytes than the digest is easier to guess than the digest (RFC 2104, section 3).
const (
	MinSecret = 32
	MaxSecret = 64
)

// Key signs proofs. It is never printed, whatever the verb or the encoder: what shows is its id. The secret is behind a function,
// because no printer that follows unexported fields looks into one.
type Key struct {
	id        string
	secret    func() []byte
	notBefore time.Time
}

// validID is what an id may be: it stands in a proof, in the table of keys and in file names of the operator.
var validID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)

// CheckID returns an error if the text cannot be the id of a key.
func CheckID(id string) error {
	if !validID.MatchString(id) {
		return errors.New("the id of a signing key must be 1 to 32 letters, digits, dots, dashes or underscores")
	}
	return nil
}

// NewKey returns a key that signs from the time notBefore on; the zero time means at once. It keeps a copy of the secret.
func NewKey(id string, secret []byte, notBefore time.Time) (Key, error) {
	if err := CheckID(id); err != nil {
		return Key{}, err
	}
	if len(secret) < MinSecret || len(secret) > MaxSecret {
		return Key{}, fmt.Errorf("the secret of signing key %q must have %d to %d bytes", id, MinSecret, MaxSecret)
	}
	kept := bytes.Clone(secret)
	return Key{id: id, secret: func() []byte { return kept }, notBefore: notBefore}, nil
}

// ID returns the key's id, which is no secret.
func (k Key) ID() string { return k.id }

// Secret returns a copy of the secret.
func (k Key) Secret() []byte { return bytes.Clone(k.secret()) }

// NotBefore returns from when on the key signs; zero means at once.
func (k Key) NotBefore() time.Time { return k.notBefore }

// Pads returns what PostgreSQL keeps of the key: the two blocks that HMAC hashes before the message and before the inner digest
// (RFC 2104). They are as secret as the key: one who has them can sign.
func (k Key) Pads() (inner, outer []byte) {
	inner, outer = make([]byte, sha256.BlockSize), make([]byte, sha256.BlockSize)
	copy(inner, k.secret())
	copy(outer, k.secret())
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	return inner, outer
}

// Encode returns the key as ParseKeys reads it, with its secret.
func (k Key) Encode() string {
	text := k.id + ":" + base64.StdEncoding.EncodeToString(k.secret())
	if !k.notBefore.IsZero() {
		text += ":" + k.notBefore.UTC().Format(time.RFC3339)
	}
	return text
}

// ParseKeys reads keys, one in a line or separated by commas: the id, a colon, and the secret in base64; and where it is not to sign
// at once, another colon and the time from when on it does (RFC 3339). Empty lines and those that begin with # are skipped. No error
// holds more of the text than an id that can be one.
func ParseKeys(text string) ([]Key, error) {
	var keys []Key
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		for one := range strings.SplitSeq(line, ",") {
			k, err := parseKey(strings.TrimSpace(one))
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	}
	return keys, CheckKeys(keys)
}

func parseKey(text string) (Key, error) {
	id, rest, found := strings.Cut(text, ":")
	if !found {
		return Key{}, errors.New("a signing key must be written as id:secret, the secret in base64")
	}
	encoded, date, dated := strings.Cut(rest, ":")
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return Key{}, errors.New("the secret of a signing key must be in base64") // the error would hold a part of it
	}
	var notBefore time.Time
	if dated {
		if notBefore, err = time.Parse(time.RFC3339, date); err != nil {
			return Key{}, errors.New("the time of a signing key must be as in RFC 3339, such as 2026-12-01T06:00:00Z")
		}
	}
	return NewKey(id, secret, notBefore)
}

// CheckKeys returns an error if there is no key, one that NewKey has not made, or two with the same id.
func CheckKeys(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("there is no signing key")
	}
	seen := map[string]bool{}
	for _, k := range keys {
		switch {
		case k.id == "":
			return errors.New("a signing key is empty: make it with NewSigningKey")
		case seen[k.id]:
			return fmt.Errorf("two signing keys have the id %q", k.id)
		}
		seen[k.id] = true
	}
	return nil
}

// newest returns the key that signs at this time: the one with the latest notBefore that has come, and of several the last.
func newest(keys []Key, now time.Time) (Key, bool) {
	var best Key
	for _, k := range keys {
		if !k.notBefore.After(now) && (best.id == "" || !k.notBefore.Before(best.notBefore)) {
			best = k
		}
	}
	return best, best.id != ""
}

// String returns the id.
func (k Key) String() string { return "signing key " + k.id }

// GoString returns the id, for the verb %#v.
func (k Key) GoString() string { return k.String() }

// Format writes the id for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText returns the id, for encoders.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue returns the id, for slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
