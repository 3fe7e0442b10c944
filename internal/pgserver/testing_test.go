package pgserver

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInterruptEndsTheServer is also what the run that it interrupts consists of.
func TestInterruptEndsTheServer(t *testing.T) {
	if os.Getenv("PGSERVER_TEST_INTERRUPT") != "" {
		New(t)
		fmt.Println(Shared(t).instance.(*cluster).dir.path)
		select {}
	}
	if runtime.GOOS == "windows" {
		return // has no interrupt to send
	}
	clean(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PGSERVER_TEST_INTERRUPT=1")
	dir := holder(t, cmd)
	require.DirExists(t, dir)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	require.NoDirExists(t, dir)
}

func TestWithoutServerTestsFail(t *testing.T) {
	clean(t)
	t.Setenv("TENANCY_PG", "oracle")
	shared.mu.Lock()
	server, started, err := shared.server, shared.started, shared.err
	shared.server, shared.started, shared.err = nil, false, nil
	shared.mu.Unlock()
	defer func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		shared.server, shared.started, shared.err = server, started, err
	}()

	for range 2 { // the second test of a package fares as the first one
		require.Contains(t, fatal(func(t testing.TB) { New(t) }), "TENANCY_PG=oracle is unknown")
	}
}

func TestWithoutMainTestsFail(t *testing.T) {
	shared.mu.Lock()
	ctx := shared.ctx
	shared.ctx = nil
	shared.mu.Unlock()
	defer func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		shared.ctx = ctx
	}()
	require.Contains(t, fatal(func(t testing.TB) { New(t) }), "pgserver.Main(m)")
}

// fatal runs a test and returns what it failed with.
func fatal(test func(testing.TB)) string {
	var f failing
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(&f)
	}()
	<-done
	return f.message
}

// failing is a test that keeps its failure to itself.
type failing struct {
	testing.TB
	message string
}

func (f *failing) Helper() {}

func (f *failing) Fatal(args ...any) {
	f.message = fmt.Sprint(args...)
	runtime.Goexit()
}
