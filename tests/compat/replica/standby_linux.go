package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// newStandby copies the server's data, and starts a second server that streams all that follows.
func newStandby(t testing.TB, primary *pgserver.Server) (*Replica, error) {
	if primary.LogPath() == "" {
		return nil, errNoStandby
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var bin, sessions string
	if err := with(ctx, primary.DSN(), func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT setting, current_setting('max_connections') FROM pg_config WHERE name = 'BINDIR'").
			Scan(&bin, &sessions)
	}); err != nil {
		return nil, err
	}
	s, err := newServer(bin, filepath.Dir(primary.LogPath()))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := s.backUp(ctx, primary); err != nil {
		return nil, err
	}
	// A standby refuses to start with fewer sessions than its primary may have.
	if err := s.start("-c", "max_connections="+sessions, "-c", "hot_standby=on", "-c", "fsync=off",
		"-c", "wal_retrieve_retry_interval=20ms"); err != nil {
		return nil, err
	}
	r := &Replica{Here: "pg_is_in_recovery()", Standby: true, locate: func(dsn *url.URL) { dsn.Host = s.address }}
	super := r.DSN(t, primary.DSN())
	if err := poll(ctx, "the standby does not take connections", func() (bool, error) {
		if why, ended := s.ended(); ended {
			return false, why
		}
		return do(ctx, super, "SELECT 1") == nil, nil
	}); err != nil {
		return nil, errors.Join(err, s.said())
	}
	r.catchUp = func(ctx context.Context) error { return catchUp(ctx, primary.DSN(), super) }
	r.pause = func(ctx context.Context) error { return pause(ctx, super) }
	r.resume = func(ctx context.Context) error { return do(ctx, super, "SELECT pg_wal_replay_resume()") }
	r.promote = func(ctx context.Context) error { return promote(ctx, super) }
	r.stop = func(context.Context) error { return s.end() }
	return r, nil
}

// pause returns when nothing more is replayed.
func pause(ctx context.Context, standby string) error {
	return with(ctx, standby, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_wal_replay_pause()"); err != nil {
			return err
		}
		return poll(ctx, "the standby does not pause", func() (paused bool, err error) {
			err = conn.QueryRow(ctx, "SELECT pg_get_wal_replay_pause_state() = 'paused'").Scan(&paused)
			return paused, err
		})
	})
}

// promote makes the standby a server that takes writes.
func promote(ctx context.Context, standby string) error {
	return with(ctx, standby, func(conn *pgx.Conn) error {
		var done bool
		err := conn.QueryRow(ctx, "SELECT pg_promote(true, $1)", int(patience.Seconds())).Scan(&done)
		if err == nil && !done {
			err = errors.New("the standby is not promoted in time")
		}
		return err
	})
}

// catchUp notes where the primary's log ends, and waits until the standby has replayed it that far.
func catchUp(ctx context.Context, primary, standby string) error {
	var end string
	err := with(ctx, primary, func(conn *pgx.Conn) error {
		// What was committed asynchronously goes to disk, and from there to the standby, with the next that is not.
		_, err := conn.PgConn().Exec(ctx, "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, '', '')").ReadAll()
		if err != nil {
			return err
		}
		return conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&end)
	})
	if err != nil {
		return err
	}
	return with(ctx, standby, func(conn *pgx.Conn) error {
		return poll(ctx, "the standby does not catch up", func() (done bool, err error) {
			err = conn.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)", end).Scan(&done)
			return done, err
		})
	})
}

// server is the postmaster of the standby. Its files are in the directory of the primary, whose owner removes all that
// is left there by a run that was killed.
type server struct {
	bin, data, address string
	user               *syscall.Credential // the primary's; nil where it is that of this process
	log                bytes.Buffer
	cmd                *exec.Cmd
	done               chan struct{} // closed when the postmaster has ended
}

func newServer(bin, dir string) (*server, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	s := &server{bin: bin, done: make(chan struct{})}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		s.user = &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = l.Addr().String()
	s.data = filepath.Join(dir, "standby"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	return s, l.Close()
}

// command is a program of PostgreSQL that the kernel ends when this process ends.
func (s *server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT, Credential: s.user}
	cmd.Dir = filepath.Dir(s.data)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	return cmd
}

func (s *server) start(args ...string) error {
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	s.cmd = s.command("postgres", append([]string{"-D", s.data, "-k", filepath.Dir(s.data),
		"-p", port, "-c", "listen_addresses=127.0.0.1"}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.done)
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	}()
	return <-started
}

// ended reports whether the postmaster has, and what it said before.
func (s *server) ended() (error, bool) { //nolint:revive // it is not this function's error
	select {
	case <-s.done:
		return s.said(), true
	default:
		return nil, false
	}
}

// said is the log of a postmaster, which can be read when it has ended.
func (s *server) said() error {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		<-s.done
	}
	return fmt.Errorf("postgres said: %s", strings.TrimSpace(s.log.String()))
}

// end ends the postmaster at once: its data go anyway.
func (s *server) end() error {
	if s.cmd == nil || s.cmd.Process == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-s.done:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	return nil
}

func (s *server) stop() error { return errors.Join(s.end(), os.RemoveAll(s.data)) }
