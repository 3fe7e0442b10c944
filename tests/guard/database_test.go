package guard_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

const setting = "app.tenant_id"

// waitTime is far more than anything here takes.
const waitTime = 20 * time.Second

// way is one of the ways in which a guarded pool can be made and used.
type way struct {
	mode     pgx.QueryExecMode
	direct   bool // the guard owns its connections
	prepared bool // statements are prepared through database/sql
}

func (w way) String() string {
	s := strings.ReplaceAll(w.mode.String(), " ", "_")
	if w.direct {
		s += "/direct"
	} else {
		s += "/borrowed"
	}
	if w.prepared {
		s += "/prepared"
	}
	return s
}

// eachPool runs test for every mode, borrowed and direct.
func eachPool(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	for _, mode := range testdb.Modes {
		for _, direct := range []bool{false, true} {
			w := way{mode: mode, direct: direct}
			t.Run(w.String(), func(t *testing.T) { test(t, w) })
		}
	}
}

// eachWay runs test for every mode, borrowed and direct, plain and prepared.
func eachWay(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	eachPool(t, func(t *testing.T, w way) {
		t.Run("plain", func(t *testing.T) { test(t, w) })
		w.prepared = true
		t.Run("prepared", func(t *testing.T) { test(t, w) })
	})
}

// database has a table "notes" of two tenants, and a shared table "shared".
type database struct {
	*testdb.Database
	owner *sql.DB
}

const schema = `
	CREATE TABLE notes (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		tenant_id text NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), ''),
		body text NOT NULL UNIQUE);
	ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
	ALTER TABLE notes FORCE ROW LEVEL SECURITY;
	CREATE POLICY tenant ON notes
		USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')))
		WITH CHECK (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')));
	CREATE POLICY admin ON notes TO %[2]s USING (true) WITH CHECK (true);
	CREATE TABLE shared (id int, body text);
	CREATE TABLE parents (id int PRIMARY KEY);
	CREATE TABLE children (id int, parent_id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
	GRANT ALL ON ALL TABLES IN SCHEMA public TO %[1]s, %[2]s;`

func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{Database: testdb.New(t)}
	var err error
	d.owner, err = d.OwnerDB.DB()
	require.NoError(t, err)
	d.AsOwner(t, fmt.Sprintf(schema, d.App.Role, d.Admin.Role))
	require.NoError(t, d.AdminDB.Exec(`INSERT INTO notes (tenant_id, body) VALUES ('a', 'a1'), ('a', 'a2'), ('b', 'b1')`).Error)
	return d
}

// logEnd returns how much the server has logged.
func logEnd(t *testing.T) int64 {
	t.Helper()
	_, end, err := pgserver.Shared(t).LogsSince(t.Context(), pgserver.LogEnd)
	require.NoError(t, err)
	return end
}

// arrived returns what the server has logged since then about statements of this login in this database. Pings don't count.
func (d *database) arrived(t *testing.T, login pgserver.Login, since int64) []string {
	t.Helper()
	log, _, err := pgserver.Shared(t).LogsSince(t.Context(), since)
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(log) {
		_, message, ok := strings.Cut(line, " "+login.Role+"@"+d.Name+" ")
		if ok && !bareDuration.MatchString(message) && !strings.HasSuffix(message, "statement: -- ping\n") {
			lines = append(lines, message)
		}
	}
	return lines
}

var bareDuration = regexp.MustCompile(`^LOG:  duration: [0-9.]+ ms\n$`)

func config(t *testing.T, login pgserver.Login, mode pgx.QueryExecMode) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(login.DSN)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = mode
	return cfg
}

// noPing keeps pgx's stdlib from testing a connection that was idle, so that a test has asked for all that is sent.
var noPing = stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false })

// open opens a plain pool of one connection.
func open(t *testing.T, cfg *pgx.ConnConfig) *sql.DB {
	t.Helper()
	db := stdlib.OpenDB(*cfg, noPing)
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

// pool is a guarded pool of one connection, which shows whatever one statement leaves to the next.
type pool struct {
	*sql.DB
	way
	inner *sql.DB       // the lender; nil if the pool owns its connection
	sent  *atomic.Int64 // bytes
}

func guarded(t *testing.T, w way, pgxConfig *pgx.ConnConfig, cfg guard.Config) *pool {
	t.Helper()
	cfg.Setting, cfg.NewPanicError = setting, newPanicError
	p := &pool{way: w, sent: countSent(pgxConfig)}
	if w.direct {
		p.DB = guard.Open(stdlib.GetConnector(*pgxConfig, noPing), cfg)
		p.SetMaxOpenConns(1)
	} else {
		p.inner = open(t, pgxConfig)
		p.DB = guard.Borrow(p.inner, cfg)
	}
	t.Cleanup(func() { _ = p.DB.Close() })
	return p
}

// countSent counts the bytes that connections made by this configuration send.
func countSent(cfg *pgx.ConnConfig) *atomic.Int64 {
	n, dial := new(atomic.Int64), cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return countingConn{c, n}, err
	}
	return n
}

type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.sent.Add(int64(len(b)))
	return c.Conn.Write(b)
}

func (d *database) app(t *testing.T, way way) *pool {
	t.Helper()
	return guarded(t, way, config(t, d.App, way.mode), guard.Config{})
}

// eachApp runs test with a pool of the application for every mode, borrowed and direct.
func (d *database) eachApp(t *testing.T, test func(t *testing.T, p *pool)) {
	t.Helper()
	eachPool(t, func(t *testing.T, way way) { test(t, d.app(t, way)) })
}

// eachAppWay is eachApp, plain and prepared.
func (d *database) eachAppWay(t *testing.T, test func(t *testing.T, p *pool)) {
	t.Helper()
	eachWay(t, func(t *testing.T, way way) { test(t, d.app(t, way)) })
}

// inUse is the number of connections that are held, in the pool that owns them.
func (p *pool) inUse() int {
	if p.inner != nil {
		return p.inner.Stats().InUse
	}
	return p.Stats().InUse
}

// requireFree waits until all connections are back: database/sql returns some of them on goroutines of its own. Then it
// uses the pool, which has one connection.
func (p *pool) requireFree(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return p.inUse() == 0 && p.Stats().InUse == 0 }, waitTime, time.Millisecond)
	ctx, cancel := context.WithTimeout(tenant(t, "a"), waitTime)
	defer cancel()
	require.Equal(t, []string{"a1", "a2"}, p.notes(ctx, t), "the next use")
}

// queryer is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// query sends a query, prepared if that is the way. What a failing test leaves open is closed after it.
func (w way) query(ctx context.Context, t *testing.T, q queryer, query string, args ...any) (*sql.Rows, error) {
	t.Helper()
	send := func() (*sql.Rows, error) { return q.QueryContext(ctx, query, args...) }
	if w.prepared {
		stmt, err := q.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = stmt.Close() })
		send = func() (*sql.Rows, error) { return stmt.QueryContext(ctx, args...) }
	}
	rows, err := send()
	if err == nil {
		t.Cleanup(func() { _ = rows.Close() })
	}
	return rows, err
}

// exec is query for a statement without rows.
func (w way) exec(ctx context.Context, t *testing.T, q queryer, query string, args ...any) (sql.Result, error) {
	t.Helper()
	if !w.prepared {
		return q.ExecContext(ctx, query, args...)
	}
	stmt, err := q.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	return stmt.ExecContext(ctx, args...)
}

// texts returns the first column of all rows.
func texts(rows *sql.Rows, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s.String)
	}
	return all, rows.Err()
}

// one returns the only value of a query.
func (w way) one(ctx context.Context, t *testing.T, q queryer, query string, args ...any) string {
	t.Helper()
	all, err := texts(w.query(ctx, t, q, query, args...))
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

// notesOf returns what can be seen of the table "notes".
func (w way) notesOf(ctx context.Context, t *testing.T, q queryer) []string {
	t.Helper()
	all, err := texts(w.query(ctx, t, q, `SELECT body FROM notes ORDER BY body`))
	require.NoError(t, err)
	return all
}

func (p *pool) notes(ctx context.Context, t *testing.T) []string {
	t.Helper()
	return p.notesOf(ctx, t, p.DB)
}

type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// copier is what (*sql.Conn).Raw gives of a guarded pool.
type copier interface {
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
}

func tenant(t *testing.T, id string) context.Context {
	t.Helper()
	return guard.WithTenant(context.Background(), id)
}
