package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/identity"
)

// Server is a PostgreSQL server on which tenants live: see Config.Servers. Its pools are of pgx's stdlib, and the plugin does not close them.
type Server struct {
	// Name is the server's name in errors and in logs. It must be set, and no other server may have it.
	Name string

	// DB is the pool that Config.Place returns for the server's tenants. It must be set.
	DB *sql.DB

	// AdminDB is for clients of Bypass on this server what Config.AdminDB is where there is one server: a pool with its own credentials, to the
	// same database, which is verified together with the roles. A read replica is taken, too. If it is nil, clients of Bypass take Config.AdminRole there; if it is set on other servers,
	// they are refused there with ErrNoAdminRole.
	AdminDB *sql.DB

	// Replicas are pools of read replicas (standbys) of the server's database. Statements that dbresolver sends to a replica, which must be one of
	// these, go to a replica of the server that the tenant lives on, always the same one for a tenant, or to DB if it has none. Each replica's
	// roles and tables are checked as those of DB are, and it must be in recovery, so that PostgreSQL refuses every write there.
	Replicas []*sql.DB
}

// known are the servers of Config.Servers by their pools.
type known struct {
	servers  map[*sql.DB]*Server // by DB
	replicas map[*sql.DB]*Server // by each of Replicas
}

func newKnown(servers []Server) known {
	k := known{map[*sql.DB]*Server{}, map[*sql.DB]*Server{}}
	for n := range servers {
		s := &servers[n]
		k.servers[s.DB] = s
		for _, r := range s.Replicas {
			k.replicas[r] = s
		}
	}
	return k
}

// check refuses a pool that is not in the list, if there is one: what visits all servers would pass it over.
func (k known) check(db *sql.DB) error {
	if len(k.servers) == 0 || k.servers[db] != nil || k.replicas[db] != nil {
		return nil
	}
	return errors.New("tenancy: Config.Servers does not have the server's pool: it must have all that Config.Place returns, the pool that GORM was opened with, " +
		"and the replicas of dbresolver, which are to be opened as pools and not from a DSN")
}

// replicaFor returns the pool at which a tenant reads: always the same one, so that time does not go backwards for it.
func (k known) replicaFor(db *sql.DB, tenant string) *sql.DB {
	s := k.servers[db]
	if s == nil || len(s.Replicas) == 0 {
		return db
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(tenant))
	return s.Replicas[h.Sum32()%uint32(len(s.Replicas))] //nolint:gosec // a handful
}

// hasAdminDB reports whether clients of Bypass have logins of their own.
func (c Config) hasAdminDB() bool {
	for _, s := range c.Servers {
		if s.AdminDB != nil {
			return true
		}
	}
	return c.AdminDB != nil
}

// validateServers checks the list of servers.
func (c Config) validateServers() error {
	switch {
	case len(c.Servers) > 0 && c.Place == nil:
		return errors.New("Servers: set Place as well, which says on which of them a tenant lives")
	case c.Place != nil && c.AdminDB != nil:
		return errors.New("Place and AdminDB: AdminDB is one server: set the AdminDB of each in Servers")
	}
	names, pools := map[string]bool{}, map[*sql.DB]bool{}
	for n, s := range c.Servers {
		switch {
		case s.Name == "" || names[s.Name]:
			return fmt.Errorf("Servers[%d]: the name %q must be set, and no other server may have it", n, s.Name)
		case s.DB == nil:
			return fmt.Errorf("Servers: %q has no DB", s.Name)
		case c.DangerouslyAllowUnsafeRole && (s.AdminDB != nil || len(s.Replicas) > 0):
			return fmt.Errorf("Servers: %q has an AdminDB or Replicas, which are verified together with the roles: unset DangerouslyAllowUnsafeRole", s.Name)
		}
		names[s.Name] = true
		all := append([]*sql.DB{s.DB}, s.Replicas...)
		if s.AdminDB != nil {
			all = append(all, s.AdminDB)
		}
		for _, db := range all {
			if db == nil || pools[db] {
				return fmt.Errorf("Servers: a pool of %q is nil, or is there twice: each needs one of its own", s.Name)
			}
			if _, guarded := guard.Of(db); guarded {
				return fmt.Errorf("Servers: a pool of %q is guarded: open it with pgx's stdlib", s.Name)
			}
			pools[db] = true
		}
	}
	return nil
}

// checkPools refuses an AdminDB and replicas that lead to another database than that of their server: rows of tenants would be written, or looked for,
// where these do not live.
func (p *Plugin) checkPools(ctx context.Context, s *server) error {
	var other *sql.DB
	of, replica := p.known.replicas[s.DB], true
	if of != nil {
		other = s.DB
	} else if of, replica = p.known.servers[s.DB], false; of != nil {
		other = of.AdminDB
	}
	if other == nil {
		return nil
	}
	want, _, err := identity.Of(ctx, of.DB)
	if err != nil {
		return err
	}
	is, standby, err := identity.Of(ctx, other)
	switch {
	case err != nil:
		return err
	case is != want && replica:
		return wrapf(ErrUnsafeDatabase, "a replica of the server %q in Config.Servers is not one of that server's database", of.Name)
	case is != want:
		return wrapf(ErrUnsafeDatabase, "AdminDB of the server %q in Config.Servers leads to another database than DB", of.Name)
	case replica && !standby:
		return wrapf(ErrUnsafeDatabase, "a replica of the server %q in Config.Servers is not in recovery, so that PostgreSQL would take writes there: name standbys only", of.Name)
	}
	return nil
}

// adminOf returns where clients of Bypass reach a server: through its AdminDB, or as the application with the role of the admin.
func (p *Plugin) adminOf(s *server) (*server, error) {
	switch {
	case s.admin != nil:
		return s.admin, nil
	case p.config.Place != nil && p.config.hasAdminDB():
		return nil, wrapf(ErrNoAdminRole, "the server has no AdminDB in Config.Servers, and others have: set it on each")
	}
	return s, nil
}

// ForEachServer calls fn once for each of Config.Servers, in their order, with its name and with db for the statements on that server, whose context
// has OnServer. db is a client of Bypass, for the rows of all tenants, or its context is that of WithoutTenant. Without Config.Place it
// calls fn once, with an empty name. An error does not keep it from visiting the other servers; it returns those of all, with the servers' names.
// When ctx ends, no further server is visited, and its cause is joined to them.
//
// The errors are ErrTenantMismatch if ctx has a tenant, which lives on one server, ErrInTransaction if db is in a transaction, and ErrNotInstalled
// without the plugin. With Config.Place, Config.Servers must be set.
func ForEachServer(ctx context.Context, db *gorm.DB, fn func(ctx context.Context, name string, db *gorm.DB) error) error {
	p, ok := db.Plugins["tenancy"].(*Plugin)
	tenant, _ := guard.Tenant(ctx)
	switch {
	case !ok:
		return ErrNotInstalled
	case gormtx.In(db.Statement.ConnPool):
		return wrapf(ErrInTransaction, "a transaction is on one server: call ForEachServer outside of it")
	case tenant != "":
		return wrapf(ErrTenantMismatch, "the context of ForEachServer has a tenant, who lives on one server: use WithoutTenant, or a client of Bypass without a tenant")
	case p.config.Place == nil:
		return fn(ctx, "", db.WithContext(ctx))
	case len(p.config.Servers) == 0:
		return errors.New("tenancy: ForEachServer needs Config.Servers, to know them all")
	}
	var errs []error
	for _, s := range p.config.Servers {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		on := OnServer(ctx, s.DB)
		if err := fn(on, s.Name, db.WithContext(on)); err != nil {
			errs = append(errs, fmt.Errorf("on the server %q: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}
