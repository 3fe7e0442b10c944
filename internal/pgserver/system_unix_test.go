//go:build unix

package pgserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPostgresNeverRunsAsRoot(t *testing.T) {
	clean(t)
	data, err := os.Stat(started(t).instance.(*cluster).data())
	require.NoError(t, err)
	if os.Geteuid() != 0 {
		require.NoError(t, ours(data), "without root's rights, it runs as who starts it")
		return
	}
	require.Error(t, ours(data))
	require.Contains(t, holder(t, asNobody(t)), "/tenancy-pg-65534/", "and users without them start it too")
}

// asNobody is this test program, made to run by a user who isn't root.
func asNobody(t *testing.T) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgserver-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "pgserver.test")
	content, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, content, 0o755))
	cmd := exec.Command(program)
	cmd.Dir = dir
	cmd.Env = []string{
		"PGSERVER_TEST_HOLD=1",
		"PATH=" + os.Getenv("PATH"),
		"TENANCY_PG_BINDIR=" + os.Getenv("TENANCY_PG_BINDIR"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}
