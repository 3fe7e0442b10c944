package tenancyriver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// waitSQL has a job wait in the state pending where River would give it to a worker, until Jobs.Release gives it. A job that is running becomes
// scheduled or retryable instead, because River's client does not expect pending there.
func (i Isolation) waitSQL() string {
	return `
	IF NEW.state = 'available' THEN
		IF TG_OP = 'INSERT' THEN
			NEW.state := 'pending';
		ELSIF OLD.state = 'running' THEN
			NEW.state := CASE WHEN NEW.errors IS DISTINCT FROM OLD.errors THEN 'retryable' ELSE 'scheduled' END;
		ELSIF OLD.state <> 'available' AND NOT (OLD.state = 'pending' AND pg_has_role(current_user, ` + sqltext.Literal(i.WorkerRole) + `, 'USAGE')) THEN
			NEW.state := 'pending';
		END IF;
	END IF;`
}

func (i Isolation) slotsSQL() string {
	if i.Slots == 0 {
		return i.turnSQL("IS NOT NULL", "pending", "available") + `
DROP FUNCTION IF EXISTS ` + i.table(feedTable) + `();`
	}
	return i.turnSQL("IS NULL", "available", "pending") + `
CREATE TABLE IF NOT EXISTS ` + i.table(slotsTable) + ` (tenant text COLLATE "C" PRIMARY KEY, slots integer NOT NULL CHECK (slots >= 0));
CREATE TABLE IF NOT EXISTS ` + i.table(feedTable) + ` ();
CREATE OR REPLACE FUNCTION ` + i.table(feedTable) + `() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $tenancy$
BEGIN
	LOCK TABLE ` + i.table(feedTable) + ` IN EXCLUSIVE MODE NOWAIT;
	RETURN true;
EXCEPTION WHEN lock_not_available THEN
	RETURN false;
END $tenancy$;
CREATE INDEX IF NOT EXISTS tenancy_river_pending ON ` + i.table("river_job") + ` (tenant_id, queue, priority, scheduled_at, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS tenancy_river_given ON ` + i.table("river_job") + ` (tenant_id, queue) WHERE state IN ('available', 'running');`
}

// turnSQL gives the jobs that wait another state, if the function of slots is there or not: when queues begin to be shared, what all tenants
// have waiting is given in turn, and when they are not shared any more, no job is left waiting. The owner sees the jobs meanwhile, in a
// transaction that keeps all others out.
func (i Isolation) turnSQL(function, from, to string) string {
	job := i.table("river_job")
	return `DO $tenancy$ BEGIN
	IF to_regprocedure(` + sqltext.Literal(i.table(feedTable)+"()") + `) ` + function + ` THEN
		ALTER TABLE ` + job + ` NO FORCE ROW LEVEL SECURITY;
		UPDATE ` + job + ` SET state = '` + to + `' WHERE state = '` + from + `';
		ALTER TABLE ` + job + ` FORCE ROW LEVEL SECURITY;
	END IF;
END $tenancy$;`
}

// SetSlots gives a tenant another number of slots than Isolation.Slots: its weight, and the most jobs of each queue that it has in work at
// a time. Zero pauses the tenant's jobs; a negative number is an error.
func (j *Jobs) SetSlots(ctx context.Context, tenant string, slots int) error {
	if j.isolation.Slots == 0 {
		return errors.New("tenancy: Isolation.Slots is 0, so that queues are not shared by slots")
	}
	_, err := j.pool.ExecContext(ctx, `INSERT INTO `+j.isolation.table(slotsTable)+` (tenant, slots) VALUES ($1, $2)
		ON CONFLICT (tenant) DO UPDATE SET slots = excluded.slots`, tenant, slots)
	if err != nil {
		return fmt.Errorf("tenancy: set a tenant's slots: %w", err)
	}
	return nil
}

// feedTable is the table that the process locks which gives jobs to workers, and the function that does so. It is not an advisory lock, which
// any SQL of a tenant could take, so that no tenant's job would run.
const feedTable = "tenancy_river_feed"

// Release gives waiting jobs to workers once, as a Client does by itself, and returns how many. It is 0 while another process does it. It
// is for tests that go step by step; the error is PostgreSQL's.
//
// A tenant has at most its slots of jobs of a queue given to workers and not finished, and a job is worked after those that were given
// before it, whatever their priorities. So when a job comes in whose tenant has a free slot, at most twice the slots of each other tenant
// are started before it, however many tenants there are and however many jobs they have waiting. Priorities order the waiting jobs of one
// tenant.
func (j *Jobs) Release(ctx context.Context) (int64, error) {
	if j.isolation.Slots == 0 {
		return 0, errors.New("tenancy: Isolation.Slots is 0, so that no job waits for its turn")
	}
	tx, err := j.pool.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("tenancy: release jobs: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after COMMIT
	var mine bool
	lock := "SELECT " + j.isolation.table(feedTable) + "() FROM set_config('jit', 'off', true)" // compiling takes a second, and running a millisecond
	if err := tx.QueryRowContext(ctx, lock).Scan(&mine); err != nil {
		return 0, fmt.Errorf("tenancy: release jobs: %w", err)
	}
	if !mine {
		return 0, nil
	}
	result, err := tx.ExecContext(ctx, j.isolation.releaseSQL())
	if err != nil {
		return 0, fmt.Errorf("tenancy: release jobs: %w", err)
	}
	released, err := result.RowsAffected()
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return 0, fmt.Errorf("tenancy: release jobs: %w", err)
	}
	return released, nil
}

// releaseSQL finds the tenants that have jobs waiting by one probe of the index each, and not by reading all that wait. Nor does it read
// more of a tenant's jobs than the tenant has slots, whatever states, times and locks SQL of the tenant has given them: that would delay the
// jobs of all.
//
// The time and the priority of a job become those of its turn, because River works on jobs by priority and then by time. The time is that
// of the statement and not of the transaction, which has begun before the lock was taken, and perhaps before another process released jobs.
func (i Isolation) releaseSQL() string {
	job := i.table("river_job")
	return `WITH RECURSIVE tenants (tenant_id) AS (
		(SELECT tenant_id FROM ` + job + ` WHERE state = 'pending' ORDER BY tenant_id LIMIT 1)
	UNION ALL
		SELECT (SELECT j.tenant_id FROM ` + job + ` j WHERE j.state = 'pending' AND j.tenant_id > t.tenant_id ORDER BY j.tenant_id LIMIT 1)
		FROM tenants t WHERE t.tenant_id IS NOT NULL
	), waiting AS (
		SELECT t.tenant_id, q.name, coalesce(s.slots, ` + strconv.Itoa(i.Slots) + `) AS slots
		FROM tenants t CROSS JOIN ` + i.table("river_queue") + ` q LEFT JOIN ` + i.table(slotsTable) + ` s ON s.tenant = t.tenant_id
		WHERE t.tenant_id IS NOT NULL
	), room AS (
		SELECT w.tenant_id, w.name, w.slots - (SELECT count(*) FROM (
			SELECT FROM ` + job + ` j WHERE j.tenant_id = w.tenant_id AND j.queue = w.name AND j.state IN ('available', 'running') LIMIT w.slots) given) AS free
		FROM waiting w
	), turn AS (
		SELECT first.id FROM room CROSS JOIN LATERAL (
			SELECT one.id FROM generate_series(1, 4) p (priority) CROSS JOIN LATERAL (
				SELECT j.id, j.scheduled_at FROM ` + job + ` j
				WHERE j.tenant_id = room.tenant_id AND j.state = 'pending' AND j.queue = room.name
					AND j.priority = p.priority::smallint AND j.scheduled_at <= statement_timestamp()
				ORDER BY j.scheduled_at, j.id LIMIT room.free) one
			ORDER BY p.priority, one.scheduled_at, one.id LIMIT room.free) first
	), next AS MATERIALIZED (
		SELECT j.id FROM ` + job + ` j WHERE j.id = ANY (ARRAY(SELECT id FROM turn)) AND j.state = 'pending' FOR UPDATE SKIP LOCKED
	)
	UPDATE ` + job + ` j SET state = 'available', scheduled_at = statement_timestamp(), priority = 1 WHERE j.id = ANY (ARRAY(SELECT id FROM next))`
}
