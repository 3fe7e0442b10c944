package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cluster is a server run from binaries on this machine, with data of its own that live as long as it does.
type cluster struct {
	kind     string // "local" or "downloaded"
	bin      string
	dir      *runDir
	log      *os.File
	password string
	settings []string

	mu      sync.Mutex // guards process and stopped
	port    int
	process *process
	stopped bool
}

// startCluster makes a new data directory and starts the server in it.
func startCluster(ctx context.Context, cfg config, bin, kind string) (_ instance, err error) {
	dir, err := newRunDir(ctx)
	if err != nil {
		return nil, err
	}
	c := &cluster{kind: kind, bin: bin, dir: dir, password: random(16), settings: cfg.settings}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	c.log, err = os.OpenFile(filepath.Join(dir.path, "log"), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := c.initialize(ctx); err != nil {
		return nil, err
	}
	// Another process may take the port between its choice and its use.
	for range 5 {
		if c.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = c.start(ctx); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return c, err
}

func (c *cluster) data() string { return filepath.Join(c.dir.path, "data") }

// initialize runs initdb, which takes most of the time of a start: 0.4 s.
func (c *cluster) initialize(ctx context.Context) error {
	secret := filepath.Join(c.dir.path, "password")
	if err := os.WriteFile(secret, []byte(c.password), 0o600); err != nil {
		return err
	}
	defer os.Remove(secret)
	if err := hand(secret); err != nil {
		return err
	}
	_, err := command(ctx, executable(c.bin, "initdb"), "-D", c.data(), "-U", superuser, "--pwfile", secret,
		"-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", "--wal-segsize", "1")
	return err
}

const superuser = "postgres"

// keepMemory has glibc keep what a backend has freed, which plans the next statement: an eighth fewer page faults.
var keepMemory = []string{"MALLOC_TOP_PAD_=4194304", "MALLOC_MMAP_THRESHOLD_=33554432", "MALLOC_TRIM_THRESHOLD_=67108864"}

var errPortTaken = errors.New("the port is taken")

// start starts the postmaster and waits until it accepts connections.
func (c *cluster) start(ctx context.Context) error {
	args := []string{"-D", c.data(), "-k", c.dir.path, "-p", strconv.Itoa(c.port), "-c", "listen_addresses=" + loopback}
	for _, setting := range c.settings {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(executable(c.bin, "postgres"), args...)
	if err := disguise(cmd); err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, keepMemory...)
	logged, err := c.log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = c.log, c.log
	process, err := startProcess(cmd)
	if err != nil {
		return err
	}
	c.process = process
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, often, func() (bool, error) {
		if process.ended() {
			return false, c.whyEnded(logged)
		}
		return readPostmaster(c.data()).ready, nil
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// whyEnded returns an error with what the server has logged since the given offset.
func (c *cluster) whyEnded(from int64) error {
	content, err := os.ReadFile(c.log.Name())
	if err != nil {
		return err
	}
	said := strings.TrimSpace(string(content[from:]))
	if strings.Contains(said, "could not create any TCP/IP sockets") {
		return fmt.Errorf("%w: %s", errPortTaken, said)
	}
	return fmt.Errorf("it ended at once: %s", said)
}

func (c *cluster) describe(version string) string {
	return fmt.Sprintf("%s PostgreSQL %s (%s)", c.kind, version, c.bin)
}

func (c *cluster) dsn() *url.URL { return serverURL(loopback, c.port, c.password) }
func (c *cluster) owned() bool   { return true }

func (c *cluster) logPath() string { return c.log.Name() }

func (c *cluster) logs(context.Context) (string, error) {
	content, err := os.ReadFile(c.log.Name())
	return string(content), err
}

func (c *cluster) restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errors.New("the server is closed")
	}
	if err := c.process.end(ctx, syscall.SIGINT); err != nil {
		return err
	}
	return c.start(ctx)
}

func (c *cluster) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	var err error
	if c.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = c.process.end(ctx, syscall.SIGQUIT) // at once: its data are removed anyway
	}
	return errors.Join(err, c.log.Close(), c.dir.remove())
}

const loopback = "127.0.0.1"

// serverURL is the superuser's login at the maintenance database.
func serverURL(host string, port int, password string) *url.URL {
	return &url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, password),
		Host:     net.JoinHostPort(host, strconv.Itoa(port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
}

// freePort returns a port of this machine that is free at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
