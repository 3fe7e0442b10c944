package idempotency

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strings"
)

// header is the name of the request header.
const header = "Idempotency-Key"

// maxKey bounds a key, in bytes.
const maxKey = 255

// keyOf returns the key of a request. There is none if it is "" and ok. It is a string of structured fields (RFC 9651 section 3.3.3):
// "8e03978e-40d5", or the same without quotes, as many clients send it.
func keyOf(r *http.Request) (key string, ok bool) {
	values := r.Header.Values(header)
	switch {
	case len(values) == 0:
		return "", true
	case len(values) > 1 || len(values[0]) > maxKey+2:
		return "", false
	}
	key = strings.Trim(values[0], " ")
	if quoted, isQuoted := strings.CutPrefix(key, `"`); isQuoted {
		return unquote(quoted)
	}
	const token = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/+="
	return key, key != "" && len(key) <= maxKey && !strings.ContainsFunc(key, func(c rune) bool {
		return !strings.ContainsRune(token, c)
	})
}

// unquote reads what follows an opening quote.
func unquote(s string) (string, bool) {
	var key strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return key.String(), i == len(s)-1 && key.Len() > 0 && key.Len() <= maxKey
		case c == '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
			key.WriteByte(s[i])
		case c < ' ' || c > '~':
			return "", false
		default:
			key.WriteByte(c)
		}
	}
	return "", false
}

// hash returns a hash of parts, none of which can be mistaken for another.
func hash(parts ...[]byte) []byte {
	var text bytes.Buffer
	for _, part := range parts {
		_ = binary.Write(&text, binary.BigEndian, uint64(len(part))) // never fails
		sum := sha256.Sum256(part)
		text.Write(sum[:])
	}
	sum := sha256.Sum256(text.Bytes())
	return sum[:]
}

func storedKey(sender, key string) string {
	return hex.EncodeToString(hash([]byte(sender), []byte(key)))
}

// fingerprint is equal for requests that ask for the same.
func fingerprint(r *http.Request, body []byte) string {
	return hex.EncodeToString(hash([]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery),
		[]byte(r.Header.Get("Content-Type")), body))
}

// lockID is the advisory lock of a key of a tenant.
func lockID(tenant, stored string) int64 {
	return int64(binary.BigEndian.Uint64(hash([]byte("idempotency"), []byte(tenant), []byte(stored))))
}
