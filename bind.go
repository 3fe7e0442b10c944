package tenancy

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// DangerouslyBind returns a client whose statements and transactions run under the decision of ctx, WithTenant or WithoutTenant,
// if their own context carries none. Use it for a library that takes a *gorm.DB and runs its statements under
// context.Background(), such as an adapter of casbin or a session store. Code of your own needs no such client: pass it a
// context.
//
// It is dangerous because the tenant is no longer that of the request. Make one instance of the library for each tenant, give it
// the client, and look that instance up by the request's tenant. Never keep the client, or an instance that has it, where
// requests of several tenants share it, such as in a global variable: each request would read and write this tenant's rows.
//
// A statement or transaction whose context carries another decision, WithoutTenant included, is refused with ErrTenantMismatch.
// One whose context carries an id that cannot be used is refused with ErrNoTenant. Of ctx only the decision is kept, and not its
// deadline, its cancellation or its values.
//
// Everything else is as with db: raw SQL is guarded, policies decide which rows are seen, and PrepareStmt and dbresolver work.
// DB returns the pool of db, whose statements need a context of their own. The library must not close that pool.
//
// If ctx carries no usable decision, every statement of the result returns ErrNoTenant; without the plugin it returns
// ErrNotInstalled. A client of Bypass cannot be bound, nor a client that is bound to another decision. A transaction keeps its
// tenant: bound to another one, it refuses statements. Bypass of the result is Bypass of db.
func DangerouslyBind(ctx context.Context, db *gorm.DB) *gorm.DB {
	tx := db.Session(&gorm.Session{Context: db.Statement.Context})
	b, err := newBinding(ctx, db)
	if err != nil {
		return refuseAll(tx, db, "bind", err)
	}
	if prepared, ok := tx.Config.ConnPool.(*gorm.PreparedStmtTX); ok { // GORM puts a transaction there
		tx.Config.ConnPool = prepared.PreparedStmtDB
	}
	tx.Config.ConnPool = b.around(tx.Config.ConnPool)
	tx.Statement.ConnPool = b.around(tx.Statement.ConnPool)
	return tx
}

// errBoundBypass refuses a client of one tenant in a role that sees the rows of all tenants.
var errBoundBypass = errors.New("tenancy: a client of Bypass cannot be bound to a tenant: bind the client that it was made from")

func newBinding(ctx context.Context, db *gorm.DB) (*binding, error) {
	p, ok := db.Plugins["tenancy"].(*Plugin)
	if !ok {
		return nil, ErrNotInstalled
	}
	decision, err := guard.DecisionOf(ctx)
	if err != nil {
		return nil, err
	}
	switch c := unprepared(db.Config.ConnPool).(type) {
	case *bypassPool:
		return nil, errBoundBypass
	case refusedPool:
		return nil, c.err
	case *boundPool:
		if !c.decision.Equal(decision) {
			return nil, wrapf(ErrTenantMismatch, "the client is bound to another decision already: bind the client that it was made from")
		}
	}
	return &binding{decision: decision, refused: func(ctx context.Context, err error) error {
		return p.reportBegin(ctx, db.Logger, err)
	}}, nil
}

// binding is what makes a client a bound one.
type binding struct {
	decision guard.Decision
	refused  func(ctx context.Context, err error) error // reports a transaction that does not begin
}

// boundPool is the pool in the Config of a bound client. Outside a transaction its statements have it too, until the callbacks
// replace it by the guarded pool: GORM begins transactions without a callback, and a library may use the pool of a statement
// itself.
type boundPool struct {
	gorm.ConnPool // of the client below
	*binding
}

// around returns a pool that adds the decision to contexts without one. A transaction is returned as it is: it has a tenant, or
// gets one with its first statement.
func (b *binding) around(c gorm.ConnPool) gorm.ConnPool {
	if _, refused := c.(refusedPool); refused || gormtx.In(c) {
		return c
	}
	return &boundPool{ConnPool: unbound(c), binding: b}
}

// unbound returns the pool below that of a bound client, and any other pool as it is.
func unbound(c gorm.ConnPool) gorm.ConnPool {
	if b, ok := c.(*boundPool); ok {
		return b.ConnPool
	}
	return c
}

// enter gives a statement of a bound client the decision.
func (b *boundPool) enter(db *gorm.DB, op string) {
	ctx, err := b.decision.For(db.Statement.Context)
	if err != nil {
		if db.Error == nil {
			refuse(db, op, err)
		}
		return
	}
	db.Statement.Context = ctx
	db.Statement.ConnPool = unbound(db.Statement.ConnPool)
}

// BeginTx makes it a gorm.ConnPoolBeginner.
func (b *boundPool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	decided, err := b.decision.For(ctx)
	if err != nil {
		return nil, b.refused(ctx, err)
	}
	switch below := b.ConnPool.(type) {
	case gorm.ConnPoolBeginner:
		return below.BeginTx(decided, opts)
	case gorm.TxBeginner:
		tx, err := below.BeginTx(decided, opts)
		if err != nil {
			return nil, err // and not a nil *sql.Tx in an interface
		}
		return tx, nil
	default:
		return nil, gorm.ErrInvalidTransaction
	}
}

// GetDBConn makes it a gorm.GetDBConnector.
func (b *boundPool) GetDBConn() (*sql.DB, error) {
	switch below := b.ConnPool.(type) {
	case *sql.DB:
		return below, nil
	case gorm.GetDBConnector:
		return below.GetDBConn()
	default:
		return nil, gorm.ErrInvalidDB
	}
}

// PrepareContext returns a statement that is not bound: it runs under the context of each call.
func (b *boundPool) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	ctx, err := b.decision.For(ctx)
	if err != nil {
		return nil, err
	}
	return b.ConnPool.PrepareContext(ctx, query)
}

func (b *boundPool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, err := b.decision.For(ctx)
	if err != nil {
		return nil, err
	}
	return b.ConnPool.ExecContext(ctx, query, args...)
}

func (b *boundPool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, err := b.decision.For(ctx)
	if err != nil {
		return nil, err
	}
	return b.ConnPool.QueryContext(ctx, query, args...)
}

func (b *boundPool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	decided, err := b.decision.For(ctx)
	if err != nil {
		return refusedPool{err: err}.QueryRowContext(ctx, query)
	}
	return b.ConnPool.QueryRowContext(decided, query, args...)
}

var (
	_ gorm.ConnPoolBeginner = (*boundPool)(nil)
	_ gorm.GetDBConnector   = (*boundPool)(nil)
)
