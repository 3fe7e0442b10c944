package signing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// Kind says what a proof is good for.
type Kind byte

// The kinds of proofs. One is never taken for the other: the kind is part of what is signed.
const (
	Tenant Kind = 't' // statements of a tenant
	Lookup Kind = 'l' // statements under WithoutTenant, before the tenant is known
)

// Skew is by how much the clocks of the application and of PostgreSQL may differ. The times in a proof leave room for that.
const Skew = time.Minute

// proofCapacity is above the length of a proof, and of most messages.
const proofCapacity = 256

// Claims are what a proof says.
type Claims struct {
	Kind    Kind
	Setting string // that holds the tenant: another one may hold something else
	Tenant  string // empty for a lookup
	Login   string // of the session
	Process uint32 // of the server that has the session; 0 leaves it open
	Issued  time.Time
	Expires time.Time
}

// version begins what is signed, so that a later form cannot be mistaken for this one.
const version = '1'

// The parts of a proof, all but the key's id of a fixed length: the digest in hexadecimal, the version, the kind, whether the process is
// signed, and two times in seconds.
const (
	digestDigits = 2 * sha256.Size
	timeDigits   = 10
	bound        = 'p'
	unbound      = '-'
)

// Proof returns the digest, and after it the head, which says what was signed besides tenant, login and process. PostgreSQL knows
// those itself.
//
// What is signed is the head, "|", the process, "|", the length of the login in bytes, "|", the setting's name, "|", the login and the tenant. No two
// claims have the same text: the head has parts of fixed length and an id without "|", the process and the length are numbers, and PostgreSQL
// takes no "|" in the name of a setting (https://www.postgresql.org/docs/current/runtime-config-custom.html).
func (k Key) Proof(c Claims) []byte {
	proof := make([]byte, digestDigits, proofCapacity)
	proof = append(proof, version, byte(c.Kind))
	if c.Process == 0 {
		proof = append(proof, unbound)
	} else {
		proof = append(proof, bound)
	}
	proof = appendTime(proof, c.Issued.Add(Skew))
	proof = appendTime(proof, c.Expires.Add(Skew))
	proof = append(proof, k.id...)

	mac := hmac.New(sha256.New, k.secret())
	mac.Write(c.message(proof[digestDigits:]))
	hex.Encode(proof, mac.Sum(nil))
	return proof
}

// message is what is signed.
func (c Claims) message(head []byte) []byte {
	message := append(make([]byte, 0, proofCapacity), head...)
	message = append(message, '|')
	if c.Process != 0 {
		message = strconv.AppendUint(message, uint64(c.Process), 10)
	}
	message = append(message, '|')
	message = strconv.AppendInt(message, int64(len(c.Login)), 10)
	message = append(message, '|')
	message = append(message, c.Setting...)
	message = append(message, '|')
	message = append(message, c.Login...)
	return append(message, c.Tenant...)
}

// appendTime appends a time in seconds since 1970, in ten digits: until the year 2286.
func appendTime(to []byte, t time.Time) []byte {
	var digits [timeDigits]byte
	seconds := t.Unix()
	for i := range digits {
		digits[timeDigits-1-i] = byte('0' + seconds%10)
		seconds /= 10
	}
	return append(to, digits[:]...)
}
