package tenancy

import (
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/rls"
)

// Engine is what stands behind the connection: see rls.Engine. The zero value is PostgreSQL.
type Engine = rls.Engine

const (
	// PostgreSQL is a server that holds the rows itself.
	PostgreSQL = rls.PostgreSQL
	// Citus is the coordinator of a cluster of Citus, which distributes the rows by the tenant column over workers. Each statement is
	// sent in a transaction block, in one round trip, with the tenant set in the way that Citus passes on to its workers. See docs/scale.md.
	Citus = rls.Citus
)

// validateEngine refuses what cannot be had with the engine.
func (c Config) validateEngine() error {
	switch {
	case c.Engine == PostgreSQL:
		return nil
	case c.Engine != Citus:
		return fmt.Errorf("Engine %d: must be PostgreSQL or Citus", c.Engine)
	case c.SigningKeys != nil:
		return errors.New("Engine Citus and SigningKeys: set one of them, because a proof is for one session of PostgreSQL, and each worker has its own")
	case c.DangerouslyObserve != nil:
		return errors.New("Engine Citus and DangerouslyObserve: set one of them, because what is observed has no tenant condition, which Citus needs")
	case c.OmitTenantCondition:
		return errors.New("Engine Citus and OmitTenantCondition: set one of them, because Citus finds the shard of a statement by the tenant condition")
	case c.LookupRole != "":
		return errors.New("Engine Citus and LookupRole: set one of them, because a transaction that begins with a lookup would change its role " +
			"on workers, which are connected to as one role")
	case c.Place != nil:
		return errors.New("Engine Citus and Place: set one of them, because Citus places tenants itself")
	}
	return nil
}

// checkEngine refuses a database of another engine than Config says.
func (p *Plugin) checkEngine(citus bool) error {
	switch {
	case citus && p.config.Engine != Citus:
		return wrapf(ErrUnsafeDatabase, "the database has the extension citus, and the tenant's setting does not reach the workers: "+
			"set Engine to tenancy.Citus")
	case !citus && p.config.Engine == Citus:
		return wrapf(ErrUnsafeDatabase, "Engine is tenancy.Citus, and the database does not have the extension citus: leave Engine unset")
	}
	return nil
}

// writeSet leaves the tenant column out of what an update sets, where Citus distributes rows by it: its value is the same before and after, but
// Citus refuses to set it at all. If nothing else is set it is set to itself, which Citus takes. Of a tenant's statement the callbacks have
// checked the value. One of the admin client must be bound to rows of that tenant; from any other Citus gets the column, and refuses it.
func (p *Plugin) writeSet(stmt *gorm.Statement, c clause.Clause) clause.Clause {
	c = p.bindIn(stmt, c)
	if p.config.Engine != Citus {
		return c
	}
	bound, isBound := stmt.Settings.LoadAndDelete(boundKey)
	set, ok := c.Expression.(clause.Set)
	if !ok || !isBound && p.conditionTenant(stmt) == "" {
		return c
	}
	column := p.conditionColumn(stmt)
	if column.name == "" {
		return c
	}
	names := func(a clause.Assignment) bool {
		return column.is(a.Column.Name) && (!isBound || reflect.DeepEqual(a.Value, bound))
	}
	rest := withoutTenant(set, names)
	if len(rest) == 1 && names(rest[0]) {
		rest = clause.Set{{Column: rest[0].Column, Value: clause.Column{Name: column.name}}}
	}
	c.Expression = rest
	return c
}
