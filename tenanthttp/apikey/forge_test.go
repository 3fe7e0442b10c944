package apikey_test

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// forge makes a key with the secret of one and the id of another. Its checksum is right, as anyone can make it.
func forge(t testing.TB, secretOf, idOf string) string {
	t.Helper()
	parts, other := strings.Split(secretOf, "_"), strings.Split(idOf, "_")
	require.Len(t, parts, 4)
	parts[2] = other[2]
	key := strings.Join(parts, "_")
	key = key[:len(key)-6]
	sum := sha256.Sum256([]byte(key))
	return key + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:6]
}
