package pgserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL with the roles of this package. Its methods may be used concurrently.
type Server struct {
	instance instance
	dsn      *url.URL
	version  int
	roles    roles
	holder   *pgx.Conn    // of the lock that shows that this process lives; nil if the server is the instance's own
	made     atomic.Int64 // databases made so far, for their names

	close func() error
}

// instance is what the sources of PostgreSQL have in common.
type instance interface {
	// describe names the source for people, given the server's version as people write it.
	describe(version string) string
	// dsn is the login that may create roles and databases.
	dsn() *url.URL
	// owned reports whether the server and its data end with the instance.
	owned() bool
	// logs returns all that the server has logged.
	logs(ctx context.Context) (string, error)
	// logPath names the file of the log, if it is one.
	logPath() string
	// restart stops the server, keeping its data, and starts it at the same address.
	restart(ctx context.Context) error
	// stop ends the server and removes its data, if they are the instance's own.
	stop() error
}

// Option changes how Start starts a server.
type Option func(*config)

type config struct {
	settings []string // for the server, as name=value
	endless  []string // functions that goroutines may run on after the tests
}

// WithStatementLog makes the server log every statement that arrives, also one that is only prepared: a test can then
// prove that nothing did. The server of TENANCY_DSN keeps its configuration.
func WithStatementLog() Option {
	return func(c *config) {
		c.settings = append(c.settings, "log_statement=all", "log_min_duration_statement=0")
	}
}

// WithEndless lets goroutines that run one of these functions go on after the tests, for Main and Run: those of libraries
// that never end what they start. The goroutine that GORM keeps for prepared statements need not be named.
func WithEndless(functions ...string) Option {
	return func(c *config) { c.endless = append(c.endless, functions...) }
}

// Start starts or joins a real PostgreSQL, from the first source that has one. The context bounds the start, which takes half a
// second with local binaries and as long as the network needs where something must be fetched; the server lives until
// Close. If no source works, the error says why for each source, and what to do.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	cfg := config{settings: []string{
		// Nothing here has to survive a crash of the machine.
		"jit=off", // no statement of a test runs so long that it would pay
		"fsync=off",
		"synchronous_commit=off",
		"full_page_writes=off",
		"max_connections=200",
		"wal_level=logical", // a test subscribes to what is published
		"max_wal_size=256MB",
		"log_checkpoints=off",
		"log_line_prefix=%m [%p] %q%u@%d ",
	}}
	for _, opt := range opts {
		opt(&cfg)
	}
	instance, err := provide(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	s := &Server{instance: instance, dsn: instance.dsn()}
	s.close = sync.OnceValue(s.shutdown)
	if err := s.prepare(ctx); err != nil {
		err = fmt.Errorf("pgserver: %s: %w", instance.describe("?"), err)
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// Source names the source of the server for people, such as "local PostgreSQL 15.18 (/usr/lib/postgresql/15/bin)".
func (s *Server) Source() string {
	return s.instance.describe(fmt.Sprintf("%d.%d", s.version/10000, s.version%10000))
}

// Version is the server's version as PostgreSQL numbers it in server_version_num: 150018 for 15.18.
func (s *Server) Version() int { return s.version }

// DSN is the login that made the roles and makes the databases, at the maintenance database. It is a superuser's,
// except perhaps with TENANCY_DSN. It holds a password: do not log it.
func (s *Server) DSN() string { return s.dsn.String() }

// Logs returns what the server has logged since it was started. Each line about a session names its role and database
// as role@database. With local or downloaded binaries a statement is in the log before its answer is; Docker needs a
// moment. The error is ErrNoLogs for the server of TENANCY_DSN.
func (s *Server) Logs(ctx context.Context) (string, error) { return s.instance.logs(ctx) }

// LogsSince returns what has been logged after so many bytes, and how many there are now. For LogEnd the text is empty.
func (s *Server) LogsSince(ctx context.Context, read int64) (text string, end int64, err error) {
	path := s.LogPath()
	if path == "" {
		text, err = s.Logs(ctx)
		end = int64(len(text))
		return text[min(read, end):], end, err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", 0, err
	}
	end = info.Size()
	part := make([]byte, end-min(read, end))
	_, err = file.ReadAt(part, end-int64(len(part)))
	return string(part), end, err
}

// LogEnd is more than any log has bytes.
const LogEnd = math.MaxInt64

// LogPath names the file that Logs reads, which lives until Close. It is empty where the log is not a file: with
// Docker and with TENANCY_DSN.
func (s *Server) LogPath() string { return s.instance.logPath() }

// Restart stops the server, which ends every session, and starts it again with its data, at the same address. A server
// named by TENANCY_DSN is not restarted: that is an error.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.instance.restart(ctx); err != nil {
		return fmt.Errorf("pgserver: restart: %w", err)
	}
	return nil
}

// Close ends the server, and every session with it. Of a server named by TENANCY_DSN it drops what this package made:
// databases and roles. Further calls do nothing and return what the first one did.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutdown() error {
	var err error
	if !s.instance.owned() {
		err = s.dropAll()
	}
	if s.holder != nil {
		err = errors.Join(err, s.holder.Close(context.Background()))
	}
	err = errors.Join(err, s.instance.stop())
	if err != nil {
		return fmt.Errorf("pgserver: close: %w", err)
	}
	return nil
}
