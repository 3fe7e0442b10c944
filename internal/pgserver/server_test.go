package pgserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestServerTellsWhatItIs(t *testing.T) {
	s := started(t)
	require.Regexp(t, `^local PostgreSQL \d\d\.\d+ \(/.+\)$`, s.Source())
	conn := connect(t, s.DSN())
	require.Equal(t, s.Version(), query[int](t, conn, "SELECT current_setting('server_version_num')::int"))
	require.True(t, query[bool](t, conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
	for name, want := range map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200",
		"wal_level": "logical", "server_encoding": "UTF8", "TimeZone": "UTC", "log_statement": "none",
	} {
		require.Equal(t, want, query[string](t, conn, "SELECT current_setting($1)", name), name)
	}
}

func TestStatementLogShowsEverythingThatArrives(t *testing.T) {
	s := started(t, WithStatementLog())
	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	conn := connect(t, d.App.DSN)
	execute(t, conn, "SELECT 'simple'", pgx.QueryExecModeSimpleProtocol)
	execute(t, conn, "SELECT $1 || 'extended'", pgx.QueryExecModeDescribeExec, "")
	_, err = conn.Prepare(t.Context(), "p", "SELECT 'only prepared'")
	require.NoError(t, err)

	log, err := s.Logs(t.Context())
	require.NoError(t, err)
	for _, text := range []string{"'simple'", "|| 'extended'", "'only prepared'"} {
		require.Contains(t, log, text)
	}
	require.Contains(t, log, d.App.Role+"@"+d.Name)
	file, err := os.ReadFile(s.LogPath())
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(file), log))

	_, end, err := s.LogsSince(t.Context(), LogEnd)
	require.NoError(t, err)
	execute(t, conn, "SELECT 'later'")
	more, after, err := s.LogsSince(t.Context(), end)
	require.NoError(t, err)
	require.Contains(t, more, "'later'")
	require.NotContains(t, more, "'only prepared'")
	require.Equal(t, end+int64(len(more)), after)
}

func TestRestartKeepsDataAndAddress(t *testing.T) {
	s := started(t)
	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	before := connect(t, d.Owner.DSN)
	execute(t, before, "CREATE TABLE kept AS SELECT 1 AS n")

	require.NoError(t, s.Restart(t.Context()))
	require.Error(t, before.Ping(t.Context()))
	require.Equal(t, 1, query[int](t, connect(t, d.Owner.DSN), "SELECT n FROM kept"))
}

func TestCloseLeavesNothingAndMayBeRepeated(t *testing.T) {
	s := started(t)
	c := s.instance.(*cluster)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.True(t, c.process.ended())
	require.NoDirExists(t, c.dir.path)
	require.ErrorContains(t, s.Restart(t.Context()), "closed")
	_, err := s.Logs(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = s.NewDatabase(t.Context())
	require.Error(t, err)
}

func TestServersStartInParallel(t *testing.T) {
	clean(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s, err := Start(t.Context())
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestStartHonoursItsContext(t *testing.T) {
	clean(t)
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := Start(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotContains(t, err.Error(), "docker", "another source is not tried when there is no time left")
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	clean(t)
	t.Setenv("TENANCY_PG", "local")
	_, err := Start(t.Context(), func(c *config) { c.settings = append(c.settings, "no_such_setting=1") })
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)

	logs, err := filepath.Glob(filepath.Join(filepath.Dir(Shared(t).LogPath()), "..", "*", "log"))
	require.NoError(t, err)
	for _, path := range logs {
		log, _ := os.ReadFile(path)
		require.NotContains(t, string(log), "no_such_setting")
	}
}
