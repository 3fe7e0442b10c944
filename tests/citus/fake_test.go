package citus

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// A fake stands for the coordinator of a cluster. Behind it is one PostgreSQL server, whose tables stand for the shards: its policies read
// the setting as workers know it. What only the coordinator would know is renamed on its way: a tenant by set_config, and by a SET LOCAL
// that is in no block or without citus.propagate_set_commands.
type fake struct {
	*testdb.Database
	target string

	plain    atomic.Bool  // it is no coordinator, but PostgreSQL
	answer   atomic.Value // of the type func([]byte) wire.Fate: what becomes of the server's messages
	mu       sync.Mutex
	proxies  []*wire.Proxy
	sessions []*session
}

// newFake has the tables of the models, and the rows of two tenants.
func newFake(t testing.TB, models ...any) *fake {
	t.Helper()
	f := &fake{Database: testdb.New(t, models...)}
	// The plugin looks at its name.
	f.AsSuperuser(t, "SET allow_system_table_mods = on; UPDATE pg_extension SET extname = 'citus' WHERE extname = 'plpgsql'")
	f.connect(t, f.App.DSN)
	return f
}

// connect says which server is behind it.
func (f *fake) connect(t testing.TB, dsn string) {
	t.Helper()
	var err error
	f.target, err = wire.Target(dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, p := range f.proxies {
			require.NoError(t, p.Close())
		}
	})
}

// open opens GORM through the fake, with one connection unless limit says otherwise.
func (f *fake) open(t testing.TB, dsn string, cfg tenancy.Config, limit int, opts ...testdb.Option) (*gorm.DB, error) {
	t.Helper()
	db, err := testdb.OpenGuarded(t, dsn, cfg, append(opts, testdb.FromPool(f.through))...)
	pool, poolErr := db.DB()
	require.NoError(t, poolErr)
	pool.SetMaxOpenConns(limit)
	pool.SetMaxIdleConns(limit)
	return db, err
}

func (f *fake) through(cfg *pgx.ConnConfig) {
	cfg.Fallbacks, cfg.TLSConfig = nil, nil // the proxy reads what is sent
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		s := &session{fake: f, statements: map[string]string{}}
		p, err := wire.New(f.target, wire.WithInterceptor(s.intercept))
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.proxies, f.sessions = append(f.proxies, p), append(f.sessions, s)
		f.mu.Unlock()
		return (&net.Dialer{}).DialContext(ctx, "tcp", p.Addr())
	}
}

// roundTrips is how many there were on all connections.
func (f *fake) roundTrips() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.proxies {
		n += p.RoundTrips()
	}
	return n
}

// recorded returns the messages that were sent during do, over one connection.
func (f *fake) recorded(do func()) []message {
	f.mu.Lock()
	sessions := f.sessions
	f.mu.Unlock()
	for _, s := range sessions {
		s.take()
	}
	do()
	var all []message
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		all = append(all, s.take()...)
	}
	return all
}

// message is one that makes PostgreSQL do something: an Execute with its SQL, a Sync, or a Query.
type message struct {
	kind   byte   // 'E', 'S' or 'Q'
	sql    string // of an Execute or a Query
	tenant string // as the workers know it when the statement runs
}

// session is what the fake knows of one connection.
type session struct {
	fake       *fake
	mu         sync.Mutex
	statements map[string]string // the SQL of what was parsed, by name
	bound      string            // the SQL of the portal
	block      bool              // BEGIN was sent, and no COMMIT yet
	propagates bool
	tenant     string
	messages   []message
}

func (s *session) take() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.messages
	s.messages = nil
	return taken
}

func (s *session) intercept(from wire.Side, m []byte) wire.Fate {
	if from != wire.Client {
		if answer, ok := s.fake.answer.Load().(func([]byte) wire.Fate); ok {
			return answer(m)
		}
		return wire.Fate{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	body := m[5:]
	switch m[0] {
	case 'P':
		name, rest := text(body)
		sql, rest := text(rest)
		s.statements[name] = sql
		if local := s.toWorkers(sql); local != sql {
			return wire.Replace(framed('P', name+"\x00"+local+"\x00"+string(rest)))
		}
	case 'B':
		_, rest := text(body)
		name, _ := text(rest)
		s.bound = s.statements[name]
	case 'E':
		s.messages = append(s.messages, message{'E', s.bound, s.tenant})
		s.follow(s.bound)
	case 'S':
		s.messages = append(s.messages, message{kind: 'S'})
	case 'Q':
		sql, _ := text(body)
		s.messages = append(s.messages, message{'Q', sql, s.tenant})
		parts := strings.Split(sql, "; ") // no constant of these tests has it
		for n, part := range parts {
			parts[n] = s.toWorkers(part)
			s.follow(part)
		}
		if local := strings.Join(parts, "; "); local != sql {
			return wire.Replace(framed('Q', local+"\x00"))
		}
	}
	return wire.Fate{}
}

var (
	setLocal  = regexp.MustCompile(`(?i)\bSET LOCAL "?app"?\."?tenant_id"? = '((?:[^']|'')*)'`)
	setConfig = regexp.MustCompile(`(?i)\bset_config\((CASE .*? ELSE )?'app\.tenant_id'`)
)

// toWorkers renames what a coordinator would not tell its workers.
func (s *session) toWorkers(sql string) string {
	if s.fake.plain.Load() {
		return sql
	}
	sql = setConfig.ReplaceAllString(sql, `set_config($1'coordinator.tenant_id'`)
	if s.block && s.propagates {
		return sql
	}
	return setLocal.ReplaceAllString(sql, `SET LOCAL coordinator.tenant_id = '$1'`)
}

// follow does to the session what the statement does.
func (s *session) follow(sql string) {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(sql)), " ")
	switch {
	case word == "begin":
		s.block = true
	case word == "commit", word == "rollback" && !strings.Contains(strings.ToLower(sql), " to "):
		s.block, s.propagates, s.tenant = false, false, ""
	case s.block && strings.HasPrefix(sql, "SET LOCAL citus.propagate_set_commands"):
		s.propagates = strings.Contains(sql, "'local'")
	case s.block && s.propagates:
		if m := setLocal.FindStringSubmatch(sql); m != nil {
			s.tenant = m[1]
		}
	}
}

// text takes a string that ends with a zero byte.
func text(b []byte) (string, []byte) {
	end := bytes.IndexByte(b, 0)
	return string(b[:end]), b[end+1:]
}

func framed(kind byte, body string) string {
	return string(kind) + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))) + body //nolint:gosec // a short text
}
