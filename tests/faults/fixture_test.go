package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver of the admin's pool
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// Note is a tenant's. Nothing keeps two of them from having the same body: one that was applied twice is there twice.
type Note struct {
	ID       int64
	TenantID string
	Body     string
}

const (
	acme   = testdb.Acme
	globex = testdb.Globex

	seeds = 3 // notes of each tenant that are always there

	// patience is far more than anything here takes, unless it hangs.
	patience = 30 * time.Second
)

// way is how the application uses GORM.
type way struct {
	prepare bool // GORM's PrepareStmt
	simple  bool // pgx's simple protocol
	cold    bool // nothing of an operation is prepared on the connection yet
}

func (w way) String() string {
	s := map[bool]string{false: "extended", true: "simple"}[w.simple]
	if w.prepare {
		s += ",PrepareStmt"
	}
	if w.cold {
		s += ",cold"
	}
	return s
}

// fixture is a database of two tenants, and an application with one connection to it, through a proxy that injects faults.
type fixture struct {
	*testdb.Database
	way
	injector *injector
	proxy    *wire.Proxy
	db       *gorm.DB
	pool     *sql.DB // guarded
	inner    *sql.DB
	admin    *sql.DB // past the proxy, sees all notes
	super    *sql.DB // past the proxy
	marks    atomic.Int64
}

func newFixture(t *testing.T, way way) *fixture {
	t.Helper()
	return newFixtureOn(t, pgserver.Shared(t).DSN(), pgserver.New(t), way)
}

// newFixtureOn is newFixture for a database of any server.
func newFixtureOn(t *testing.T, superDSN string, d *pgserver.Database, way way) *fixture {
	t.Helper()
	f := &fixture{Database: testdb.Of(t, d, &Note{}), way: way, injector: &injector{}}
	f.admin, f.super = testdb.OpenSQL(t, d.Admin.DSN), testdb.OpenSQL(t, superDSN)
	_, err := f.admin.Exec(`INSERT INTO notes (tenant_id, body) SELECT t, 'seed ' || n
		FROM unnest(ARRAY[$1, $2]) t, generate_series(1, $3) n`, acme, globex, seeds)
	require.NoError(t, err)

	var through string
	f.proxy, through = wire.Start(t, d.App.DSN, wire.WithInterceptor(f.injector.intercept))
	f.open(t, through)
	return f
}

// open opens the application's pool.
func (f *fixture) open(t *testing.T, dsn string) {
	t.Helper()
	var err error
	f.db, err = testdb.OpenGuarded(t, dsn, f.Config(), testdb.Breaks, testdb.Prepared(f.prepare),
		testdb.Postgres(func(c *postgres.Config) { c.PreferSimpleProtocol = f.simple }))
	require.NoError(t, err)
	f.pool, err = f.db.DB()
	require.NoError(t, err)
	f.inner, err = tenancy.UnguardedPool(f.db)
	require.NoError(t, err)
	f.inner.SetMaxOpenConns(1)
	require.NoError(t, f.db.WithContext(as(acme)).Find(&[]Note{}).Error, "the proof on first use")
}

var as = testdb.As

// mark is a body that nothing else has.
func (f *fixture) mark() string { return fmt.Sprintf("mark %d", f.marks.Add(1)) }

// gone waits until a backend has ended: what it did is done then, or never will be.
func (f *fixture) gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var gone bool
		err := f.super.QueryRow(`SELECT NOT EXISTS (SELECT FROM pg_stat_get_activity($1))`, pid).Scan(&gone)
		return err == nil && gone
	}, patience, time.Millisecond, "backend %d", pid)
}

// applied counts the notes with this mark, and deletes them. They must be the tenant's.
func (f *fixture) applied(t *testing.T, tenant, mark string) int {
	t.Helper()
	rows, err := f.admin.Query(`DELETE FROM notes WHERE body = $1 RETURNING tenant_id`, mark)
	require.NoError(t, err)
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var owner string
		require.NoError(t, rows.Scan(&owner))
		require.Equal(t, tenant, owner)
	}
	require.NoError(t, rows.Err())
	return n
}

// checkNotes requires that notes that were read are the tenant's own, and all of them if there was no error.
func checkNotes(t *testing.T, tenant string, notes []Note, err error) {
	t.Helper()
	for _, n := range notes {
		require.Equal(t, tenant, n.TenantID, "a row has crossed")
	}
	if err == nil {
		require.Len(t, notes, seeds, "rows are missing, and no error tells")
	}
}

// seen reads the seeds of a tenant, in the simple protocol, which leaves nothing prepared.
func (f *fixture) seen(ctx context.Context) (notes []Note, err error) {
	rows, err := f.pool.QueryContext(ctx, `SELECT id, tenant_id, body FROM notes WHERE body LIKE 'seed%'`,
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n Note
		if err := rows.Scan(&n.ID, &n.TenantID, &n.Body); err != nil {
			return notes, err
		}
		notes = append(notes, n)
	}
	return notes, rows.Err()
}

// recovered requires that the next statement, of another tenant, is right. If the pool cannot know yet that the connection is
// broken, that one may fail, and the one after it must be right.
func (f *fixture) recovered(t *testing.T, known bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(as(globex), patience)
	defer cancel()
	notes, err := f.seen(ctx)
	if err != nil && !known {
		requireReadable(t, err)
		checkNotes(t, globex, notes, err)
		notes, err = f.seen(ctx)
	}
	require.NoError(t, err, "the pool has not recovered")
	checkNotes(t, globex, notes, nil)
	require.Eventually(t, func() bool { return f.inner.Stats().InUse == 0 && f.pool.Stats().InUse == 0 },
		patience, time.Millisecond, "a connection is still in use")
}

// requireReadable requires an error that a program can read: PostgreSQL's, the network's or the context's.
func requireReadable(t *testing.T, err error) {
	t.Helper()
	var (
		pgErr  *pgconn.PgError
		netErr net.Error
	)
	switch {
	case errors.As(err, &pgErr), errors.As(err, &netErr):
		return
	}
	for _, known := range []error{
		io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, context.DeadlineExceeded, context.Canceled, sql.ErrConnDone, sql.ErrTxDone,
		pgconn.ErrConnClosed,
		pgx.ErrTxCommitRollback,
	} {
		if errors.Is(err, known) {
			return
		}
	}
	require.Fail(t, "an error that no program can read", "%v (%T)", err, err)
}

// settle judges a fault that hit an operation of acme: what must hold after any of them, and notes what it came to.
func (f *fixture) settle(t *testing.T, fault string, op operation, mark string, committed bool, err error) outcome {
	t.Helper()
	applied := f.applied(t, acme, mark)
	o := succeeded
	switch {
	case err == nil:
		require.Equal(t, op.writes, applied, "success, but not exactly what was asked for is there")
	case applied == 0:
		o = undone
	default:
		require.Equal(t, op.writes, applied, "half of a transaction, or a write applied twice")
		require.True(t, committed, "applied, though its commit never arrived")
		o = unknown
	}
	if err != nil {
		requireReadable(t, err)
	}
	book.note(fault, o)
	return o
}
