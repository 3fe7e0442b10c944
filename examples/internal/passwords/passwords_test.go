package passwords

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatches(t *testing.T) {
	h := NewWeak()
	stored := h.Hash("open sesame")
	require.Regexp(t, `^\$argon2id\$v=19\$m=64,t=1,p=1\$[A-Za-z0-9+/]{64}$`, stored)
	require.NotEqual(t, stored, h.Hash("open sesame"), "salted")
	for password, want := range map[string]bool{
		"open sesame": true, "Open sesame": false, "open sesame ": false, "open sesame\x00": false, "": false,
	} {
		got, err := newHasher(128, 2).Matches(t.Context(), stored, password)
		require.NoError(t, err)
		require.Equal(t, want, got, "with the parameters that it was stored with")
	}
}

func TestMatchesNothingIfNothingIsStored(t *testing.T) {
	h := NewWeak()
	h.Absent = h.Hash("open sesame")
	for _, password := range []string{"open sesame", ""} {
		got, err := h.Matches(t.Context(), "", password)
		require.NoError(t, err)
		require.False(t, got)
	}
	h.Absent = "unreadable"
	_, err := h.Matches(t.Context(), "", "open sesame")
	require.EqualError(t, err, "a stored password is malformed", "it is compared all the same")
}

func TestMatchesRefusesMalformedHashes(t *testing.T) {
	h := NewWeak()
	for _, malformed := range []string{"open sesame", "$argon2id$v=19$m=64,t=1,p=1$", "$argon2id$v=19$m=64,t=1,p=1$c2VjcmV0", h.Hash("")[:40]} {
		_, err := h.Matches(t.Context(), malformed, "")
		require.EqualError(t, err, "a stored password is malformed")
	}
}

func TestMatchesEndsWithItsContext(t *testing.T) {
	busy := NewWeak()
	stored := busy.Hash("secret")
	busy.slots = make(chan struct{})
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err := busy.Matches(gone, stored, "secret")
	require.ErrorIs(t, err, context.Canceled)
}
