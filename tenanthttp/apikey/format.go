package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"log/slog"
	"regexp"
	"strings"
)

// Lengths of the parts of a key, in characters: the id is in hexadecimal, the rest in base32, of 5 bits each.
const (
	idLength       = 32
	secretLength   = 32
	checksumLength = 6
)

// Pattern is a regular expression (RE2) for keys of any prefix and environment, for scanners of leaked secrets.
const Pattern = `\b[a-z][a-z0-9]{0,15}_[a-z0-9]{1,16}_[0-9a-f]{32}_[a-z2-7]{38}\b`

// secrets finds keys that are cut off or in upper case as well.
var secrets = regexp.MustCompile(`(?i)([a-z][a-z0-9]{0,15}_[a-z0-9]{1,16}_[0-9a-f]{32}_)[a-z2-7]+`)

// Redact replaces the secret of each key in a text by "***". The id stays, so that a log says which key it was.
func Redact(text string) string { return secrets.ReplaceAllString(text, "${1}***") }

// RedactAttr is a ReplaceAttr of [slog.HandlerOptions] that redacts strings and errors. The text of other values, such as structs, is
// written by the handler and not seen here.
func RedactAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Redact(v.String()))
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			a.Value = slog.StringValue(Redact(err.Error()))
		}
	}
	return a
}

// text is a key as it is sent. The id is that of the database, a UUID.
type text struct{ id, secret string }

// newText makes a key of random parts.
func newText() text {
	var id [idLength / 2]byte
	_, _ = rand.Read(id[:])                         // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4 (RFC 9562 section 5.4)
	return text{dashed(hex.EncodeToString(id[:])), strings.ToLower(rand.Text() + rand.Text())[:secretLength]}
}

func dashed(id string) string {
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}

// format writes a key. The checksum is of all that is before it.
func (t text) format(start string) string {
	key := start + strings.ReplaceAll(t.id, "-", "") + "_" + t.secret
	return key + checksum(key)
}

// parseText reads a key with this start. It compares nothing secret: anyone can compute a checksum.
func parseText(key, start string) (t text, ok bool) {
	rest, ok := strings.CutPrefix(key, start)
	if !ok || len(rest) != idLength+1+secretLength+checksumLength || rest[idLength] != '_' {
		return t, false
	}
	if strings.Trim(rest[:idLength], "0123456789abcdef") != "" {
		return t, false
	}
	t = text{dashed(rest[:idLength]), rest[idLength+1 : idLength+1+secretLength]}
	return t, strings.Trim(t.secret, "abcdefghijklmnopqrstuvwxyz234567") == "" && t.format(start) == key
}

func checksum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))[:checksumLength]
}
