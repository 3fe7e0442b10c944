package rls_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type (
	textRow struct {
		ID       int64
		TenantID string `gorm:"type:text"`
	}
	varcharRow struct {
		ID       int64
		TenantID string `gorm:"size:36"`
	}
	uuidRow struct {
		ID       int64
		TenantID string `gorm:"type:uuid"`
	}
	smallintRow struct {
		ID       int64
		TenantID int16
	}
	integerRow struct {
		ID       int64
		TenantID int32
	}
	bigintRow struct {
		ID       int64
		TenantID uint64
	}
)

func (textRow) TableName() string     { return "rows" }
func (varcharRow) TableName() string  { return "rows" }
func (uuidRow) TableName() string     { return "rows" }
func (smallintRow) TableName() string { return "rows" }
func (integerRow) TableName() string  { return "rows" }
func (bigintRow) TableName() string   { return "rows" }

// columnTypes are the types a tenant column can have, each with a model and two tenants.
var columnTypes = map[string]struct {
	model any
	a, b  string
}{
	"text":                  {&textRow{}, "acme", "globex"},
	"character varying(36)": {&varcharRow{}, "acme", `o'reilly \ sons`},
	"uuid":                  {&uuidRow{}, "018f3a5e-0000-7000-8000-000000000001", "018f3a5e-0000-7000-8000-000000000002"},
	"smallint":              {&smallintRow{}, "1", "32767"},
	"integer":               {&integerRow{}, "1", "2147483647"},
	"bigint":                {&bigintRow{}, "1", "9223372036854775807"},
}

func TestMigrateColumnTypes(t *testing.T) {
	for name, test := range columnTypes {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.migrate(t, test.model)
			pool, err := d.OwnerDB.DB()
			require.NoError(t, err)
			require.Equal(t, []string{name}, collect(t, pool, `SELECT format_type(atttypid, atttypmod) FROM pg_attribute
				WHERE attrelid = 'rows'::regclass AND attname = 'tenant_id'`))

			const insert, tenants = "INSERT INTO rows DEFAULT VALUES", "SELECT tenant_id::text FROM rows"
			d.as(t, test.a, insert)
			d.as(t, test.b, insert, insert)
			require.Equal(t, []string{test.a}, d.sees(t, test.a, tenants))
			require.Equal(t, []string{test.b, test.b}, d.sees(t, test.b, tenants))
			require.Empty(t, d.sees(t, "", tenants))

			tx := d.begin(t, test.a)
			require.NoError(t, tx.exec("SET LOCAL enable_seqscan = off"))
			plan := strings.Join(tx.strings(t, "EXPLAIN SELECT * FROM rows"), "\n")
			require.Contains(t, plan, "Index Cond: ", "the policy's predicate uses the index")
			require.Contains(t, plan, "InitPlan", "the setting is read once")
			require.NoError(t, tx.Rollback())

			require.Empty(t, d.migrate(t, test.model), "a second run")
		})
	}
}

// A cast to varchar(n) cuts its operand off without an error.
func TestMigrateDoesNotCutOffLongTenants(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &varcharRow{})
	full := strings.Repeat("a", 36)
	d.as(t, full, "INSERT INTO rows DEFAULT VALUES")
	require.Len(t, d.sees(t, full, "SELECT id FROM rows"), 1)
	require.Empty(t, d.sees(t, full+"b", "SELECT id FROM rows"))
	requireCode(t, d.fails(t, full+"b", "INSERT INTO rows DEFAULT VALUES"), "22001")
}

func TestMigrateRefusesColumnTypes(t *testing.T) {
	for _, name := range []string{"jsonb", "char(3)", "numeric", "text[]", "timestamptz"} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsOwner(t, "CREATE TABLE notes (id bigserial PRIMARY KEY, body text, tenant_id "+name+")")
			type note struct {
				ID   int64
				Body string
			}
			_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &note{})
			require.ErrorContains(t, err, "column tenant_id of table public.notes has type ")
			require.ErrorContains(t, err, "use one of")
		})
	}
}

func TestMigrateChangedColumnType(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &textRow{})
	uuid := columnTypes["uuid"]
	d.as(t, uuid.a, "INSERT INTO rows DEFAULT VALUES")
	d.as(t, uuid.b, "INSERT INTO rows DEFAULT VALUES")

	require.Equal(t, []string{
		"public.rows: set default of tenant_id",
		"public.rows: create policy tenant_isolation",
	}, d.migrate(t, &uuidRow{}))
	require.Equal(t, []string{uuid.a}, d.sees(t, uuid.a, "SELECT tenant_id::text FROM rows"))
	require.Empty(t, d.migrate(t, &uuidRow{}), "a second run")
}

func TestMigrateChangedColumnLength(t *testing.T) {
	type longRow struct {
		ID       int64
		TenantID string `gorm:"size:64"`
	}
	d := newDatabase(t)
	d.migrate(t, &varcharRow{})
	d.AsOwner(t, "ALTER TABLE rows RENAME TO long_rows")
	d.migrate(t, &longRow{})
	require.Empty(t, d.migrate(t, &longRow{}), "a second run")
	d.as(t, strings.Repeat("a", 64), "INSERT INTO long_rows DEFAULT VALUES")
}
