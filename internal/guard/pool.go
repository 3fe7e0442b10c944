package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gormtenancy/tenancy/internal/signing"
)

// Config says what the connections of a guarded pool set for every statement.
type Config struct {
	// Setting is the PostgreSQL setting that the policies read, such as "app.tenant_id".
	Setting string
	// Role is the role that every statement runs under. Empty means the login's own role.
	Role string
	// LookupRole is the role that statements under WithoutTenant run under. Empty means Role.
	LookupRole string
	// Signer, if not nil, makes the proofs that statements carry. Policies must ask for them.
	Signer *signing.Signer
	// CleanAlways cleans the session after each statement. If false, it is cleaned after SQL that GORM did not build, and after
	// calls of functions that may change the session.
	CleanAlways bool
	// KeepSettings are custom settings that the application's connect hook sets. PostgreSQL's own settings are kept without
	// being named.
	KeepSettings []string
	// Place, if not nil, returns the server that a statement goes to. It needs a pool that borrows.
	Place Place
	// Share, if not nil, bounds how many connections a tenant may use at a time. It needs a pool that borrows.
	Share *Share
	// Citus says that the server is a coordinator of Citus: see citus.go. LookupRole, Signer and Observe cannot be used with it.
	Citus bool
	// Settings, if not nil, returns settings of PostgreSQL that a tenant's statements run with.
	Settings func(ctx context.Context, tenant string) map[string]string
	// Bypass makes a pool whose statements see every tenant's rows: the setting is cleared, and the context must have a Bypass
	// (WithBypass) instead of a tenant.
	Bypass bool
	// Report, if not nil, is called before each statement of a bypass pool, and after it.
	Report func(ctx context.Context, e Event)
	// Observe, if not nil, lets statements pass that would be refused with ErrNoTenant because their context says nothing: with no
	// tenant, in the login's own role. It is called with each of them before it is sent, and with its origin, or nil.
	Observe func(ctx context.Context, o *Origin)
	// OnBegin, if not nil, is called for each transaction that is refused.
	OnBegin *BeginHook
	// NewPanicError, if not nil, makes the error for a panic in code of the application, on the goroutine that panicked. In says
	// which code it was, and value is what was given to panic.
	NewPanicError func(in string, value any) error
}

// Borrow returns a guarded pool that borrows a connection from inner for each statement or transaction, so that
// inner's limits, lifetimes and statistics stay in effect. A limit that is set on one of the two pools is set on the other with
// the next use of a connection. inner must be a pool of pgx's stdlib. Closing the guarded pool leaves inner open.
func Borrow(inner *sql.DB, cfg Config) *sql.DB {
	k := newConnector(cfg, inner, nil)
	db := sql.OpenDB(k)
	k.shared.Store(shareLimits(db, inner, cfg.Share != nil || cfg.Place != nil))
	return db
}

// Open returns a guarded pool whose connections direct makes, a connector of pgx's stdlib.
func Open(direct driver.Connector, cfg Config) *sql.DB {
	return sql.OpenDB(newConnector(cfg, nil, direct))
}

// Sibling returns another guarded pool, which borrows its connections from the same pool as the guarded pool db, or from db
// itself if db owns them. It has no limits of its own: preparing and beginning wait for no connection.
func Sibling(db *sql.DB, cfg Config) *sql.DB {
	k := newConnector(cfg, Inner(db), nil)
	k.shared.Store(connectorOf(db).shared.Load())
	beside := sql.OpenDB(k)
	beside.SetMaxIdleConns(maxEmpty)
	return beside
}

// maxEmpty is how many connections a pool that borrows keeps idle. They hold no connection of PostgreSQL's, and cost less to keep than
// to make for each use.
const maxEmpty = 64

// OnClose registers f to be called when the guarded pool db has been closed. (*sql.DB).Close returns its error.
func OnClose(db *sql.DB, f func() error) {
	k := connectorOf(db)
	k.closing.Lock()
	defer k.closing.Unlock()
	k.onClose = append(k.onClose, f)
}

// Of returns the configuration of the guarded pool db, and reports whether it is one.
func Of(db *sql.DB) (Config, bool) {
	if k := connectorOf(db); k != nil {
		return k.cfg, true
	}
	return Config{}, false
}

// connectorOf returns nil for a pool that is not guarded.
func connectorOf(db *sql.DB) *connector {
	d, _ := db.Driver().(guarded)
	return d.connector
}

// Inner returns the pool that the guarded pool db borrows its connections from, and db itself if it does not borrow.
func Inner(db *sql.DB) *sql.DB {
	if k := connectorOf(db); k != nil && k.inner != nil {
		return k.inner
	}
	return db
}

// Supported returns nil if db can be guarded, and an error that says why not otherwise. It opens a connection only if another
// driver wraps that of the pool.
func Supported(ctx context.Context, db *sql.DB) error {
	if _, ok := db.Driver().(*stdlib.Driver); ok {
		return nil
	}
	k := newConnector(Config{}, db, nil)
	c := &conn{pool: k, cfg: &k.cfg}
	if err := c.borrow(ctx, scope{}); err != nil {
		return err
	}
	err := c.use(func(*pgx.Conn) error { return nil })
	return errors.Join(err, c.Close())
}

// connector makes guarded connections: from direct, or by borrowing from inner.
type connector struct {
	cfg    Config
	inner  *sql.DB
	home   *Server // inner, where statements go without Config.Place
	direct driver.Connector
	shared atomic.Pointer[sharedLimits] // with inner; of the first pool that borrows from it; may be nil

	scopeSQL    scopeSQL
	lookupSQL   scopeSQL               // with LookupRole in place of Role
	observedSQL scopeSQL               // with the login's own role
	holdSQL     string                 // see holdSteps
	baselineSQL string                 // reads the settings of a new session
	searchPath  atomic.Pointer[string] // of the first connection; all others should begin with the same

	closing sync.Mutex
	onClose []func() error
}

func newConnector(cfg Config, inner *sql.DB, direct driver.Connector) *connector {
	return &connector{
		cfg: cfg, inner: inner, home: &Server{inner, cfg.Share}, direct: direct, baselineSQL: cfg.baselineSQL(), holdSQL: cfg.holdSQL(),
		scopeSQL: newScopeSQL(cfg, cfg.Role), lookupSQL: newScopeSQL(cfg, cfg.LookupRole), observedSQL: newScopeSQL(cfg, ""),
	}
}

// guarded is the driver by which a guarded pool is recognised.
type guarded struct{ *connector }

func (guarded) Open(string) (driver.Conn, error) {
	return nil, errors.New("tenancy: a guarded pool cannot be opened by name: use tenancy.OpenDB")
}

func (k *connector) Driver() driver.Driver { return guarded{k} }

// Close is called by (*sql.DB).Close.
func (k *connector) Close() error {
	var err error
	if closer, ok := k.direct.(io.Closer); ok {
		err = closer.Close()
	}
	k.closing.Lock()
	onClose := k.onClose
	k.closing.Unlock()
	for _, f := range onClose {
		err = errors.Join(err, f())
	}
	return err
}

func (k *connector) Connect(ctx context.Context) (driver.Conn, error) {
	if k.direct == nil {
		k.shared.Load().equalize()
		return &conn{pool: k, cfg: &k.cfg}, nil
	}
	dc, err := k.direct.Connect(ctx)
	if err != nil {
		return nil, err
	}
	owned, err := unwrap(dc)
	if err != nil {
		return nil, errors.Join(err, dc.Close())
	}
	return &conn{pool: k, cfg: &k.cfg, owned: owned, made: dc, state: stateOf(owned.Conn())}, nil
}

// unwrap finds pgx's connection below drivers that wrap it, such as those for tracing, and below a guarded connection that owns
// it.
func unwrap(dc any) (*stdlib.Conn, error) {
	for {
		switch c := dc.(type) {
		case *stdlib.Conn:
			return c, nil
		case *conn:
			if c.owned == nil {
				return nil, errors.New("tenancy: a guarded pool that borrows its connections cannot be guarded again: pass the pool below it")
			}
			return c.owned, nil
		case interface{ Raw() driver.Conn }:
			dc = c.Raw()
		default:
			return nil, fmt.Errorf("tenancy: the pool's connections are %T: open it with github.com/jackc/pgx/v5/stdlib", dc)
		}
	}
}
