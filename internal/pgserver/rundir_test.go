package pgserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKilledProcessTakesItsServerAlong(t *testing.T) {
	clean(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGSERVER_TEST_HOLD=1")
	dir := holder(t, cmd)
	require.DirExists(t, dir)
	running := func() bool { return postmasterAnswers(dir, readPostmaster(filepath.Join(dir, "data")).port) }
	require.True(t, running())

	require.NoError(t, cmd.Process.Kill())
	if runtime.GOOS == "linux" {
		within(t, "the server ends with its process", func() bool { return !running() })
	}
	started(t)
	require.False(t, running())
	require.NoDirExists(t, dir, "the next start removes what was left")
}

func TestSweepStopsServersThatOutlivedTheirProcess(t *testing.T) {
	s := started(t)
	c := s.instance.(*cluster)
	require.NoError(t, c.dir.lock.Close()) // as the end of the process does
	started(t)
	within(t, "the server is stopped", c.process.ended)
	require.NoDirExists(t, c.dir.path)
	s.close = func() error { return nil }
}

func TestSweepSparesTheLiving(t *testing.T) {
	one := started(t)
	started(t)
	connect(t, one.DSN())
	require.DirExists(t, one.instance.(*cluster).dir.path)
}

func TestDiskServesWhereMemoryHasNoRoom(t *testing.T) {
	d, err := newRunDirIn(t.Context(), temporary())
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(d.path, temporary()))
	require.NoError(t, d.remove())
}

func TestSocketPathIsShort(t *testing.T) {
	t.Setenv("TMPDIR", "/"+strings.Repeat("long/", 20))
	require.Equal(t, "/tmp", temporary())
}

func TestDirectoryOfAnotherUserIsRefused(t *testing.T) {
	base, err := runBase(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Remove(base))
	require.NoError(t, os.Symlink(t.TempDir(), base))
	_, err = runBase(filepath.Dir(base))
	require.ErrorContains(t, err, "is not a directory")
}
