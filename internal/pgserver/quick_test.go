package pgserver

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func TestFreshDatabases(t *testing.T) {
	start := time.Now()
	s := Shared(t)
	t.Log("start", time.Since(start), s.Source(), s.Version())
	for range 10 {
		start = time.Now()
		d, err := s.NewDatabase(context.Background())
		require.NoError(t, err)
		n := time.Since(start)
		start = time.Now()
		require.NoError(t, d.Drop(context.Background()))
		t.Log("new", n, "drop", time.Since(start))
	}
	start = time.Now()
	require.NoError(t, s.Restart(context.Background()))
	t.Log("restart", time.Since(start))
	l, err := s.Logs(context.Background())
	require.NoError(t, err)
	t.Log(l)
}
