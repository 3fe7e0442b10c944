package statement_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// planNode is a node of a plan, as EXPLAIN (FORMAT JSON) writes it.
type planNode struct {
	Type    string `json:"Node Type"`
	Table   string `json:"Relation Name"`
	Index   string `json:"Index Name"`
	Cond    string `json:"Index Cond"`
	Once    string `json:"One-Time Filter"`
	Filter  string
	Rows    float64 `json:"Plan Rows"`
	Removed int     `json:"Subplans Removed"`
	Plans   []planNode
}

func (n planNode) all() []planNode {
	nodes := []planNode{n}
	for _, child := range n.Plans {
		nodes = append(nodes, child.all()...)
	}
	return nodes
}

// partsOf are the partitions of a table that the plan reads, each once.
func (n planNode) partsOf(table string) (parts []string) {
	for _, node := range n.all() {
		if strings.HasPrefix(node.Table, table+"_") && !slices.Contains(parts, node.Table) {
			parts = append(parts, node.Table)
		}
	}
	return parts
}

// removed counts the partitions that are left out when the plan is executed.
func (n planNode) removed() (removed int) {
	for _, node := range n.all() {
		removed += node.Removed
	}
	return removed
}

// scan is the only node that searches an index.
func (n planNode) scan(t *testing.T) planNode {
	t.Helper()
	nodes := slices.DeleteFunc(n.all(), func(n planNode) bool { return n.Index == "" })
	require.Len(t, nodes, 1, "%+v", n)
	return nodes[0]
}

// once are the conditions that are evaluated before any row is read.
func (n planNode) once() (conditions []string) {
	for _, node := range n.all() {
		if node.Once != "" {
			conditions = append(conditions, node.Once)
		}
	}
	return conditions
}

// explained is a database that is asked for the plans of what GORM sends.
type explained struct {
	*testdb.Database
}

func newExplained(t *testing.T, models ...any) *explained {
	t.Helper()
	return &explained{testdb.New(t, models...)}
}

// client is the application's, with settings that its sessions begin with.
func (d *explained) client(t *testing.T, cfg tenancy.Config, settings map[string]string) *gorm.DB {
	t.Helper()
	dsn := d.App.DSN
	for name, value := range settings {
		dsn = testdb.WithParam(dsn, name, value)
	}
	db, err := testdb.OpenGuarded(t, dsn, cfg, usual(logger.Discard))
	require.NoError(t, err)
	return db
}

// plan explains what GORM sends, through the guarded client, as a prepared statement with parameters, so that plan_cache_mode
// decides about it.
func (d *explained) plan(t *testing.T, db *gorm.DB, tenant string, build func(db *gorm.DB) *gorm.DB) planNode {
	t.Helper()
	db = db.WithContext(as(tenant))
	stmt := build(db.Session(&gorm.Session{DryRun: true})).Statement
	require.NoError(t, stmt.Error)
	arguments := make([]string, len(stmt.Vars))
	for i, v := range stmt.Vars {
		if at, ok := v.(time.Time); ok {
			v = at.Format(time.RFC3339)
		}
		arguments[i] = "'" + fmt.Sprint(v) + "'"
	}
	call := ""
	if len(arguments) > 0 {
		call = "(" + strings.Join(arguments, ", ") + ")"
	}
	var text string
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("PREPARE explained AS " + stmt.SQL.String()).Error; err != nil {
			return err
		}
		if err := tx.Raw("EXPLAIN (FORMAT JSON) EXECUTE explained" + call).Scan(&text).Error; err != nil {
			return err
		}
		return tx.Exec("DEALLOCATE explained").Error
	}))
	var result []struct{ Plan planNode }
	require.NoError(t, json.Unmarshal([]byte(text), &result))
	return result[0].Plan
}

// ListVisit and HashVisit are of tables that are partitioned by the tenant.
type ListVisit struct {
	TenantID string `gorm:"primaryKey"`
	ID       int64  `gorm:"primaryKey;autoIncrement:false"`
	Reason   string
}

type HashVisit struct {
	TenantID string `gorm:"primaryKey"`
	ID       int64  `gorm:"primaryKey;autoIncrement:false"`
	ListID   int64
	List     *ListVisit `gorm:"foreignKey:TenantID,ListID;references:TenantID,ID"`
	Reason   string
}

// parts is how many partitions each has.
const parts = 4

func partitionedVisits() []string {
	sql := []string{
		`CREATE TABLE list_visits (tenant_id text, id bigint, reason text, PRIMARY KEY (tenant_id, id)) PARTITION BY LIST (tenant_id)`,
		`CREATE TABLE list_visits_acme PARTITION OF list_visits FOR VALUES IN ('acme')`,
		`CREATE TABLE list_visits_globex PARTITION OF list_visits FOR VALUES IN ('globex')`,
		`CREATE TABLE list_visits_initech PARTITION OF list_visits FOR VALUES IN ('initech')`,
		`CREATE TABLE list_visits_rest PARTITION OF list_visits DEFAULT`,
		`CREATE TABLE hash_visits (tenant_id text, id bigint, list_id bigint, reason text, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id)`,
	}
	for i := range parts {
		sql = append(sql, fmt.Sprintf(`CREATE TABLE hash_visits_%d PARTITION OF hash_visits FOR VALUES WITH (MODULUS %d, REMAINDER %[1]d)`, i, parts))
	}
	return sql
}

// TestExplainPrunesPartitionsWhenPlanning: the condition tells the planner the tenant, so it leaves the partitions of others
// out. The policy alone leaves them to the executor.
func TestExplainPrunesPartitionsWhenPlanning(t *testing.T) {
	d := newExplained(t)
	d.AsOwner(t, partitionedVisits()...)
	d.Migrate(t, d.Isolation(), &ListVisit{}, &HashVisit{})

	queries := []struct {
		name   string
		tables []string
		build  func(db *gorm.DB) *gorm.DB
	}{
		{"Find in LIST", []string{"list_visits"}, func(db *gorm.DB) *gorm.DB { return db.Where("reason = ?", "x").Find(&[]ListVisit{}) }},
		{"Find in HASH", []string{"hash_visits"}, func(db *gorm.DB) *gorm.DB { return db.Where("reason = ?", "x").Find(&[]HashVisit{}) }},
		{"Count", []string{"hash_visits"}, func(db *gorm.DB) *gorm.DB {
			var n int64
			return db.Model(&HashVisit{}).Count(&n)
		}},
		{"Joins", []string{"hash_visits", "list_visits"}, func(db *gorm.DB) *gorm.DB { return db.Joins("List").Find(&[]HashVisit{}) }},
		{"Update", []string{"hash_visits"}, func(db *gorm.DB) *gorm.DB {
			return db.Model(&HashVisit{}).Where("id > ?", 1).Update("reason", "y")
		}},
		{"Delete", []string{"list_visits"}, func(db *gorm.DB) *gorm.DB { return db.Where("id > ?", 1).Delete(&ListVisit{}) }},
	}
	custom := map[string]string{"plan_cache_mode": "force_custom_plan"}
	guarded := d.client(t, tenancy.Config{}, custom)
	alone := d.client(t, tenancy.Config{OmitTenantCondition: true}, custom)
	generic := d.client(t, tenancy.Config{}, map[string]string{"plan_cache_mode": "force_generic_plan"})
	for _, q := range queries {
		t.Run(q.name, func(t *testing.T) {
			plan := d.plan(t, guarded, acme, q.build)
			require.Zero(t, plan.removed(), "%+v", plan)
			for _, table := range q.tables {
				require.Len(t, plan.partsOf(table), 1, "%s: %+v", table, plan)
			}
			policy := d.plan(t, alone, acme, q.build)
			require.Zero(t, policy.removed(), "%+v", policy)
			for _, table := range q.tables {
				require.Len(t, policy.partsOf(table), parts, "%s: %+v", table, policy)
			}
			if len(q.tables) == 1 && q.name != "Update" && q.name != "Delete" {
				plan := d.plan(t, generic, acme, q.build)
				require.Equal(t, parts-1, plan.removed(), "a generic plan does not know the tenant: %+v", plan)
			}
		})
	}
	require.Equal(t, []string{"list_visits_globex"}, d.plan(t, guarded, globex, queries[0].build).partsOf("list_visits"))
	require.Equal(t, []string{"list_visits_rest"}, d.plan(t, guarded, "other", queries[0].build).partsOf("list_visits"))
}

// TestExplainPlansOnePartitionOfMany: of the partitions that Migrate makes the planner opens the tenant's.
func TestExplainPlansOnePartitionOfMany(t *testing.T) {
	for _, p := range []rls.Partitioned{{Hash: 64}, {List: []string{acme}, Hash: 4}} {
		t.Run(fmt.Sprintf("by list %t", len(p.List) > 0), func(t *testing.T) {
			explainOnePartition(t, p)
		})
	}
}

func explainOnePartition(t *testing.T, p rls.Partitioned) {
	d := &explained{testdb.NewPartitioned(t, p, partitionedModels, models...)}
	guarded := d.client(t, tenancy.Config{}, map[string]string{"plan_cache_mode": "force_custom_plan"})
	for name, q := range map[string]struct {
		tables []string
		build  func(db *gorm.DB) *gorm.DB
	}{
		"First by id": {[]string{"books"}, func(db *gorm.DB) *gorm.DB { return db.First(&Book{}, 1) }},
		"Find":        {[]string{"books"}, func(db *gorm.DB) *gorm.DB { return db.Where("title = ?", "x").Find(&[]Book{}) }},
		"Joins":       {[]string{"books", "authors"}, func(db *gorm.DB) *gorm.DB { return db.Joins("Author").Find(&[]Book{}) }},
		"Update":      {[]string{"books"}, func(db *gorm.DB) *gorm.DB { return db.Model(&Book{ID: 1}).Update("title", "x") }},
		"Delete":      {[]string{"tags"}, func(db *gorm.DB) *gorm.DB { return db.Delete(&Tag{}, 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tenant := range []string{acme, globex} {
				plan := d.plan(t, guarded, tenant, q.build)
				require.Zero(t, plan.removed(), "left to the executor: %+v", plan)
				for _, table := range q.tables {
					require.Len(t, plan.partsOf(table), 1, "%s: %+v", table, plan)
				}
			}
		})
	}
	find := func(db *gorm.DB) *gorm.DB { return db.Find(&[]Book{}) }
	if len(p.List) > 0 {
		require.Equal(t, []string{"books_t_acme"}, d.plan(t, guarded, acme, find).partsOf("books"))
	}
	require.NotEqual(t, d.plan(t, guarded, acme, find).partsOf("books"), d.plan(t, guarded, globex, find).partsOf("books"))
}

// UUIDNote, BigintNote and VarcharNote have tenants of three types.
type UUIDNote struct {
	ID        int64
	TenantID  string    `gorm:"type:uuid;not null;index:,composite:newest,priority:1"`
	CreatedAt time.Time `gorm:"index:,composite:newest,priority:2"`
}

type BigintNote struct {
	ID        int64
	TenantID  int64     `gorm:"not null;index:,composite:newest,priority:1"`
	CreatedAt time.Time `gorm:"index:,composite:newest,priority:2"`
}

type VarcharNote struct {
	ID        int64
	TenantID  string    `gorm:"type:varchar(40);not null;index:,composite:newest,priority:1"`
	CreatedAt time.Time `gorm:"index:,composite:newest,priority:2"`
}

// x
var x = []struct {
	name, table string
	value       string // SQL that makes the tenant of a number
	tenant      func(n int) string
	find        func(db *gorm.DB) *gorm.DB
}{
	{
		"uuid", "uuid_notes", `('00000000-0000-4000-8000-' || lpad(t::text, 12, '0'))::uuid`,
		func(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) },
		func(db *gorm.DB) *gorm.DB { return db.Find(&[]UUIDNote{}) },
	},
	{
		"bigint", "bigint_notes", `t`, func(n int) string { return fmt.Sprint(n) },
		func(db *gorm.DB) *gorm.DB { return db.Find(&[]BigintNote{}) },
	},
	{
		"varchar", "varchar_notes", `'tenant-' || t`, func(n int) string { return fmt.Sprint("tenant-", n) },
		func(db *gorm.DB) *gorm.DB { return db.Find(&[]VarcharNote{}) },
	},
}

// TestExplainMergesConditionAndPolicy: the condition and the policy become one search of the index, for each type of the
// column, in generic and in custom plans; and a custom plan knows how many rows the tenant has.
func TestExplainMergesConditionAndPolicy(t *testing.T) {
	d := newExplained(t, &UUIDNote{}, &BigintNote{}, &VarcharNote{})
	const huge, tiny = 1, 2 // of 20,000 rows the one has 8,000, the other 12
	for _, typ := range x {
		d.AsSuperuser(t, `INSERT INTO `+typ.table+` (tenant_id, created_at)
			SELECT `+typ.value+`, '2024-01-01'::timestamptz + n * interval '1 minute'
			FROM (SELECT n, CASE WHEN n % 5 < 2 THEN 1 ELSE 2 + n % 999 END AS t FROM generate_series(1, 20000) n) r`,
			`VACUUM ANALYZE `+typ.table)
	}
	newest := func(find func(db *gorm.DB) *gorm.DB) func(db *gorm.DB) *gorm.DB {
		return func(db *gorm.DB) *gorm.DB {
			return find(db.Where("created_at < ?", noon).Order("created_at DESC").Limit(20))
		}
	}
	for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
		settings := map[string]string{"plan_cache_mode": mode}
		guarded := d.client(t, tenancy.Config{}, settings)
		alone := d.client(t, tenancy.Config{OmitTenantCondition: true}, settings)
		for _, typ := range x {
			t.Run(mode+"/"+typ.name, func(t *testing.T) {
				build := newest(typ.find)
				plan := d.plan(t, guarded, typ.tenant(huge), build)
				scan := plan.scan(t)
				require.Equal(t, 1, strings.Count(scan.Cond, "tenant_id"), "%+v", plan)
				require.NotContains(t, scan.Filter, "tenant_id", "%+v", plan)
				require.Len(t, plan.once(), 1, "the condition and the policy are compared once: %+v", plan)

				value := "$"
				if mode == "force_custom_plan" {
					value = "'" + typ.tenant(huge) + "'"
				}
				require.Regexp(t, `tenant_id\)?(::text)? = \(?`+regexp.QuoteMeta(value), scan.Cond, "%+v", plan)
				require.Contains(t, plan.once()[0], value)
				require.Empty(t, d.plan(t, alone, typ.tenant(huge), build).once(), "without the condition there is nothing to merge")

				known := d.plan(t, guarded, typ.tenant(huge), build).scan(t).Rows != d.plan(t, guarded, typ.tenant(tiny), build).scan(t).Rows
				require.Equal(t, mode == "force_custom_plan", known, "only a custom plan knows how many rows the tenant has")
				same := d.plan(t, alone, typ.tenant(huge), build).scan(t).Rows == d.plan(t, alone, typ.tenant(tiny), build).scan(t).Rows
				require.True(t, same, "and none knows it by the policy")
			})
		}
	}
}
