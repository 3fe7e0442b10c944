package pgserver

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// shared is the server of a test package.
var shared struct {
	mu      sync.Mutex
	ctx     context.Context // of the whole run; nil outside Run
	options []Option
	started bool
	server  *Server
	err     error
}

// Main is the body of a test package's TestMain. It runs the tests, starts a server for them when the first one asks,
// stops it when all are done or the run is interrupted, looks for goroutines that are left, and exits.
func Main(m *testing.M, opts ...Option) { os.Exit(Run(m, opts...)) }

// Run does what Main does, but returns the exit code instead of exiting. It is for a TestMain that has more to do.
func Run(m *testing.M, opts ...Option) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	shared.mu.Lock()
	shared.ctx, shared.options = ctx, opts
	shared.mu.Unlock()

	finished, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-finished:
		case <-ctx.Done():
			if err := closeShared(); err != nil {
				progress("%v", err)
			}
			os.Exit(130) // as a shell says of a program ended by Ctrl-C
		}
	}()
	code := m.Run()
	close(finished)
	<-watched
	if err := closeShared(); err != nil {
		progress("%v", err)
		code = max(code, 1)
	}
	cancel()
	if code != 0 {
		return code // a test that stopped half-way has left what it was doing
	}
	if err := goleak.Find(endless(opts)...); err != nil {
		progress("%v", err)
		return 1
	}
	return 0
}

// endless are the goroutines that others start and never end.
func endless(opts []Option) []goleak.Option {
	var cfg config
	for _, opt := range opts {
		opt(&cfg)
	}
	ignored := []goleak.Option{goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")} // of PrepareStmt
	for _, function := range cfg.endless {
		ignored = append(ignored, goleak.IgnoreAnyFunction(function))
	}
	return ignored
}

func closeShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.ctx = nil
	if shared.server == nil {
		return nil
	}
	return shared.server.Close()
}

// Shared returns the server behind New, the same for all tests of a package. If there is none, it fails the
// test: a test that needs a server is never skipped.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.ctx == nil {
		t.Fatal("pgserver: the package has no TestMain: add func TestMain(m *testing.M) { pgserver.Main(m) }")
	}
	if !shared.started {
		shared.started = true
		shared.server, shared.err = Start(shared.ctx, shared.options...)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// New gives the test a fresh database of its own on the shared server, and drops it when the test is over.
func New(t testing.TB) *Database {
	t.Helper()
	d, err := Shared(t).NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		if err := d.Drop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}
