package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// Bypass returns a *gorm.DB whose statements see and write the rows of every tenant, in the role Config.AdminRole or through
// Config.AdminDB: the admin client. Only this client bypasses: nothing in a context makes another one bypass. Get it where it is
// needed, and do not pass it on.
//
// The reason must not be empty. It is reported to Config.OnBypass and Config.Logger before each statement is sent, and again
// when its outcome is known.
//
// All of GORM works with it. Rows that name no tenant are created for the tenant of the context, or refused with ErrNoTenant if
// there is none. GORM's prepared statements are not used, because tenants' clients share them.
//
// If there can be no admin client, every statement of the result returns the error: ErrNoAdminRole without AdminRole and AdminDB
// (BypassReadOnly can do with ReadOnlyRole), ErrNotInstalled without the plugin, ErrInTransaction if db is in a transaction of a
// tenant. In a transaction of the admin client itself, the result is that transaction with another reason, and stays read-only
// if it was.
func Bypass(db *gorm.DB, reason string, opts ...BypassOption) *gorm.DB {
	tx := db.Session(&gorm.Session{Context: db.Statement.Context})
	tx.Config.PrepareStmt = false
	pool, err := newBypass(db, reason, opts)
	if err != nil {
		return refuseAll(tx, db, "bypass", err)
	}
	tx.Config.ConnPool = pool
	if gormtx.In(tx.Statement.ConnPool) {
		tx.Statement.ConnPool = unprepared(tx.Statement.ConnPool)
	} else {
		tx.Statement.ConnPool = pool
	}
	return tx
}

// BypassOption restricts what a client of Bypass may do.
type BypassOption func(*bypassPool)

// BypassReadOnly makes PostgreSQL refuse every write of the client, whatever SQL it sends. Each transaction is made read-only
// before the client's SQL runs in it. The plugin refuses what could end that transaction: SQL text with several statements, CALL
// and DO. It refuses SET TRANSACTION too; pass an isolation level to Begin instead.
//
// PostgreSQL does not count every change as a write, such as one to a temporary table. Before PostgreSQL 16 a function of the
// database could run RESET transaction_read_only. So the client takes Config.ReadOnlyRole, if there is one, which has no right
// to write.
//
// In a transaction that may write, the client's statements are refused, because PostgreSQL would make all of it read-only.
func BypassReadOnly() BypassOption {
	return func(b *bypassPool) { b.readOnly = true }
}

// bypassPool is the pool in the Config of an admin client, which is recognised by it.
type bypassPool struct {
	*sql.DB  // guarded, for the admin role or the read-only role
	below    *pool
	reason   string
	readOnly bool
}

func newBypass(db *gorm.DB, reason string, opts []BypassOption) (*bypassPool, error) {
	p, ok := db.Plugins["tenancy"].(*Plugin)
	if !ok {
		return nil, ErrNotInstalled
	}
	if strings.TrimSpace(reason) == "" {
		return nil, errors.New("tenancy: the reason of Bypass is empty: say why the client may see the rows of every tenant")
	}
	b := &bypassPool{reason: reason}
	outer := bypassOf(db.Config.ConnPool)
	if outer != nil {
		b.below, b.readOnly = outer.below, outer.readOnly
	} else {
		if gormtx.In(db.Statement.ConnPool) {
			return nil, wrapf(ErrInTransaction, "a tenant's transaction cannot bypass: call Bypass outside of it, and begin a transaction with the result")
		}
		var err error
		if b.below, err = p.poolBelow(db); err != nil {
			return nil, err
		}
	}
	for _, opt := range opts {
		opt(b)
	}
	if outer != nil && gormtx.In(db.Statement.ConnPool) {
		b.DB = outer.DB // a transaction keeps its role; the guard refuses to make it read-only
		return b, nil
	}
	var err error
	b.DB, err = b.below.adminPool(b.readOnly)
	return b, err
}

// poolBelow returns the guarded pool in the Config of db, not one that dbresolver chose for a statement.
func (p *Plugin) poolBelow(db *gorm.DB) (*pool, error) {
	switch c := unprepared(unbound(unprepared(db.Config.ConnPool))).(type) {
	case *sql.DB:
		return p.pool(db.Statement.Context, c, nil, false)
	case refusedPool:
		return nil, c.err
	default:
		return nil, ErrNotInstalled
	}
}

// openAdmin makes the guarded pool of the admin clients of below, in this role. It runs once for each pool and role.
func (p *Plugin) openAdmin(below *pool, role string) (*sql.DB, error) {
	cfg := p.guardConfig()
	cfg.Role, cfg.Bypass, cfg.Report, cfg.Signer = role, true, p.report, nil // the policies of a bypass ask for no tenant
	cfg.Place, cfg.Share = p.place(below), nil
	switch {
	case p.config.AdminDB != nil:
		return guard.Borrow(p.config.AdminDB, cfg), nil
	case p.config.hasAdminDB(): // of servers: place names it
		return guard.Sibling(below.guarded, cfg), nil
	case role == "" && p.config.Place != nil:
		return nil, wrapf(ErrNoAdminRole, "Bypass has no role to take: set the AdminDB of each server in Config.Servers, or Config.AdminRole, which SigningKeys exclude")
	case role == "":
		return nil, wrapf(ErrNoAdminRole, "Bypass has no role to take: set Config.AdminRole or Config.AdminDB, or Config.ReadOnlyRole for BypassReadOnly")
	default:
		return guard.Sibling(below.guarded, cfg), nil
	}
}

// bypassOf returns the pool of an admin client, and nil for any other.
func bypassOf(c gorm.ConnPool) *bypassPool {
	b, _ := unprepared(c).(*bypassPool)
	return b
}

// markBypass marks the context of a statement of an admin client, whose pool refuses all others, and gives a statement of a
// bound client its decision. It comes before the callbacks of plugins for tracing, which expect to find at the end, on top, the
// context that they have set.
func markBypass(db *gorm.DB, op string) {
	var b *bypassPool
	switch c := unprepared(db.Config.ConnPool).(type) {
	case *bypassPool:
		b = c
		if err := b.checkServer(db.Statement.Context); err != nil && db.Error == nil {
			refuse(db, op, err)
			return
		}
	case *boundPool:
		c.enter(db, op)
		_ = originOf(db.Statement)
		return
	default:
		_ = originOf(db.Statement)
		return
	}
	m := marked{b, db.Statement.Table}
	if db.Statement.Context.Value(markedKey{}) != m { // the context would grow with each use of the same statement
		db.Statement.Context = context.WithValue(b.markBypass(db.Statement.Context, m.table), markedKey{}, m)
	}
}

// marked says that markBypass has marked a context.
type marked struct {
	by    *bypassPool
	table string
}

type markedKey struct{}

func (b *bypassPool) markBypass(ctx context.Context, table string) context.Context {
	return guard.WithBypass(ctx, guard.Bypass{Reason: b.reason, Table: table, ReadOnly: b.readOnly})
}

// take gives a statement of the admin client the pool of that client: dbresolver may have chosen another pool, and GORM's
// prepared statements are those of tenants' clients.
func (b *bypassPool) take(stmt *gorm.Statement) error {
	switch c := unprepared(stmt.ConnPool).(type) {
	case *sql.Tx, *sql.Conn:
		if source(c) != b.DB {
			return wrapf(ErrTenantMismatch, "the client of Bypass cannot use the transaction of another client: begin one with the client of Bypass")
		}
		stmt.ConnPool = c
	default:
		stmt.ConnPool = b
	}
	return nil
}

// BeginTx makes it a gorm.ConnPoolBeginner: GORM begins transactions without a callback.
func (b *bypassPool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	if err := b.checkServer(ctx); err != nil {
		return nil, err
	}
	tx, err := b.DB.BeginTx(b.markBypass(ctx, ""), opts)
	if err != nil {
		return nil, err // and not a nil *sql.Tx in an interface
	}
	return tx, nil
}

// GetDBConn makes it a gorm.GetDBConnector. Statements that are sent through the result itself have no reason, and are refused.
func (b *bypassPool) GetDBConn() (*sql.DB, error) { return b.DB, nil }

var (
	_ gorm.ConnPoolBeginner = (*bypassPool)(nil)
	_ gorm.GetDBConnector   = (*bypassPool)(nil)
)
