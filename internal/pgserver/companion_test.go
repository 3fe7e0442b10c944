package pgserver

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompanionRunsInItsDirectoryAndEnds runs a shell that reads a file it was given and then waits for ever.
func TestCompanionRunsInItsDirectoryAndEnds(t *testing.T) {
	shell := lookPath(t, "sh")
	c, err := StartCompanion(t.Context(), map[string]string{"secret": "read\n"}, shell, "-c", "cat secret; id -u; exec sleep 1000")
	require.NoError(t, err)
	var log string
	within(t, "the program prints", func() bool {
		log, err = c.Log()
		return err != nil || len(log) > len("read\n")
	})
	require.NoError(t, err)
	require.Contains(t, log, "read\n")
	require.NotContains(t, log, "\n0\n", "never as root")

	dir, process := c.dir.path, c.process
	require.NoError(t, c.Close())
	require.True(t, process.ended())
	require.NoDirExists(t, dir)
}

func TestCompanionThatEndsIsNoticed(t *testing.T) {
	c, err := StartCompanion(t.Context(), nil, lookPath(t, "sh"), "-c", "echo no; exit 1")
	require.NoError(t, err)
	<-c.Ended()
	log, err := c.Log()
	require.NoError(t, err)
	require.Equal(t, "no\n", log)
	require.NoError(t, c.Close())
}

func TestCompanionThatIsMissingIsAnError(t *testing.T) {
	_, err := StartCompanion(t.Context(), nil, "/no/such/program")
	require.ErrorContains(t, err, "/no/such/program")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	require.NoError(t, err)
	return path
}
