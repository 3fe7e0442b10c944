package cmd_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	Holder struct {
		ID       int64
		TenantID string
		Name     string `gorm:"uniqueIndex"`
	}
	Asset struct {
		ID       int64
		HolderID int64
		Holder   *Holder
	}
	Currency struct{ ID int64 }
)

// adoption is what the command reports as JSON.
type adoption struct {
	Tables []struct {
		Table, Stage      string
		RowsWithoutTenant *bool `json:"rows_without_tenant"`
		Needs             []struct{ Problem, Step string }
	}
}

func adopt(t *testing.T, d *testdb.Database, exit int) (stages map[string]string, needs map[string]string) {
	t.Helper()
	ran := command{args: []string{"adopt", "--format", "json", "--app-role", d.App.Role}, url: d.SuperuserDSN(t)}.run(t)
	require.Equal(t, exit, ran.exit, ran.errors)
	var report adoption
	require.NoError(t, json.Unmarshal([]byte(ran.out), &report))
	stages, needs = map[string]string{}, map[string]string{}
	for _, table := range report.Tables {
		stages[table.Table] = table.Stage
		for _, n := range table.Needs {
			needs[table.Table] += n.Problem + "; "
		}
	}
	return stages, needs
}

// The report follows a database through the stages of a rollout.
func TestAdoptReportsStages(t *testing.T) {
	d := testdb.New(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&Holder{}, &Asset{}, &Currency{}))
	d.AsOwner(t, "INSERT INTO holders (id, name) VALUES (1, 'a'), (2, 'b')", "INSERT INTO assets (holder_id) VALUES (1), (2)")
	d.AsOwner(t, "UPDATE holders SET tenant_id = '' WHERE id = 2")

	stages, needs := adopt(t, d, 1)
	require.Equal(t, map[string]string{"holders": "observe", "assets": "none", "currencies": "none"}, stages)
	require.Contains(t, needs["holders"], "rows have no tenant", "the empty text is none")
	require.Contains(t, needs["holders"], "unique among all tenants: idx_holders_name")
	require.Contains(t, needs["holders"], d.App.Role+" may not read it")
	require.Contains(t, needs["assets"], "it refers to a tenant table (holders)")
	require.Contains(t, needs["currencies"], "every tenant shares it")

	d.AsOwner(t, "UPDATE holders SET tenant_id = NULL")
	isolation := d.Isolation()
	isolation.Fills = []rls.Fill{{Model: &Holder{}, Tenant: "name"}}
	for _, c := range []struct {
		stage rls.Stage
		name  string
		exit  int
		need  string
	}{
		{rls.StageObserve, "observe", 1, "no policy isolates it"},
		{rls.StageShadow, "shadow", 1, "its policies do not bind the older version"},
		{rls.StageEnforce, "enforce", 0, ""},
	} {
		isolation.Stage = c.stage
		d.Migrate(t, isolation, &Holder{}, &Asset{}, &Currency{})
		stages, needs := adopt(t, d, c.exit)
		require.Equal(t, map[string]string{"holders": c.name, "assets": c.name, "currencies": "none"}, stages)
		require.Contains(t, needs["assets"], c.need)
		require.NotContains(t, needs["holders"], "rows have no tenant")
		if c.need == "" {
			require.Empty(t, needs["assets"])
			require.Empty(t, needs["holders"])
		}
	}
}

func TestAdoptIsReadByPeople(t *testing.T) {
	d := testdb.New(t, &Holder{}, &Asset{})
	ran := command{args: []string{"adopt"}, url: d.Owner.DSN}.run(t)
	require.Equal(t, 0, ran.exit, ran.errors)
	require.Contains(t, ran.out, "holders: enforce")
	require.Contains(t, ran.out, "2 tables: 0 in none, 0 in observe, 0 in shadow, 2 in enforce.")

	ran = command{args: []string{"adopt", "--format", "xml"}, url: d.Owner.DSN}.run(t)
	require.Equal(t, 2, ran.exit)
	require.Contains(t, ran.errors, "must be text or json")
}

// Before the first step no table belongs to a tenant, which is not the same as done.
func TestAdoptIsNotDoneBeforeItHasBegun(t *testing.T) {
	d := testdb.New(t, &Holder{}, &Asset{})
	d.AsOwner(t, "DROP TABLE assets, holders", "CREATE TABLE holders (id bigint)")
	ran := command{args: []string{"adopt"}, url: d.Owner.DSN}.run(t)
	require.Equal(t, 1, ran.exit, ran.errors)
	require.Contains(t, ran.out, "No table has the tenant column yet.")
}
