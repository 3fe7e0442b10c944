package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPasswords(t *testing.T) {
	stored := weak.hash("secret")
	require.NotEqual(t, stored, weak.hash("secret"), "salted")
	for password, want := range map[string]bool{"secret": true, "Secret": false, "": false, "secret\x00": false} {
		is, err := weak.match(t.Context(), stored, password)
		require.NoError(t, err)
		require.Equal(t, want, is, password)
	}
	for _, nobody := range [][]byte{nil, {}, make([]byte, saltLength+keyLength), stored[:saltLength]} {
		is, err := weak.match(t.Context(), nobody, "")
		require.NoError(t, err)
		require.False(t, is)
	}

	busy := passwords{8, 1, make(chan struct{})}
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err := busy.match(gone, stored, "secret")
	require.ErrorIs(t, err, context.Canceled, "who has gone waits for nothing")
}
