package placement

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// BackOut ends a move that has not switched, and lets a tenant in that is locked out: it works on where it did. Then it erases the copy at the
// target. After an error the next call goes on.
func (m Mover) BackOut(ctx context.Context, tenant string) (lifecycle.Report, error) {
	var report lifecycle.Report
	m, row, err := m.leftover(ctx, tenant, "no move is under way", "the target of the move", Copying, Moving)
	if err != nil {
		return report, err
	}
	// A run that is still at work cannot lock the tenant out again, or switch: its token is gone.
	if _, err := m.update(ctx, `state = 'copying', run = '' WHERE tenant = $1 AND state IN ('copying', 'moving')`, tenant); err != nil {
		return report, err
	}
	report, err = m.tenants(row.Other).EraseCopy(ctx, tenant, lifecycle.CopyErasure{Confirm: func(ctx context.Context) error {
		now, err := m.read(ctx, tenant)
		if err == nil && (now.State != Copying || now.Run != "" || now.Other != row.Other) {
			err = fmt.Errorf("%w: another run has changed it", ErrState)
		}
		return err
	}})
	if err != nil {
		return report, err
	}
	changed, err := m.update(ctx, `state = 'placed', other = '', other_database_id = '' WHERE tenant = $1 AND state = 'copying' AND run = ''`, tenant)
	if err == nil && !changed {
		err = fmt.Errorf("%w: another run has changed it", ErrState)
	}
	return report, err
}

// EraseOld erases the rows that a move has left at the server where the tenant lived, at the earliest Grace after the move: it waits until then. First it
// compares them with what was moved. If they have changed, because a process was paused before it sent its statement, they are kept, and the error is
// lifecycle.ErrChanged. After an error, or if the process is killed, the next call goes on.
func (m Mover) EraseOld(ctx context.Context, tenant string) (lifecycle.Report, error) {
	var report lifecycle.Report
	m, row, err := m.leftover(ctx, tenant, "no move has left rows", "where the tenant lived", Moved, Erasing)
	if err != nil {
		return report, err
	}
	erasure := lifecycle.CopyErasure{Confirm: func(ctx context.Context) error {
		now, err := m.read(ctx, tenant)
		if err == nil && (now.State != row.State || now.Server != row.Server || now.Other != row.Other) {
			err = fmt.Errorf("%w: another run has changed it", ErrState)
		}
		return err
	}}
	if row.State == Moved {
		var age float64
		const query = `SELECT extract(epoch FROM pg_catalog.clock_timestamp() - $1::timestamptz)::float8`
		if err := m.Catalog.QueryRowContext(ctx, query, row.UpdatedAt).Scan(&age); err != nil {
			return report, inCatalog(err)
		}
		if err := sleep(ctx, m.Grace-time.Duration(age*float64(time.Second))); err != nil {
			return report, err
		}
		erasure.Fingerprint = row.Fingerprint
		erasure.Verified = func(ctx context.Context) error {
			_, err := m.update(ctx, `state = 'erasing' WHERE tenant = $1 AND state = 'moved'`, tenant)
			return err
		}
	}
	if report, err = m.tenants(row.Other).EraseCopy(ctx, tenant, erasure); err != nil {
		return report, err
	}
	_, err = m.update(ctx, `state = 'placed', other = '', other_database_id = '', run = '', fingerprint = '' WHERE tenant = $1 AND state = 'erasing' AND other = $2`, tenant, row.Other)
	return report, err
}

// leftover reads the row of a tenant whose rows are to be erased at its other server. An error says that it is in none of the states, or that
// the other server, which is described, is not configured.
func (m Mover) leftover(ctx context.Context, tenant, none, other string, states ...State) (Mover, Placement, error) {
	m, err := m.checked(tenant)
	if err != nil {
		return m, Placement{}, err
	}
	if err := m.verifyCatalog(ctx); err != nil {
		return m, Placement{}, err
	}
	row, err := m.read(ctx, tenant)
	switch {
	case err != nil:
	case !slices.Contains(states, row.State):
		err = fmt.Errorf("%w: %s", ErrState, none)
	case m.Servers[row.Other] == nil:
		err = fmt.Errorf("%w: %s is none of the servers", ErrNoServer, other)
	default:
		err = m.verifyDatabases(ctx, row)
	}
	return m, row, err
}
