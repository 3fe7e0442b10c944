package cmd_test

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// audited is a database with records of changes, one of them 20 months old.
func audited(t *testing.T) *testdb.Database {
	t.Helper()
	d := testdb.New(t)
	isolation := d.Isolation()
	isolation.Audits = []rls.Audit{{Model: &Letter{}}}
	d.Migrate(t, isolation, &Letter{})
	d.AsSuperuser(t, "INSERT INTO letters (tenant_id, text) VALUES ('acme', 'a secret')",
		`INSERT INTO tenancy_audit (tenant_id, at, xact, operation, table_schema, table_name, login, role)
		SELECT 'acme', now() - make_interval(months => 20), 1, 'INSERT', 's', 't', 'l', 'r'`)
	return d
}

func TestAuditIsMaintainedByTheCommand(t *testing.T) {
	d := audited(t)
	maintain := func(args ...string) result {
		r := command{args: append([]string{"audit", "maintain", "--keep", "3", "--ahead", "2"}, args...), url: d.Owner.DSN}.run(t)
		require.Zero(t, r.exit, r.errors)
		require.NotContains(t, r.out+r.errors, "secret")
		return r
	}
	count := func(query string) (n int) {
		require.NoError(t, d.AdminDB.Raw(query).Scan(&n).Error)
		return n
	}
	const partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'tenancy_audit'::regclass"
	before := count(partitions)

	var plan, done struct {
		DryRun  bool `json:"dry_run"`
		Changes []struct{ Table, Description, SQL string }
	}
	require.NoError(t, json.Unmarshal([]byte(maintain("--dry-run", "--format", "json").out), &plan))
	require.True(t, plan.DryRun)
	require.NotEmpty(t, plan.Changes)
	require.Equal(t, before, count(partitions), "a plan changes nothing")
	require.Equal(t, 2, count("SELECT count(*) FROM tenancy_audit"))
	require.Contains(t, maintain("--dry-run").out, "Nothing was changed.")

	var runs sync.WaitGroup
	outs := make([]result, 3)
	for n := range outs {
		runs.Go(func() { outs[n] = maintain("--format", "json") })
	}
	runs.Wait()
	worked := 0
	for _, r := range outs {
		changes := plan
		require.NoError(t, json.Unmarshal([]byte(r.out), &changes))
		if len(changes.Changes) > 0 {
			worked++
			done = changes
		}
	}
	require.Equal(t, 1, worked, "runs at once take turns")
	require.Equal(t, plan.Changes, done.Changes, "what was planned")
	require.Equal(t, 1, count("SELECT count(*) FROM tenancy_audit"))
	require.Contains(t, maintain().out, "Nothing is to be done.")

	isolation := d.Isolation()
	isolation.Audits = []rls.Audit{{Model: &Letter{}}}
	require.Empty(t, d.Migrate(t, isolation, &Letter{}), "the partitions have the policies that Migrate would make")
	for _, f := range check(t, d, isolation) {
		require.NotContains(t, f, "tenancy_audit")
	}
}

func check(t *testing.T, d *testdb.Database, isolation rls.Isolation) (found []string) {
	t.Helper()
	report, err := isolation.Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	for _, f := range report.Findings {
		found = append(found, f.Object+": "+f.Problem)
	}
	return found
}

func TestAuditMaintenanceIsTheOwners(t *testing.T) {
	d := audited(t)
	for _, dsn := range []string{d.App.DSN, d.Admin.DSN} {
		command{args: []string{"audit", "maintain", "--keep", "1"}, url: dsn}.run(t).failed(t, "does not own the table tenancy_audit")
	}
	require.Contains(t, command{args: []string{"audit", "maintain"}, url: testdb.New(t).Owner.DSN}.run(t).errors, "there is no table tenancy_audit")
	for _, args := range [][]string{{"audit"}, {"audit", "drop"}, {"audit", "maintain", "--keep", "-1"}, {"audit", "maintain", "now"}} {
		tenancy(t, args...).failed(t, "tenancy help audit")
	}
}
