package guard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/internal/tenantlock"
)

// With Config.Place tenants live on several servers. A guarded connection is empty until its first statement, which knows its tenant, and
// borrows from the pool of that tenant's server. A transaction stays on the server on which it began, and if its tenant is moved it ends.

// Server is one that statements may go to: the pool that connections are borrowed from.
type Server struct {
	DB    *sql.DB
	Share *Share // bounds what a tenant uses of DB; may be nil
}

// Place returns the server for a statement of a tenant; of no tenant, if the id is empty; or of the bypass client.
type Place func(ctx context.Context, tenant string, bypass bool) (*Server, error)

var errOtherServer = wrap(ErrTenantMismatch, errors.New("the transaction has begun on another server than that of the context's tenant: "+
	"begin a transaction for each tenant"))

var errMoved = errors.New("tenancy: the tenant was moved to another server before the statement was sent: try again, a transaction from its beginning")

type serverKey struct{}

// OnServer returns a context whose statements go to this server, without Config.Place being asked.
func OnServer(ctx context.Context, s *Server) context.Context {
	return context.WithValue(ctx, serverKey{}, s)
}

// serverFor returns the server for a statement. It is asked for statements of a transaction that has begun as well: a tenant that is locked out, or
// was moved since, writes nothing more where it was.
func (c *conn) serverFor(ctx context.Context, s scope) (*Server, error) {
	if c.cfg.Place == nil {
		return c.pool.home, nil
	}
	if named, _ := ctx.Value(serverKey{}).(*Server); named != nil {
		return named, nil
	}
	server, err := c.cfg.Place(ctx, s.tenant, s.bypass != nil)
	if err != nil {
		return nil, err
	}
	if server == nil || server.DB == nil {
		return nil, errors.New("tenancy: Config.Place returned no pool")
	}
	return server, nil
}

// inTransaction reports whether the server has a transaction.
func (c *conn) inTransaction() bool { return c.tx != nil && (c.tx.begun || c.tx.failed || c.tx.ended) }

// isAbout reports whether a proof was given on the server of the connection, and not on another one.
func (c *conn) isAbout(proof *Proof) bool { return c.cfg.Place == nil || proof.Server == c.server }

// borrow takes a connection for a statement from the pool of its server, unless the guarded one has a connection there already.
func (c *conn) borrow(ctx context.Context, s scope) error {
	if c.owned != nil || c.borrowed != nil && c.cfg.Place == nil {
		return nil
	}
	server, err := c.serverFor(ctx, s)
	switch {
	case err != nil:
		return err
	case c.borrowed != nil && c.server == server:
		c.lentTo = s.tenant
		return nil
	case c.borrowed != nil && c.inTransaction() && s.tenant != "" && c.lentTo == s.tenant:
		return errMoved
	case c.borrowed != nil && c.inTransaction():
		return errOtherServer
	}
	if err := c.release(); err != nil { // of another server: a *sql.Conn serves several tenants
		return fmt.Errorf("tenancy: leave a server: %w", err)
	}
	c.pool.shared.Load().equalize()
	if server.Share != nil {
		if err := server.Share.acquire(ctx, s.tenant); err != nil {
			return err
		}
	}
	c.server, c.lentTo, c.shareOf = server, s.tenant, s.tenant
	if c.borrowed, err = server.DB.Conn(ctx); err != nil {
		c.leaveServer()
		return err
	}
	return nil
}

// stillHere asks again, right before a statement is written to the connection: what came in between may have taken long, and the tenant may have
// been locked out or moved meanwhile. It was the wait for the connection, a round trip that described the statement and waited for a lock, code
// of the application such as Settings and Valuers, or an attempt that PostgreSQL has refused.
func (c *conn) stillHere(ctx context.Context, s scope) error {
	if c.cfg.Place == nil {
		return nil
	}
	server, err := c.serverFor(ctx, s)
	if err == nil && server != c.server {
		err = errMoved
	}
	return err
}

// leaveServer lets another statement have the connection that was borrowed.
func (c *conn) leaveServer() {
	if c.server.Share != nil {
		c.server.Share.release(c.shareOf)
	}
	c.server = nil
}

// holdSQL takes the lock of the tenant, if it can be had without waiting: a tenant whose SQL holds another's must not stop that.
func (cfg Config) holdSQL() string {
	return `SELECT pg_catalog.pg_try_advisory_xact_lock_shared(` + tenantlock.Key(`pg_catalog.current_setting(`+sqltext.Literal(cfg.Setting)+`)`) + `)`
}

// holdSteps lets a transaction hold the lock of its tenant where its SQL may write late: in functions, whose tables PostgreSQL does not lock before
// they run, and in the function of WithPgxConn. A move waits for those who hold it. Statements that write to tables themselves are found by
// the locks of these.
func (c *conn) holdSteps(q *call, into []step) []step {
	if c.cfg.Place == nil || q.scope.tenant == "" || !q.lends && (q.plain || q.class == control) {
		return into
	}
	return append(into, step{kind: stepHold, sql: c.pool.holdSQL})
}
