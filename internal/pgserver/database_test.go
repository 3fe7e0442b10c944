package pgserver

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDatabasesAreFreshAndIsolated(t *testing.T) {
	one, two := New(t), New(t)
	require.NotEqual(t, one.Name, two.Name)
	execute(t, connect(t, one.Owner.DSN), "CREATE TABLE patient ()")
	tables := "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
	require.Equal(t, 1, query[int](t, connect(t, one.App.DSN), tables))
	require.Equal(t, 0, query[int](t, connect(t, two.App.DSN), tables))
}

func TestDatabasesAreMadeInParallel(t *testing.T) {
	s := Shared(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, err := s.NewDatabase(t.Context())
			if err == nil {
				err = d.Drop(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestDropEndsSessionsAndMayBeRepeated(t *testing.T) {
	d := New(t)
	app := connect(t, d.App.DSN)
	require.NoError(t, d.Drop(t.Context()))
	require.Error(t, app.Ping(t.Context()))
	require.NoError(t, d.Drop(t.Context()))
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) {
	var name string
	t.Run("uses a database", func(t *testing.T) { name = New(t).Name })
	require.Equal(t, 0, query[int](t, connect(t, Shared(t).DSN()),
		"SELECT count(*) FROM pg_database WHERE datname = $1", name))
}
