package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// With Config.Place tenants live on several servers. The guard asks place when a statement needs a connection, so that no statement gets
// around it: those of db.DB(), of transactions and of prepared statements included.

// server is one that statements of a pool go to, and what PostgreSQL has said there.
type server struct {
	guard.Server
	admin     *server // where clients of Bypass reach it, if it has an AdminDB
	proofs    proofs
	keys      keys
	safe      atomic.Bool // its roles are safe, or Config skips the question
	verifying atomic.Pointer[verification]
}

// verification is a question about the roles of a server that is under way.
type verification struct {
	done      chan struct{} // closed when err and cancelled are there
	err       error
	cancelled bool // the context of the statement that asks has ended
}

type serverKey struct{}

// OnServer returns a context whose statements under WithoutTenant, and of the clients of Bypass, go to this server: one of those that
// Config.Place returns, or the pool that GORM was opened with. ForEachServer visits all. Statements of a tenant are refused with ErrTenantMismatch if the tenant
// lives on another server. Without Config.Place, clients of Bypass refuse it, and it has no effect on statements under WithoutTenant.
func OnServer(ctx context.Context, server *sql.DB) context.Context {
	return context.WithValue(ctx, serverKey{}, server)
}

var (
	errElsewhere = wrapf(ErrTenantMismatch, "the context names a server on which the tenant does not live: leave out OnServer for statements of a tenant")
	errNoPlace   = errors.New("tenancy: OnServer needs Config.Place: without it there is one server")
	errWhichOne  = errors.New("tenancy: the rows of all tenants are on several servers: name one with OnServer, or a tenant with WithTenant, " +
		"in the context of the client of Bypass; ForEachServer visits all servers")
)

// place returns the function that the guard asks, or nil where all tenants live on one server.
func (p *Plugin) place(pool *pool) guard.Place {
	if p.config.Place == nil {
		return nil
	}
	return func(ctx context.Context, tenant string, bypass bool) (*guard.Server, error) {
		s, err := p.serverFor(ctx, pool, tenant, bypass)
		if err != nil {
			return nil, err
		}
		if err := p.verifyServer(ctx, pool, s); err != nil {
			return nil, err
		}
		if bypass {
			if s, err = p.adminOf(s); err != nil {
				return nil, err
			}
		}
		return &s.Server, nil
	}
}

// serverFor returns the server of a statement. Statements that are for no tenant go to the pool that GORM was opened with, and those that
// dbresolver sends to a replica to one of the tenant's server.
func (p *Plugin) serverFor(ctx context.Context, pool *pool, tenant string, bypass bool) (*server, error) {
	if p.config.Place == nil {
		return pool.home, nil
	}
	named, _ := ctx.Value(serverKey{}).(*sql.DB)
	if bypass {
		tenant, _ = guard.Tenant(ctx)
	}
	switch {
	case tenant == "" && named != nil:
		return p.serverOf(pool, named)
	case tenant == "" && bypass:
		return nil, errWhichOne
	case tenant == "":
		return pool.home, nil
	}
	db, err := p.callPlace(ctx, tenant)
	switch {
	case err != nil:
		return nil, fmt.Errorf("tenancy: the tenant's server cannot be used: %w", err)
	case db == nil:
		return nil, errors.New("tenancy: Config.Place returned neither a server nor an error")
	case named != nil && named != db:
		return nil, errElsewhere
	}
	if pool.reads {
		db = p.known.replicaFor(db, tenant)
	}
	return p.serverOf(pool, db)
}

// checkServer refuses a context that names a server where there is but one: the client would read that one in its place.
func (b *bypassPool) checkServer(ctx context.Context) error {
	if !b.below.placed && ctx.Value(serverKey{}) != nil {
		return errNoPlace
	}
	return nil
}

// callPlace makes an error of a panic, because callbacks ask as well.
func (p *Plugin) callPlace(ctx context.Context, tenant string) (db *sql.DB, err error) {
	returned := false
	defer func() {
		if !returned {
			db, err = nil, newPanicError("Config.Place", recover())
		}
	}()
	db, err = p.config.Place(ctx, tenant)
	returned = true
	return db, err
}

// serverOf returns the server with this pool, which is made when it is first seen.
func (p *Plugin) serverOf(pool *pool, db *sql.DB) (*server, error) {
	if db == pool.home.DB || db == pool.guarded {
		return pool.home, nil
	}
	if known, ok := pool.servers.Load(db); ok {
		return known.(*server), nil
	}
	if err := p.known.check(db); err != nil {
		return nil, err
	}
	known, _ := pool.servers.LoadOrStore(db, p.newServer(db))
	return known.(*server), nil
}

func (p *Plugin) newServer(db *sql.DB) *server {
	s := &server{Server: guard.Server{DB: db}}
	if p.config.Share > 0 {
		s.Share = guard.NewShare(db, p.config.Share)
	}
	if known := p.known.servers[db]; known != nil && known.AdminDB != nil {
		s.admin = &server{Server: guard.Server{DB: known.AdminDB}}
	}
	return s
}

// verifyServer has a server asked about its roles before its first statement, as Initialize asks the first one. Statements that begin
// meanwhile wait for the answer until their own contexts end. A no is not remembered.
func (p *Plugin) verifyServer(ctx context.Context, pool *pool, s *server) error {
	for !s.safe.Load() && s != pool.home {
		running := s.verifying.Load()
		if running == nil {
			mine := &verification{done: make(chan struct{})}
			if s.verifying.CompareAndSwap(nil, mine) {
				return p.verify(ctx, pool, s, mine)
			}
			continue
		}
		select {
		case <-running.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if running.err != nil && !running.cancelled {
			return running.err
		}
	}
	return nil
}

// verify asks the server, and tells those that wait.
func (p *Plugin) verify(ctx context.Context, pool *pool, s *server, mine *verification) (err error) {
	defer func() {
		mine.err, mine.cancelled = err, ctx.Err() != nil
		s.verifying.Store(nil)
		close(mine.done)
	}()
	if s.safe.Load() {
		return nil
	}
	if err := p.askServer(ctx, pool, s); err != nil {
		return err
	}
	s.safe.Store(true)
	return nil
}

// askServer refuses a pool that cannot be guarded, and a server whose roles are not safe.
func (p *Plugin) askServer(ctx context.Context, pool *pool, s *server) error {
	if _, guarded := guard.Of(s.DB); guarded {
		return errors.New("tenancy: Config.Place returned a guarded pool: open it with pgx's stdlib")
	}
	if err := guard.Supported(ctx, s.DB); err != nil {
		return err
	}
	if p.config.DangerouslyAllowUnsafeRole {
		return nil
	}
	ctx = guard.OnServer(guard.InTenantRole(ctx), &s.Server)
	if err := p.askAll(ctx, pool, s, pool.guarded); err != nil {
		return fmt.Errorf("on another server: %w", err)
	}
	return nil
}

// serverOfStatement returns the server whose answers about tables count for a statement. The guard decides where the statement goes: if that
// is another server, because the tenant was moved meanwhile, it asks there.
func (p *Plugin) serverOfStatement(s *statement, pool *pool) (*server, error) {
	if p.config.Place == nil {
		return pool.home, nil
	}
	tenant, _ := guard.Tenant(s.Context)
	on, err := p.serverFor(s.Context, pool, tenant, s.bypass != nil)
	if err != nil || s.bypass == nil {
		return on, err
	}
	return p.adminOf(on)
}
