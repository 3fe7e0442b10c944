package guard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// With Config.Place tenants live on several servers. A guarded connection is empty until its first statement, which knows its tenant, and
// borrows from the pool of that tenant's server. A transaction stays on the server on which it began.

// Server is one that statements may go to: the pool that connections are borrowed from.
type Server struct {
	DB    *sql.DB
	Share *Share // bounds what a tenant uses of DB; may be nil
}

// Place returns the server for a statement of a tenant; of no tenant, if the id is empty; or of the bypass client.
type Place func(ctx context.Context, tenant string, bypass bool) (*Server, error)

var errOtherServer = wrap(ErrTenantMismatch, errors.New("the transaction has begun on another server than that of the context's tenant: "+
	"begin a transaction for each tenant"))

var errMoved = errors.New("tenancy: the tenant was moved to another server while the statement waited for a connection: try again")

type serverKey struct{}

// OnServer returns a context whose statements go to this server, without Config.Place being asked.
func OnServer(ctx context.Context, s *Server) context.Context {
	return context.WithValue(ctx, serverKey{}, s)
}

// serverFor returns the server for a statement. A transaction that has begun stays where it is, also when its tenant is placed elsewhere by
// now. But it is asked about, so that an error refuses its statements, too: a tenant that is locked out writes nothing more.
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
	if s.tenant != "" && c.inTransaction() && c.borrowed != nil && c.lentTo == s.tenant {
		return c.server, nil
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
	if c.cfg.Place == nil {
		return nil
	}
	// The wait for the connection may have been long, and the tenant may have been locked out or moved in the meantime.
	again, err := c.serverFor(ctx, s)
	if err == nil && again != server {
		err = errMoved
	}
	if err != nil {
		return errors.Join(err, c.release())
	}
	return nil
}

// leaveServer lets another statement have the connection that was borrowed.
func (c *conn) leaveServer() {
	if c.server.Share != nil {
		c.server.Share.release(c.shareOf)
	}
	c.server = nil
}
