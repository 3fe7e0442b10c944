package rls

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Stage is how far Migrate goes when the older version of an application, which knows no tenants, goes on while a new one takes over.
// Each stage can follow each other: Migrate adds what the stage has, and takes away what it has not.
//
// Before StageEnforce, Migrate makes no tables and calls neither AutoMigrate nor Backfill: Fills say which tenant rows belong to, those
// that are there and, by a trigger, those that the older version writes. What the models want to be unique is so within each tenant and
// among all of them, so that both versions find what their ON CONFLICT names. Foreign keys stay as they are.
type Stage int

const (
	// StageEnforce isolates, as Migrate does: the older version is refused from here on.
	StageEnforce Stage = iota

	// StageObserve adds the tenant column with its default, a trigger and indexes, and gives rows their tenants. There are no policies.
	// The new version finds its statements without a tenant by tenancy.Config.DangerouslyObserve.
	StageObserve

	// StageShadow adds the policies. They bind the new version, and neither the owner of the tables nor OldRole. It is an error if the
	// older version would write rows without a tenant, which the new one would not see: a tenant table must be in Fills or refer to
	// another one. AppRole must not inherit from OldRole, and a login that is OldRole can see all rows, also by RESET ROLE: finish the
	// rollout soon. Check reports the tables that are not forced.
	StageShadow
)

var rollouts = map[Stage]plan.Rollout{StageEnforce: plan.Enforced, StageObserve: plan.Observed, StageShadow: plan.Shadowed}

// checkShadow refuses tables with rows that the new version would not see, and tables to which the older version would add some.
func (m migration) checkShadow(ctx context.Context, tx *gorm.DB) error {
	if m.Rollout != plan.Shadowed {
		return nil
	}
	conn := tx.Statement.ConnPool
	tables, err := m.Foresee(ctx, conn, m.set.Migrator(tx), m.set)
	if err != nil {
		return err
	}
	if t, found := m.Unknown(tables); found {
		return fmt.Errorf("%s: rows that the older version writes would have no tenant, and the new one would not see them: "+
			"name their tenant in Fills", t)
	}
	for _, t := range tables {
		if !m.IsRolledOut(t) {
			continue
		}
		query := fmt.Sprintf("SELECT * FROM %s WHERE %s IS NULL", t.Quoted(), sqltext.Ident(m.Column))
		var found bool
		if err := conn.QueryRowContext(ctx, "SELECT EXISTS ("+query+")").Scan(&found); err != nil {
			return err
		}
		if found {
			return fmt.Errorf("%s: rows without a tenant would be hidden from the new version: correct or delete what this query finds, "+
				"and migrate again: %s", t, query)
		}
	}
	return nil
}
