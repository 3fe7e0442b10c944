package tenancyriver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// waitSQL has a job wait in the state pending where River would give it to a worker, until Feed has its turn. A job that is running becomes
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
		return ""
	}
	return `CREATE TABLE IF NOT EXISTS ` + i.table(slotsTable) + ` (tenant text COLLATE "C" PRIMARY KEY, slots integer NOT NULL CHECK (slots >= 0));
CREATE INDEX IF NOT EXISTS tenancy_river_pending ON ` + i.table("river_job") + ` (tenant_id, queue, priority, scheduled_at, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS tenancy_river_given ON ` + i.table("river_job") + ` (tenant_id, queue) WHERE state IN ('available', 'running');`
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

// Feed gives waiting jobs to the workers until ctx ends, whose error it returns. It looks every interval, of 50 milliseconds if that is
// not positive. With Isolation.Slots, no job runs without it. Run it beside River's client, in each process that works; one of them feeds
// at a time. An error of PostgreSQL is logged, and Feed goes on.
//
// A tenant has at most its slots of jobs of a queue given to workers and not finished, and a job is worked after those that were given
// before it, whatever their priorities. So when a job comes in whose tenant has a free slot, at most twice the slots of each other tenant
// are started before it, however many jobs these have waiting; while all have jobs waiting, their shares are as their slots. Priorities order the
// waiting jobs of one tenant. A tenant has at most its slots of jobs done per interval.
func (j *Jobs) Feed(ctx context.Context, interval time.Duration) error {
	if j.isolation.Slots == 0 {
		return errors.New("tenancy: Isolation.Slots is 0, so that no job waits for its turn")
	}
	if interval <= 0 {
		interval = 50 * time.Millisecond
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if _, err := j.Release(ctx); err != nil && ctx.Err() == nil {
			j.logger.ErrorContext(ctx, "tenancy: cannot give jobs to workers", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// feedLock is the advisory lock of the process that feeds.
const feedLock = 0x74656e616e6379

// Release does what Feed does, once, and returns how many jobs it has given to workers. It is 0 while another process feeds.
func (j *Jobs) Release(ctx context.Context) (int64, error) {
	tx, err := j.pool.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("tenancy: release jobs: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after COMMIT
	var mine bool
	const lock = "SELECT pg_try_advisory_xact_lock($1) FROM set_config('jit', 'off', true)" // compiling takes a second, and running a millisecond
	if err := tx.QueryRowContext(ctx, lock, int64(feedLock)).Scan(&mine); err != nil {
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

// releaseSQL finds the tenants that have jobs waiting by one probe of the index each, and not by reading all that wait. The time and the
// priority of a job become those of its turn, because River works on jobs by priority and then by time.
func (i Isolation) releaseSQL() string {
	job := i.table("river_job")
	return `WITH RECURSIVE tenants (tenant_id) AS (
		(SELECT tenant_id FROM ` + job + ` WHERE state = 'pending' ORDER BY tenant_id LIMIT 1)
	UNION ALL
		SELECT (SELECT j.tenant_id FROM ` + job + ` j WHERE j.state = 'pending' AND j.tenant_id > t.tenant_id ORDER BY j.tenant_id LIMIT 1)
		FROM tenants t WHERE t.tenant_id IS NOT NULL
	), waiting AS (
		SELECT t.tenant_id, q.name FROM tenants t CROSS JOIN ` + i.table("river_queue") + ` q WHERE t.tenant_id IS NOT NULL
	), room AS (
		SELECT w.tenant_id, w.name, coalesce((SELECT s.slots FROM ` + i.table(slotsTable) + ` s WHERE s.tenant = w.tenant_id), ` + strconv.Itoa(i.Slots) + `)
			- (SELECT count(*) FROM ` + job + ` j WHERE j.tenant_id = w.tenant_id AND j.queue = w.name AND j.state IN ('available', 'running')) AS free
		FROM waiting w
	), next AS MATERIALIZED (
		SELECT turn.id FROM room CROSS JOIN LATERAL (
			SELECT j.id FROM ` + job + ` j
			WHERE j.tenant_id = room.tenant_id AND j.state = 'pending' AND j.queue = room.name AND j.scheduled_at <= now()
			ORDER BY j.priority, j.scheduled_at, j.id LIMIT greatest(room.free, 0) FOR UPDATE SKIP LOCKED) turn
	)
	UPDATE ` + job + ` j SET state = 'available', scheduled_at = now(), priority = 1 WHERE j.id = ANY (ARRAY(SELECT id FROM next))`
}
