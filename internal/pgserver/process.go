package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// command runs a program of PostgreSQL to its end, and returns its output. If it failed, the output is in the error.
func command(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 5 * time.Second
	if err := disguise(cmd); err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", program, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// disguise makes cmd run as the unprivileged user that PostgreSQL insists on, in an environment that does not depend on
// who runs the tests, and out of reach of the terminal's Ctrl-C, which is for this process to handle.
func disguise(cmd *exec.Cmd) error {
	attr, err := attributes()
	if err != nil {
		return err
	}
	cmd.SysProcAttr = attr
	cmd.Dir = os.TempDir()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	// With a time zone given, initdb need not search for the machine's, which takes a while.
	cmd.Env = append(cmd.Env, "LC_ALL=C", "TZ=UTC")
	return nil
}

// process is a child process that does not outlive this one.
type process struct {
	*os.Process
	done chan struct{} // closed when the process has ended
}

// startProcess starts cmd. On Linux the kernel ends the child when this process ends, by whatever means.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// On Linux the parent is the thread that forked, so this goroutine keeps its thread as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.Process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end asks the process to end by the signal sig, waits, and kills it if it hasn't ended when the context has.
func (p *process) end(ctx context.Context, sig os.Signal) error {
	if err := p.Signal(sig); err != nil {
		_ = p.Kill() // it has ended already, or this system has no signals
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		_ = p.Kill()
		<-p.done
		return fmt.Errorf("PostgreSQL had to be killed: %w", ctx.Err())
	}
}

// often is the interval for polling what is cheap to ask.
const often = 2 * time.Millisecond

// poll calls ready until it returns true or an error, or the context ends.
func poll(ctx context.Context, every time.Duration, ready func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
