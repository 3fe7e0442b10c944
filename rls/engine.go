package rls

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// Engine is what stands behind the connection. The zero value is PostgreSQL.
type Engine uint8

const (
	// PostgreSQL is a server that holds the rows itself.
	PostgreSQL Engine = iota
	// Citus is the coordinator of a cluster of Citus, which distributes the rows by the tenant column over workers.
	Citus
)

// String returns the name of the engine.
func (e Engine) String() string {
	switch e {
	case PostgreSQL:
		return "PostgreSQL"
	case Citus:
		return "Citus"
	}
	return fmt.Sprintf("Engine(%d)", uint8(e))
}

// validateEngine refuses what cannot be had with the engine.
func (i Isolation) validateEngine() error {
	switch {
	case i.Engine == PostgreSQL:
		return nil
	case i.Engine != Citus:
		return fmt.Errorf("tenancy: Engine %d: must be PostgreSQL or Citus", i.Engine)
	case !i.TenantKeys:
		return errors.New("tenancy: Engine Citus needs TenantKeys, because Citus takes no unique key without the column it distributes by")
	case i.Signed:
		return errors.New("tenancy: Engine Citus and Signed: set one of them, because policies of Citus take no sub-select, which verifies a proof once")
	case len(i.Audits) > 0:
		return errors.New("tenancy: Engine Citus and Audits: set one of them, because Citus has no triggers on distributed tables")
	case i.LookupRole != "":
		return errors.New("tenancy: Engine Citus and LookupRole: set one of them, as in tenancy.Config")
	case i.Stage != StageEnforce:
		return errors.New("tenancy: Engine Citus and Stage: tables are distributed when they are isolated, so that there are no stages")
	}
	return nil
}

// checkEngine refuses a database of another engine: policies with sub-selects cannot be made on distributed tables, and without Citus nothing
// distributes tables.
func (m migration) checkEngine(ctx context.Context, conn gorm.ConnPool) error {
	var citus bool
	const query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')"
	switch err := conn.QueryRowContext(ctx, query).Scan(&citus); {
	case err != nil:
		return err
	case citus && !m.Distributes:
		return errors.New("the database has the extension citus: set Engine to rls.Citus")
	case !citus && m.Distributes:
		return errors.New("Engine is rls.Citus, and the database does not have the extension citus: leave Engine unset, or run CREATE EXTENSION citus")
	}
	return nil
}
