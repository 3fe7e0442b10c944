package tenanthttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// maxToken bounds what is parsed, in bytes.
const maxToken = 8 << 10

// maxKeyID bounds the kid that TokenConfig.Key is asked for, in bytes.
const maxKeyID = 255

// checkForm refuses what the parser of package jwt would let pass: a header with extensions that the receiver must understand
// (RFC 7515 section 4.1.11), a kid that is not printable text, a type of token that is not expected (RFC 8725 section 3.11), and
// objects with the same member twice, of which two programs may read different ones.
func checkForm(token string, isType func(string) bool) error {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return jwt.ErrTokenMalformed
	}
	var documents [2][]byte
	for i := range documents {
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil || !hasUniqueMembers(decoded) {
			return jwt.ErrTokenMalformed
		}
		documents[i] = decoded
	}
	var header map[string]any
	if err := json.Unmarshal(documents[0], &header); err != nil {
		return jwt.ErrTokenMalformed
	}
	if _, extended := header["crit"]; extended {
		return jwt.ErrTokenUnverifiable
	}
	typ, text := header["typ"].(string)
	if header["typ"] != nil && !text || !isType(strings.TrimPrefix(strings.ToLower(typ), "application/")) {
		return jwt.ErrTokenUnverifiable
	}
	kid, text := header["kid"].(string)
	if header["kid"] != nil && !text || !isKeyID(kid) {
		return jwt.ErrTokenMalformed
	}
	return nil
}

// isKeyID reports whether a kid is printable ASCII without spaces.
func isKeyID(kid string) bool {
	return len(kid) <= maxKeyID && !strings.ContainsFunc(kid, func(c rune) bool { return c <= ' ' || c > '~' })
}

// hasUniqueMembers reports whether a text is one JSON object, in which no object has the same member twice.
func hasUniqueMembers(text []byte) bool {
	if text = bytes.TrimSpace(text); len(text) == 0 || text[0] != '{' {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	return readUnique(decoder) == nil && decoder.InputOffset() == int64(len(text))
}

var errDuplicate = errors.New("a member is there twice")

// readUnique reads one value.
func readUnique(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	members := map[any]bool{}
	for decoder.More() {
		if open == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			if members[name] {
				return errDuplicate
			}
			members[name] = true
		}
		if err := readUnique(decoder); err != nil {
			return err
		}
	}
	if _, err = decoder.Token(); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// expectType returns which types of tokens are accepted: the one that is configured; or those that stand for an access token, or say
// nothing, so that a logout token, a DPoP proof or another kind of the same issuer is none.
func expectType(configured string) func(string) bool {
	if configured != "" {
		configured = strings.TrimPrefix(strings.ToLower(configured), "application/")
		return func(typ string) bool { return typ == configured }
	}
	return func(typ string) bool { return typ == "" || typ == "jwt" || typ == "at+jwt" }
}

// unauthenticated keeps of an error of package jwt what is wrong with the token, and nothing of its content.
func unauthenticated(err error) error {
	for _, reason := range []error{
		jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet, jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenInvalidAudience,
		jwt.ErrTokenInvalidIssuer, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenUnverifiable,
	} {
		if errors.Is(err, reason) {
			return fmt.Errorf("%w: %w", ErrUnauthenticated, reason)
		}
	}
	return fmt.Errorf("%w: %w", ErrUnauthenticated, jwt.ErrTokenMalformed)
}
