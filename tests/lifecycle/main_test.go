// Package lifecycle_test tests package lifecycle against a real PostgreSQL.
package lifecycle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) {
	if operation := os.Getenv(killedOperation); operation != "" {
		os.Exit(killed(operation))
	}
	pgserver.Main(m)
}

// Org is the table of tenants.
type Org struct {
	ID   string `gorm:"primaryKey"`
	Name string
}

func (Org) TenantOwnRows() {}

// Plan is shared.
type Plan struct {
	ID   int64
	Name string
}

func (Plan) TenantShared() {}

// Person refers to a plan, and to another person: rows may refer to each other in a circle.
type Person struct {
	ID       int64
	TenantID string
	Name     string
	PlanID   *int64
	Plan     *Plan
	BossID   *int64
	Boss     *Person
	Projects []*Project `gorm:"many2many:person_projects"`
}

// Project and Task refer to each other.
type Project struct {
	ID        int64
	TenantID  string
	Name      string
	FirstTask *int64
	Tasks     []Task
}

// Task is a child without a column of its own.
type Task struct {
	ID        int64
	ProjectID int64
	Done      bool
}

var models = []any{&Org{}, &Plan{}, &Person{}, &Project{}, &Task{}}

// odd has what JSON and careless exports lose, as a table that is isolated by hand.
const odd = `CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE odds (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant_id text NOT NULL,
	bytes bytea, exact numeric, at timestamptz, day date, doc jsonb, plain json, list text[], many numeric[], span interval,
	big int8, f float8, feel mood, ranges int4range, fixed char(5), flags bit(3), addr inet, body xml, title text,
	twice bigint GENERATED ALWAYS AS (big / 2) STORED
)`

func isolated(table string) []string {
	return isolatedBy("NULLIF(current_setting('app.tenant_id', true), '')::text", table)
}

func isolatedBy(tenant, table string) []string {
	current := "tenant_id = (SELECT " + tenant + ")"
	return []string{
		fmt.Sprintf("CREATE POLICY tenant_isolation ON %s USING (%s) WITH CHECK (%[2]s)", table, current),
		fmt.Sprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", table),
		fmt.Sprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", table),
	}
}

const oddRows = `INSERT INTO odds (tenant_id, bytes, exact, at, day, doc, plain, list, many, span, big, f, feel, ranges, fixed, flags, addr, body, title)
VALUES (%[1]s, '\x00ff22', 12345678901234567890.123456789012345678901234567890, '2024-02-29 23:59:59.999999+05:45', '-infinity',
	'{"a": 1.0000000000000000000001, "b": [null, "\u00e9"]}', '{"z":1,  "a":2}', ARRAY['a,b', NULL, '"q"', ''], ARRAY[1.10, 'NaN'],
	'1 year 2 mons -3 days 04:05:06.789', 9007199254740993, 'Infinity', 'glad', '[1,5)', 'ab', B'101', '10.0.0.1/8', '<a>x</a>', E'l1\nl2\t\\N "<&>' || chr(8232)),
	(%[1]s, NULL, NULL, 'infinity', NULL, NULL, NULL, '{}', NULL, '-1 mon', -9223372036854775808, 0.1::float8 + 0.2::float8, NULL, 'empty', NULL, NULL, NULL, NULL, '')`

// fixture is a database with the rows of two tenants.
func fixture(t *testing.T) *testdb.Database {
	t.Helper()
	d := testdb.New(t, models...)
	addOdds(t, d)
	return d
}

// addOdds adds the table whose policy is written by hand.
func addOdds(t *testing.T, d *testdb.Database) {
	t.Helper()
	policies := isolated("odds")
	if d.Signed() {
		policies = isolatedBy("tenancy_signed.tenant('app.tenant_id')", "odds")
	}
	d.AsOwner(t, odd)
	d.AsOwner(t, append(policies, "GRANT SELECT, INSERT, UPDATE, DELETE ON odds TO "+d.App.Role)...)
}

func filled(t *testing.T) *testdb.Database {
	t.Helper()
	d := fixture(t)
	fill(t, d)
	return d
}

func fill(t *testing.T, d *testdb.Database) {
	t.Helper()
	d.AsSuperuser(t, "INSERT INTO plans (id, name) VALUES (1, 'free')")
	for n, tenant := range []string{testdb.Acme, testdb.Globex} {
		first, literal := 1000*n+1, "'"+tenant+"'"
		d.AsSuperuser(t,
			fmt.Sprintf("INSERT INTO orgs (id, name) VALUES (%s, 'The Company')", literal),
			fmt.Sprintf("INSERT INTO people (id, tenant_id, name, plan_id, boss_id) SELECT i, %s, 'p' || i, 1, CASE WHEN i > %d THEN i - 1 END FROM generate_series(%[2]d, %[2]d + 9) i", literal, first),
			fmt.Sprintf("UPDATE people SET boss_id = %d WHERE id = %d", first+1, first), // who refers back
			fmt.Sprintf("INSERT INTO projects (id, tenant_id, name) SELECT i, %s, 'p' || i FROM generate_series(%d, %[2]d + 4) i", literal, first),
			fmt.Sprintf("INSERT INTO tasks (id, tenant_id, project_id) SELECT i, %s, %d + i %% 5 FROM generate_series(%[2]d, %[2]d + 29) i", literal, first),
			fmt.Sprintf("INSERT INTO person_projects (tenant_id, person_id, project_id) SELECT %s, i, %d FROM generate_series(%[2]d, %[2]d + 4) i", literal, first),
			fmt.Sprintf(oddRows, literal))
	}
}

// tenants works as the owner.
func tenants(t *testing.T, d *testdb.Database) lifecycle.Tenants {
	t.Helper()
	return lifecycle.Tenants{DB: testdb.OpenSQL(t, d.Owner.DSN), Actor: "a test", Logger: testdb.Quiet}
}

// export exports a tenant into memory.
func export(t *testing.T, l lifecycle.Tenants, tenant string) (lifecycle.Manifest, *bytes.Reader) {
	t.Helper()
	var file bytes.Buffer
	m, err := l.Export(t.Context(), tenant, &file)
	require.NoError(t, err)
	return m, bytes.NewReader(file.Bytes())
}

// checksum is one of all rows of a tenant, as the superuser sees them, read without package lifecycle.
func checksum(t *testing.T, d *testdb.Database, tenant string) string {
	t.Helper()
	pool := testdb.OpenSQL(t, d.SuperuserDSN(t))
	sum := sha256.New()
	for _, table := range tablesOf(t, pool) {
		rows, err := pool.QueryContext(t.Context(), fmt.Sprintf("SELECT t::text FROM %s t WHERE %s = $1 ORDER BY 1", table.from, table.key), tenant)
		require.NoError(t, err)
		for rows.Next() {
			var row string
			require.NoError(t, rows.Scan(&row))
			_, _ = io.WriteString(sum, table.name+row+"\n")
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
	return hex.EncodeToString(sum.Sum(nil))
}

type table struct{ name, from, key string }

func tablesOf(t *testing.T, pool *sql.DB) []table {
	t.Helper()
	var list []table
	rows, err := pool.QueryContext(context.WithoutCancel(t.Context()), `SELECT oid::regclass::text, CASE WHEN relname = 'orgs' THEN 'id' ELSE 'tenant_id' END,
		CASE relkind WHEN 'r' THEN 'ONLY ' ELSE '' END || oid::regclass FROM pg_class
		WHERE relkind IN ('r', 'p') AND relname <> 'plans' AND relnamespace = 'public'::regnamespace AND NOT relispartition ORDER BY 1`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var one table
		require.NoError(t, rows.Scan(&one.name, &one.key, &one.from))
		list = append(list, one)
	}
	require.NoError(t, rows.Err())
	return list
}
