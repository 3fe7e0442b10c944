package rls_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// listed is the usual isolation with both tables partitioned by list.
func (d database) listed(hash int, tenants ...string) rls.Isolation {
	i := d.keyed()
	for _, model := range []any{&parcelled{}, &piece{}} {
		i.Partition = append(i.Partition, rls.Partitioned{Model: model, ByList: true, Hash: hash, List: tenants})
	}
	return i
}

const inForce = " tenant_admin tenant_isolation"

// TestPartitionByListMakesTables has tenants with partitions of their own, and the rest on one level or two.
func TestPartitionByListMakesTables(t *testing.T) {
	for name, hash := range map[string]int{"one for the rest": 0, "the rest by hash": 3} {
		for way, run := range map[string]func(t *testing.T, d database, i rls.Isolation){
			"Migrate": func(t *testing.T, d database, i rls.Isolation) {
				planned, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{})
				require.NoError(t, err)
				require.True(t, slices.ContainsFunc(planned.Steps, func(s rls.Step) bool { return s.Table == "pieces_rest" && s.Description == "make the partition" }))
				require.Contains(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "public.parcelleds_t_huge: make the partition")
			},
			"SQL": makeByScript,
		} {
			t.Run(name+" by "+way, func(t *testing.T) {
				t.Parallel()
				d := newDatabase(t)
				d.AsOwner(t, "ALTER DEFAULT PRIVILEGES GRANT SELECT, TRUNCATE ON TABLES TO "+d.App.Role)
				i := d.listed(hash, "huge", "o'reilly \\ sons")
				i.Audits = []rls.Audit{{Model: &parcelled{}}}
				run(t, d, i)
				require.Equal(t, []string{
					"parcelleds_rest DEFAULT" + inForce,
					`parcelleds_t_1c519dc1ae6c0633a2d2 FOR VALUES IN ('o''reilly \ sons')` + inForce,
					"parcelleds_t_huge FOR VALUES IN ('huge')" + inForce,
				}, d.bounds(t, "parcelleds"))
				rest := []string{}
				for n := range hash {
					rest = append(rest, fmt.Sprintf("parcelleds_p%d FOR VALUES WITH (modulus %d, remainder %[1]d)"+inForce, n, hash))
				}
				require.Equal(t, rest, d.bounds(t, "parcelleds_rest"))
				before := d.snapshot(t)
				require.Empty(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "again")
				i.Partition[0].List = nil
				require.Empty(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "tenants that are not listed keep their partitions")
				require.Equal(t, before, d.snapshot(t))
				d.AsOwner(t, "ALTER DEFAULT PRIVILEGES REVOKE SELECT, TRUNCATE ON TABLES FROM "+d.App.Role)
				report, err := i.Check(t.Context(), d.OwnerDB)
				require.NoError(t, err)
				require.Empty(t, report.Findings)
				d.as(t, "huge", "INSERT INTO parcelleds (code) VALUES ('a')")
				require.Equal(t, []string{"INSERT"}, d.sees(t, "huge", "SELECT operation FROM tenancy_audit"))
			})
		}
	}
}

// TestPartitionByListHidesRowsFromOtherTenants addresses each partition by its own name, as SQL that was injected could.
func TestPartitionByListHidesRowsFromOtherTenants(t *testing.T) {
	d := newDatabase(t)
	d.migrateWith(t, d.listed(2, "huge"), &parcelled{}, &piece{})
	db := d.Open(t, d.Config())
	tenants := []string{"huge", "acme", "globex"}
	for _, tenant := range tenants {
		row := parcelled{ID: 1, Body: "of " + tenant, Code: "same", Pieces: []piece{{ID: 1}}}
		require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), tenant)).Create(&row).Error)
	}
	for _, granted := range []bool{false, true} {
		for _, part := range []string{"parcelleds_t_huge", "parcelleds_rest", "parcelleds_p0", "parcelleds_p1"} {
			if granted {
				d.AsOwner(t, "GRANT SELECT ON "+part+" TO "+d.App.Role)
			}
			for _, tenant := range tenants {
				at := db.WithContext(tenancy.WithTenant(t.Context(), tenant))
				var bodies []string
				err := at.Raw("SELECT body FROM " + part).Scan(&bodies).Error
				if !granted {
					require.ErrorContains(t, err, "permission denied for table "+part)
					continue
				}
				require.NoError(t, err)
				require.Subset(t, []string{"of " + tenant}, bodies)
				if part == "parcelleds_t_huge" {
					require.Len(t, bodies, map[bool]int{true: 1}[tenant == "huge"])
				}
			}
		}
	}
}

// TestPartitionByListThatIsMissingIsMadeAgain takes partitions away by hand, and adds a tenant.
func TestPartitionByListThatIsMissingIsMadeAgain(t *testing.T) {
	d := newDatabase(t)
	i := d.listed(2, "huge")
	d.migrateWith(t, i, &parcelled{}, &piece{})
	before := d.dump(t)
	d.AsOwner(t, "DROP TABLE pieces_t_huge", "DROP TABLE pieces_rest")
	changes := d.migrateWith(t, i, &parcelled{}, &piece{})
	for _, part := range []string{"pieces_t_huge", "pieces_p0", "pieces_p1", "pieces_rest"} {
		require.Contains(t, changes, "public."+part+": make the partition")
		require.Contains(t, changes, "public."+part+": force row level security")
	}
	require.ElementsMatch(t, before, d.dump(t))

	d.as(t, "acme", "INSERT INTO parcelleds (code) VALUES ('a')")
	i = d.listed(2, "huge", "other")
	require.Contains(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "public.parcelleds_t_other: make the partition")
	i = d.listed(2, "huge", "acme")
	snapshot := d.snapshot(t)
	_, err := i.Migrate(t.Context(), d.OwnerDB, &parcelled{}, &piece{})
	require.ErrorContains(t, err, "tenancy tenant isolate", "a tenant with rows")
	d.AsSuperuser(t, "INSERT INTO parcelleds (tenant_id, id, code, body) SELECT 'many', n, n, repeat('x', 200) FROM generate_series(1, 8000) n")
	i = d.listed(2, "huge", "another")
	for _, migrate := range []func() error{
		func() error { _, err := i.Migrate(t.Context(), d.OwnerDB, &parcelled{}, &piece{}); return err },
		func() error { _, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{}); return err },
	} {
		require.ErrorContains(t, migrate(), "would be read under lock: give the tenant its partition by tenancy tenant isolate")
	}
	require.Equal(t, snapshot, d.snapshot(t))
}

// TestPartitionByListTakesEachTypeOfTenants also refuses tenants that PostgreSQL writes otherwise.
func TestPartitionByListTakesEachTypeOfTenants(t *testing.T) {
	others := map[string][]string{"uuid": {"018F3A5E-0000-7000-8000-000000000001", "x"}, "bigint": {"01", "+1", "9223372036854775808"}, "smallint": {"32768"}, "integer": {"1.0"}}
	for name, test := range columnTypes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			i := d.keyed()
			i.Partition = []rls.Partitioned{{Model: test.model, List: []string{test.a, test.b}, Hash: 2}}
			d.migrateWith(t, i, test.model)
			require.Len(t, d.bounds(t, "rows"), 3)
			require.Empty(t, d.migrateWith(t, i, test.model), "again")
			for n, tenant := range []string{test.a, test.b} {
				d.as(t, tenant, "INSERT INTO rows DEFAULT VALUES")
				require.Len(t, d.sees(t, tenant, "SELECT tableoid::regclass::text FROM rows WHERE tableoid::regclass::text ~ '_t_'"), 1, n)
			}
			for _, tenant := range append(others[strings.Fields(name)[0]], "", "a\x00", "\xff") {
				i.Partition[0].List = []string{tenant}
				_, err := i.Migrate(t.Context(), d.OwnerDB, test.model)
				require.ErrorContains(t, err, "a tenant is not what PostgreSQL writes of a value of type")
				_, _, err = i.SQL(offline(t, &gorm.Config{}), test.model)
				require.ErrorContains(t, err, "a tenant is not what PostgreSQL writes of a value of type")
			}
		})
	}
}

// TestPartitionByListLeavesOthersAlone refuses what would leave a table as it is without a word.
func TestPartitionByListLeavesOthersAlone(t *testing.T) {
	for name, c := range map[string]struct {
		there, wanted rls.Partitioned
		err           string
	}{
		"by hash":             {rls.Partitioned{Hash: 2}, rls.Partitioned{Hash: 2, ByList: true}, `but not by LIST ("tenant_id")`},
		"by list":             {rls.Partitioned{Hash: 2, ByList: true}, rls.Partitioned{Hash: 2}, `but not by HASH ("tenant_id")`},
		"rest of another":     {rls.Partitioned{Hash: 2, ByList: true}, rls.Partitioned{Hash: 3, ByList: true}, "which is none of 3"},
		"rest without hash":   {rls.Partitioned{ByList: true}, rls.Partitioned{Hash: 3, ByList: true}, "is not partitioned by HASH"},
		"rest with hash":      {rls.Partitioned{Hash: 2, ByList: true}, rls.Partitioned{ByList: true}, "name their number as Hash"},
		"neither":             {rls.Partitioned{ByList: true}, rls.Partitioned{}, "has neither Hash nor ByList"},
		"a tenant twice":      {rls.Partitioned{ByList: true}, rls.Partitioned{List: []string{"a", "a"}}, "List names a tenant twice"},
		"a tenant of no form": {rls.Partitioned{ByList: true}, rls.Partitioned{List: []string{""}}, "a tenant is not what PostgreSQL writes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			i := d.keyed()
			for _, p := range []*rls.Partitioned{&c.there, &c.wanted} {
				p.Model = &piece{}
			}
			i.Partition = []rls.Partitioned{c.there}
			d.migrateWith(t, i, &parcelled{}, &piece{})
			before := d.snapshot(t)
			i.Partition = []rls.Partitioned{c.wanted}
			_, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{})
			require.ErrorContains(t, err, c.err)
			_, err = i.Migrate(t.Context(), d.OwnerDB, &parcelled{}, &piece{})
			require.ErrorContains(t, err, c.err)
			require.Equal(t, before, d.snapshot(t))
		})
	}
}

// TestPartitionByListHasNamesThatFit has a table whose name has to be cut and quoted.
func TestPartitionByListHasNamesThatFit(t *testing.T) {
	d := newDatabase(t)
	i := d.keyed()
	i.Partition = []rls.Partitioned{{Model: &sack{}, Hash: 2, List: []string{"huge"}}}
	d.migrateWith(t, i, &sack{})
	require.Empty(t, d.migrateWith(t, i, &sack{}), "again")
	at := d.Open(t, d.Config()).WithContext(tenancy.WithTenant(t.Context(), "huge"))
	require.NoError(t, at.Create(&sack{ID: 1}).Error)
	require.NoError(t, at.First(&sack{}, 1).Error)
	report, err := i.Check(t.Context(), d.OwnerDB, check.ModelsOnly(&sack{}))
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}
