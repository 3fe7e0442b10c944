package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

const insertSQL = `INSERT INTO river_job (kind, max_attempts, args, metadata) VALUES ('mail', 3, '{}', ?)`

// TestSQLOfTenantCannotInsertJobOfOther: whatever SQL of a tenant writes into the metadata.
func TestSQLOfTenantCannotInsertJobOfOther(t *testing.T) {
	testdb.InBothForms(t, testSQLOfTenantCannotInsertJobOfOther)
}

func testSQLOfTenantCannotInsertJobOfOther(t *testing.T) {
	q := newQueue(t, 0)
	for _, metadata := range []string{
		`{"tenancy:tenant":"globex"}`, `{}`, `{"tenancy:without":true}`, `{"tenancy:tenant":""}`, `{"tenancy:tenant":null}`,
		`{"tenancy:tenant":"acme","tenancy:tenant":"globex"}`, `{"tenancy:tenant":["acme"]}`, `[]`, `"acme"`, `{"TENANCY:TENANT":"acme"}`,
	} {
		requireDenied(t, q.db.WithContext(testdb.As(testdb.Acme)).Exec(insertSQL, metadata).Error, metadata)
		requireDenied(t, q.db.WithContext(tenancy.WithoutTenant(t.Context())).Exec(insertSQL, metadata).Error, metadata)
	}
	acme := q.db.WithContext(testdb.As(testdb.Acme))
	require.Error(t, acme.Exec(`INSERT INTO river_job (kind, max_attempts, args, metadata, tenant_id)
		VALUES ('mail', 3, '{}', '{"tenancy:tenant":"globex"}', 'acme')`).Error, "the column is generated")
	require.NoError(t, acme.Exec(insertSQL, `{"tenancy:tenant":"acme","TENANCY:TENANT":"globex"}`).Error)

	var ran seen
	_, events := work(t, q, q.jobs(t, nil), 1, func(ctx context.Context, _ *river.Job[Mail]) error {
		ran.add(tenantOf(ctx))
		return nil
	})
	<-events
	require.Equal(t, []string{testdb.Acme}, ran.all(), "names in metadata are compared exactly")
}

// TestSQLOfTenantCannotReachJobOfOther: read, lock, change, cancel, delete.
func TestSQLOfTenantCannotReachJobOfOther(t *testing.T) {
	testdb.InBothForms(t, testSQLOfTenantCannotReachJobOfOther)
}

func testSQLOfTenantCannotReachJobOfOther(t *testing.T) {
	q := newQueue(t, 0)
	job, err := q.insert(testdb.As(testdb.Globex), Mail{Order: 7}, nil)
	require.NoError(t, err)
	acme := q.db.WithContext(testdb.As(testdb.Acme))
	var count int64
	require.NoError(t, acme.Raw("SELECT count(*) FROM river_job").Scan(&count).Error)
	require.Zero(t, count)
	for _, set := range []string{"state = 'cancelled', finalized_at = now()", `metadata = '{"tenancy:tenant":"acme"}'`, "kind = 'other'"} {
		result := acme.Exec("UPDATE river_job SET "+set+" WHERE id = ?", job.Job.ID)
		require.NoError(t, result.Error)
		require.Zero(t, result.RowsAffected, set)
	}
	for _, statement := range []string{
		"DELETE FROM river_job", "TRUNCATE river_job", "UPDATE river_job SET args = '{}'", "UPDATE river_job SET unique_key = 'x'",
		"UPDATE river_job SET queue = 'other'", "SELECT * FROM river_queue", "SELECT * FROM river_leader", "DELETE FROM river_leader",
		"INSERT INTO river_queue (name, updated_at, paused_at) VALUES ('default', now(), now())",
		"ALTER TABLE river_job DISABLE TRIGGER tenancy_river_job",
	} {
		requireDenied(t, acme.Exec(statement).Error, statement)
	}
	requireDenied(t, q.db.WithContext(testdb.As(testdb.Globex)).Exec(`UPDATE river_job SET metadata = '{"tenancy:tenant":"acme"}'`).Error,
		"a job is not given away")
	admin, err := q.AdminDB.DB()
	require.NoError(t, err)
	_, err = admin.ExecContext(t.Context(), `UPDATE river_job SET metadata = '{"tenancy:tenant":"acme"}'`)
	require.ErrorContains(t, err, "a job keeps its tenant")
}

func requireDenied(t *testing.T, err error, what string) {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr, what)
	require.Equal(t, "42501", pgErr.Code, "%s: %v", what, err)
}

// TestTenantOfJobComesFromContext: neither arguments nor metadata of the caller choose it.
func TestTenantOfJobComesFromContext(t *testing.T) {
	testdb.InBothForms(t, testTenantOfJobComesFromContext)
}

func testTenantOfJobComesFromContext(t *testing.T) {
	q := newQueue(t, 0)
	acme := testdb.As(testdb.Acme)
	_, err := q.insert(t.Context(), Mail{}, nil)
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	_, err = q.insert(tenancy.WithoutTenant(t.Context()), Mail{}, nil)
	requireDenied(t, err, "a job for no tenant")
	for _, metadata := range []string{`{"tenancy:tenant":"globex"}`, `{"tenancy:without":true}`, `{"tenancy:tenant":null}`} {
		_, err := q.insert(acme, Mail{}, &river.InsertOpts{Metadata: []byte(metadata)})
		require.ErrorIs(t, err, tenancyriver.ErrTenantInMetadata, metadata)
	}
	_, err = q.insert(acme, Mail{}, &river.InsertOpts{Metadata: []byte(`[]`)})
	require.ErrorContains(t, err, "not a JSON object")
	for _, metadata := range []string{`{"mine":1}`, `null`, `{"tenancy:tenant":"acme"}`} {
		_, err = q.insert(acme, Mail{Tenant: testdb.Globex}, &river.InsertOpts{Metadata: []byte(metadata)})
		require.NoError(t, err, metadata)
	}
	_, err = tenancyriver.InsertTx(q.db.WithContext(acme), q.client, Mail{}, nil)
	require.ErrorIs(t, err, gorm.ErrInvalidTransaction)

	var ran seen
	_, events := work(t, q, q.jobs(t, nil), 1, func(ctx context.Context, job *river.Job[Mail]) error {
		ran.add(tenantOf(ctx))
		return q.db.WithContext(ctx).Create(&Order{Item: job.Args.Tenant}).Error
	})
	for range 3 {
		require.Equal(t, river.EventKindJobCompleted, (<-events).Kind)
	}
	require.Equal(t, []string{testdb.Acme, testdb.Acme, testdb.Acme}, ran.all())
	var tenants []string
	require.NoError(t, q.AdminDB.Model(&Order{}).Distinct().Pluck("tenant_id", &tenants).Error)
	require.Equal(t, []string{testdb.Acme}, tenants)
}

// TestJobWithoutTenantIsRefused: unless its kind may run without, and those that the admin role has inserted otherwise.
func TestJobWithoutTenantIsRefused(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		q := newQueue(t, 0)
		var ran seen
		jobs := q.jobs(t, func(c *tenancyriver.Config) {
			if allowed {
				c.WithoutTenant = []string{Mail{}.Kind()}
			}
		})
		client, events := work(t, q, jobs, 1, func(ctx context.Context, _ *river.Job[Mail]) error {
			_, has := tenancy.TenantFromContext(ctx)
			ran.add(fmt.Sprint("has a tenant: ", has))
			return q.db.WithContext(ctx).First(&Order{}).Error
		})
		_, err := q.pool.ExecContext(t.Context(), `INSERT INTO river_job (kind, max_attempts, args) VALUES ('mail', 3, '{}')`)
		require.NoError(t, err)
		requireRefused(t, <-events)
		_, err = client.Insert(tenancy.WithoutTenant(t.Context()), Mail{}, nil)
		require.NoError(t, err)
		event := <-events
		if !allowed {
			requireRefused(t, event)
			require.Empty(t, ran.all())
			continue
		}
		require.Equal(t, river.EventKindJobFailed, event.Kind, "it finds no row of a tenant")
		require.Contains(t, ran.all(), "has a tenant: false")
	}
}

func requireRefused(t *testing.T, event *river.Event) {
	t.Helper()
	require.Equal(t, river.EventKindJobCancelled, event.Kind)
	require.Contains(t, event.Job.Errors[0].Error, tenancy.ErrNoTenant.Error())
}

// TestJobOfRemovedTenant is cancelled; while it cannot be known, the job is tried again.
func TestJobOfRemovedTenant(t *testing.T) {
	q := newQueue(t, 0)
	_, err := q.insert(testdb.As(testdb.Acme), Mail{}, nil)
	require.NoError(t, err)
	var asked int
	jobs := q.jobs(t, func(c *tenancyriver.Config) {
		c.Known = func(ctx context.Context, tenant string) (bool, error) {
			require.Equal(t, testdb.Acme, tenant)
			if asked++; asked == 1 {
				return true, errors.New("the database is away")
			}
			return false, nil
		}
	})
	_, events := work(t, q, jobs, 1, func(context.Context, *river.Job[Mail]) error { return errors.New("it ran") })
	failed := <-events
	require.Equal(t, river.EventKindJobFailed, failed.Kind)
	require.Contains(t, failed.Job.Errors[0].Error, "the database is away")
	cancelled := <-events
	require.Equal(t, river.EventKindJobCancelled, cancelled.Kind)
	require.Contains(t, cancelled.Job.Errors[1].Error, tenancyriver.ErrUnknownTenant.Error())
}

// TestJobKeepsItsTenant when it is snoozed, fails and is tried again.
func TestJobKeepsItsTenant(t *testing.T) {
	for _, slots := range []int{0, 2} {
		q := newQueue(t, slots)
		jobs := q.jobs(t, nil)
		_, err := q.insert(testdb.As(testdb.Acme), Mail{}, nil)
		require.NoError(t, err)
		var ran seen
		_, events := work(t, q, jobs, 1, func(ctx context.Context, _ *river.Job[Mail]) error {
			ran.add(tenantOf(ctx))
			switch len(ran.all()) {
			case 1:
				return river.JobSnooze(0)
			case 2:
				return errors.New("once more")
			default:
				return nil
			}
		})
		require.Equal(t, river.EventKindJobSnoozed, (<-events).Kind)
		require.Equal(t, river.EventKindJobFailed, (<-events).Kind)
		require.Equal(t, river.EventKindJobCompleted, (<-events).Kind)
		require.Equal(t, []string{testdb.Acme, testdb.Acme, testdb.Acme}, ran.all())
	}
}

// TestUniqueJobsAreUniquePerTenant, also where SQL of a tenant knows the key of another's job.
func TestUniqueJobsAreUniquePerTenant(t *testing.T) {
	testdb.InBothForms(t, testUniqueJobsAreUniquePerTenant)
}

func testUniqueJobsAreUniquePerTenant(t *testing.T) {
	q := newQueue(t, 0)
	unique := &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}}
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		first, err := q.insert(testdb.As(tenant), Mail{Order: 1}, unique)
		require.NoError(t, err)
		require.False(t, first.UniqueSkippedAsDuplicate)
		second, err := q.insert(testdb.As(tenant), Mail{Order: 1}, unique)
		require.NoError(t, err)
		require.True(t, second.UniqueSkippedAsDuplicate)
		require.Equal(t, first.Job.ID, second.Job.ID)
	}
	taken := &rivertype.JobRow{}
	require.NoError(t, q.AdminDB.Raw("SELECT unique_key FROM river_job WHERE tenant_id = 'globex'").Row().Scan(&taken.UniqueKey))
	require.NoError(t, q.db.WithContext(testdb.As(testdb.Acme)).Exec(`INSERT INTO river_job (kind, max_attempts, args, metadata, unique_key,
		unique_states) VALUES ('mail', 3, '{}', '{"tenancy:tenant":"acme"}', ?, B'11111111')`, taken.UniqueKey).Error)
}

// TestWorkersRefuseTableThatIsNotIsolated: each hole, one at a time.
func TestWorkersRefuseTableThatIsNotIsolated(t *testing.T) {
	testdb.InBothForms(t, testWorkersRefuseTableThatIsNotIsolated)
}

func testWorkersRefuseTableThatIsNotIsolated(t *testing.T) {
	q := newQueue(t, 0)
	ctx := context.WithoutCancel(t.Context())
	owner, err := q.OwnerDB.DB()
	require.NoError(t, err)
	for _, hole := range []string{
		"ALTER TABLE river_job DISABLE ROW LEVEL SECURITY", "ALTER TABLE river_job NO FORCE ROW LEVEL SECURITY",
		"ALTER TABLE river_job DISABLE TRIGGER tenancy_river_job", "DROP TRIGGER tenancy_river_job ON river_job",
		"CREATE OR REPLACE FUNCTION tenancy_river_job() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
		"CREATE POLICY open ON river_job FOR INSERT WITH CHECK (true)", "CREATE POLICY open ON river_job FOR UPDATE USING (true)",
		"ALTER TABLE river_job ALTER COLUMN tenant_id DROP EXPRESSION", "ALTER TABLE river_job RENAME COLUMN tenant_id TO other",
	} {
		_, err := owner.ExecContext(ctx, hole)
		require.NoError(t, err, hole)
		_, err = tenancyriver.New(ctx, q.pool, tenancyriver.Config{Isolation: q.iso})
		require.ErrorIs(t, err, tenancyriver.ErrNotIsolated, hole)
		_, err = owner.ExecContext(ctx, "DROP POLICY IF EXISTS open ON river_job; ALTER TABLE river_job DROP COLUMN IF EXISTS tenant_id CASCADE")
		require.NoError(t, err, hole)
		require.NoError(t, q.iso.Migrate(ctx, owner))
		q.jobs(t, nil)
	}
	other := q.iso
	other.Slots = 3
	_, err = tenancyriver.New(ctx, q.pool, tenancyriver.Config{Isolation: other})
	require.ErrorIs(t, err, tenancyriver.ErrNotIsolated, "it was migrated with other slots")
	other.AppRole = ""
	_, err = tenancyriver.New(ctx, q.pool, tenancyriver.Config{Isolation: other})
	require.ErrorContains(t, err, "AppRole")
}

// TestFanOut inserts one job for each tenant, also when it is worked twice, and by the admin client as well.
func TestFanOut(t *testing.T) { testdb.InBothForms(t, testFanOut) }

func testFanOut(t *testing.T) {
	q := newQueue(t, 0)
	unique := river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}}
	tenants := []string{testdb.Acme, testdb.Globex}
	require.NoError(t, tenancy.Bypass(q.db, "fan out").WithContext(t.Context()).Transaction(func(tx *gorm.DB) error {
		return tenancyriver.FanOut(t.Context(), q.client, tx.Statement.ConnPool.(*sql.Tx), tenants, Mail{}, unique)
	}))
	for range 2 {
		tx, err := q.pool.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, tenancyriver.FanOut(t.Context(), q.client, tx, tenants, Mail{}, unique))
		require.Error(t, tenancyriver.FanOut(t.Context(), q.client, tx, tenants, Mail{}, river.InsertOpts{}), "they would not be unique")
		require.ErrorIs(t, tenancyriver.FanOut(t.Context(), q.client, tx, []string{""}, Mail{}, unique), tenancy.ErrNoTenant)
		require.NoError(t, tx.Commit())
	}
	var of []string
	require.NoError(t, q.AdminDB.Raw("SELECT tenant_id FROM river_job ORDER BY 1").Scan(&of).Error)
	require.Equal(t, tenants, of)
}

// TestCheckAllowsRiver: with the options of the module the check of a database with jobs has no findings, and without them it has two.
func TestCheckAllowsRiver(t *testing.T) { testdb.InBothForms(t, testCheckAllowsRiver) }

func testCheckAllowsRiver(t *testing.T) {
	q := newQueue(t, 2)
	report, err := q.Isolation().Check(t.Context(), q.db)
	require.NoError(t, err)
	require.Len(t, report.Findings, 2)
	report, err = q.Isolation().Check(t.Context(), q.db, q.iso.Allow()...)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Len(t, report.Allowed, 2)
}
