package pgserver

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"
)

// TestDockerDaemon runs a container of the real image where a Docker daemon answers. Where none does, the fake one of the
// other tests has to do, and the log says so.
func TestDockerDaemon(t *testing.T) {
	clean(t)
	pool, err := dockerPool(t.Context())
	if err != nil {
		t.Log("only a fake daemon was tested:", err)
		return
	}
	t.Setenv("TENANCY_PG_BINDIR", "")
	t.Setenv("TENANCY_PG", "docker")
	s, err := Start(t.Context(), WithStatementLog())
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, "docker postgres:"+defaultMajor+"-alpine", s.Source())
	require.Equal(t, defaultMajor, strconv.Itoa(s.Version()/10000))

	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	execute(t, connect(t, d.Owner.DSN), "CREATE TABLE kept ()")
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, 1, query[int](t, connect(t, d.App.DSN), "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'"))
	within(t, "a statement reaches the log", func() bool {
		log, err := s.Logs(t.Context())
		require.NoError(t, err)
		return strings.Contains(log, "CREATE TABLE kept")
	})

	id := s.instance.(*container).resource.Container.ID
	require.NoError(t, s.Close())
	within(t, "the container is removed", func() bool {
		_, err := pool.Client.InspectContainer(id)
		return errors.As(err, new(*docker.NoSuchContainer))
	})
}
