package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runDir is the directory of one server: data, log and socket. Its process keeps it locked, so that
// other processes can recognise what a killed process left.
type runDir struct {
	path string
	lock *os.File
}

// ownerLock is the file in a runDir that its process keeps locked.
const ownerLock = "owner.lock"

// newRunDir makes a directory that only this user, and PostgreSQL, may enter. It first removes those of dead processes.
func newRunDir(ctx context.Context) (*runDir, error) {
	var failed []error
	for _, parent := range []string{memory(), temporary()} {
		if parent == "" {
			continue
		}
		d, err := newRunDirIn(ctx, parent)
		if err == nil {
			return d, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

func newRunDirIn(ctx context.Context, parent string) (*runDir, error) {
	base, err := runBase(parent)
	if err != nil {
		return nil, err
	}
	// A directory that is just being made, not yet locked, must not be taken for a leftover.
	baseLock, err := os.OpenFile(filepath.Join(base, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer baseLock.Close()
	if err := poll(ctx, often, func() (bool, error) { return tryLock(baseLock) }); err != nil {
		return nil, fmt.Errorf("wait for %s: %w", baseLock.Name(), err)
	}
	sweep(ctx, base)
	if parent == memory() {
		if err := room(base); err != nil {
			return nil, err
		}
	}
	path, err := os.MkdirTemp(base, "")
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, ownerLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	d := &runDir{path: path, lock: lock}
	if _, err := tryLock(lock); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	if err := hand(path); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

func (d *runDir) remove() error {
	return errors.Join(d.lock.Close(), os.RemoveAll(d.path))
}

// temporary is the parent of this user's servers on disk. It is short, because the path of a socket has at most 107 bytes.
func temporary() string {
	temp := os.TempDir()
	if runtime.GOOS != "windows" && (os.Geteuid() == 0 || len(temp) > 60) {
		return "/tmp" // root's own may be closed to the user that PostgreSQL runs as
	}
	return temp
}

// runBase is the directory of this user's servers.
func runBase(parent string) (string, error) {
	base := filepath.Join(parent, "tenancy-pg-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(base, 0o711); err == nil {
		err = os.Chmod(base, 0o711) // whatever the umask: PostgreSQL has to pass
		if err != nil {
			return "", err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(base)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory", base)
	}
	return base, ours(info)
}

// sweep stops the servers of dead processes and removes their directories. What fails is left to the next sweep.
func sweep(ctx context.Context, base string) {
	entries, _ := os.ReadDir(base)
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		d := &runDir{path: filepath.Join(base, entry.Name())}
		lock, err := os.OpenFile(filepath.Join(d.path, ownerLock), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(d.path) // its process was killed between making and locking it, or removing it
			continue
		}
		if err != nil {
			continue
		}
		d.lock = lock
		if dead, err := tryLock(lock); err != nil || !dead {
			lock.Close()
			continue
		}
		if err := d.stopLeftover(ctx); err != nil {
			progress("%s: cannot stop the server of a killed process: %v", d.path, err)
			lock.Close()
			continue
		}
		_ = d.remove()
	}
}

// stopLeftover stops the postmaster of a directory, if it still runs.
func (d *runDir) stopLeftover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return poll(ctx, often, func() (bool, error) {
		postmaster := readPostmaster(filepath.Join(d.path, "data"))
		if postmaster.pid == 0 {
			return true, nil
		}
		// Another process may have the same number now: only a postmaster answers at its socket.
		if !postmasterAnswers(d.path, postmaster.port) {
			return true, nil
		}
		process, err := os.FindProcess(postmaster.pid)
		if err != nil {
			return false, err
		}
		return false, process.Signal(syscall.SIGQUIT)
	})
}

// postmasterAnswers reports whether a server listens at the socket in dir.
func postmasterAnswers(dir, port string) bool {
	conn, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL."+port))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// postmaster is what a running server says of itself in the file postmaster.pid of its data directory.
type postmaster struct {
	pid   int
	port  string
	ready bool
}

// readPostmaster returns the zero value if the file isn't there, or not complete.
func readPostmaster(data string) postmaster {
	content, _ := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	lines := strings.Split(string(content), "\n")
	if len(lines) < 4 {
		return postmaster{}
	}
	pid, _ := strconv.Atoi(lines[0])
	return postmaster{
		pid:   pid,
		port:  lines[3],
		ready: len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready",
	}
}
