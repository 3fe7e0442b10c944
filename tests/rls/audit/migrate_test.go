package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestAuditMigratesOnce(t *testing.T) {
	d := newDatabase(t)
	require.Empty(t, d.Migrate(t, d.isolation, models...))
	report, err := d.isolation.Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	require.NoError(t, report.Err())
}

func TestAuditWithEachRole(t *testing.T) {
	d := database{Database: testdb.New(t)}
	d.isolation = d.Isolation()
	d.isolation.LookupRole, d.isolation.BackupRole = d.Lookup.Role, ""
	d.isolation.Audits = []rls.Audit{{Model: &account{}}}
	d.AsOwner(t, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "+d.App.Role+", "+d.Lookup.Role, "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO "+d.App.Role,
		"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO "+d.App.Role)
	d.Migrate(t, d.isolation, models...)
	require.Empty(t, d.Migrate(t, d.isolation, models...))
	require.Equal(t, []string{"SELECT"}, list(t, d.OwnerDB, `SELECT DISTINCT privilege_type FROM pg_class, aclexplode(relacl)
		WHERE relname LIKE 'tenancy\_audit%' AND grantee <> relowner`))
	require.Equal(t, []string{"false"}, list(t, d.OwnerDB, "SELECT has_function_privilege('"+d.App.Role+"', 'tenancy_audit()', 'EXECUTE')::text"))
	require.Equal(t, []string{"false"}, list(t, d.OwnerDB, "SELECT has_any_column_privilege('"+d.Lookup.Role+"', 'tenancy_audit', 'SELECT')::text"))
}

// repaired are statements of the owner that Migrate undoes.
var repaired = []string{
	"ALTER TABLE accounts DISABLE TRIGGER tenancy_audit",
	"ALTER TABLE accounts ENABLE TRIGGER tenancy_audit",
	"ALTER TABLE accounts ENABLE REPLICA TRIGGER tenancy_audit",
	"DROP TRIGGER tenancy_audit ON entries",
	"ALTER TABLE accounts DISABLE TRIGGER tenancy_audit_truncate",
	"DROP TRIGGER tenancy_audit ON accounts; CREATE TRIGGER tenancy_audit AFTER INSERT ON accounts FOR EACH ROW " +
		"EXECUTE FUNCTION tenancy_audit('accounts', 'tenant_id', '{id}', '{}', '{}')",
	"DROP TRIGGER tenancy_audit ON accounts; CREATE TRIGGER tenancy_audit AFTER INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW " +
		"EXECUTE FUNCTION tenancy_audit('accounts', 'tenant_id', '{id}', '{name}', '{}')",
	"CREATE OR REPLACE FUNCTION tenancy_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; END'",
	"ALTER FUNCTION tenancy_audit() SECURITY INVOKER",
	"ALTER FUNCTION tenancy_audit() RESET ALL",
	"GRANT EXECUTE ON FUNCTION tenancy_audit() TO PUBLIC",
	"GRANT INSERT ON tenancy_audit TO app",
	"ALTER TABLE tenancy_audit NO FORCE ROW LEVEL SECURITY",
	"ALTER TABLE tenancy_audit_default DISABLE ROW LEVEL SECURITY",
	"DROP POLICY tenant_audit ON tenancy_audit",
	"DROP POLICY tenant_isolation ON tenancy_audit",
}

func TestAuditMigrateRepairs(t *testing.T) {
	d := newDatabase(t)
	for _, statement := range repaired {
		t.Run(statement, func(t *testing.T) {
			d.AsOwner(t, d.named(statement))
			require.NotEmpty(t, d.Migrate(t, d.isolation, models...))
			require.Empty(t, d.Migrate(t, d.isolation, models...))
			records := len(d.records(t, summary))
			d.run(t, "acme", "INSERT INTO accounts (id, name) SELECT 1 + count(*), count(*) FROM accounts")
			require.Len(t, d.records(t, summary), records+1)
		})
	}
}

type (
	reading struct {
		ID       int64  `gorm:"primaryKey;autoIncrement:false"`
		TenantID string `gorm:"primaryKey"`
		Year     int64  `gorm:"primaryKey;autoIncrement:false"`
		Value    int64
	}
	shape struct {
		ID       int64
		TenantID string
	}
)

func TestAuditRecordsPartitionsAndChildren(t *testing.T) {
	d := database{Database: testdb.New(t)}
	d.isolation = d.Isolation()
	d.isolation.Audits = []rls.Audit{{Model: &reading{}}, {Model: &shape{}}}
	d.AsOwner(t, "CREATE TABLE readings (tenant_id text, year bigint, id bigint, value bigint, PRIMARY KEY (tenant_id, year, id)) PARTITION BY LIST (year)",
		"CREATE TABLE readings_1 PARTITION OF readings FOR VALUES IN (1)", "CREATE TABLE shapes (id bigint PRIMARY KEY, tenant_id text)",
		"CREATE TABLE circles (radius int) INHERITS (shapes)")
	d.Migrate(t, d.isolation, &reading{}, &shape{})
	require.Empty(t, d.Migrate(t, d.isolation, &reading{}, &shape{}))
	d.AsOwner(t, "CREATE TABLE readings_2 PARTITION OF readings FOR VALUES IN (2)", d.named("GRANT ALL ON circles, readings_1 TO app"))
	d.app = d.Open(t, d.Config())

	d.run(t, "acme", "INSERT INTO readings (id, year, value) VALUES (1, 1, 10), (2, 2, 20)")
	d.run(t, "acme", "UPDATE readings SET year = 2 WHERE id = 1")
	d.run(t, "acme", "INSERT INTO readings_1 (tenant_id, id, year) VALUES ('acme', 3, 1)")
	d.run(t, "acme", "INSERT INTO circles (id, tenant_id, radius) VALUES (1, 'acme', 5)")
	d.run(t, "acme", "UPDATE shapes SET id = 2")
	require.Equal(t, []string{
		"INSERT readings 1 10 ", "INSERT readings 2 20 ", "DELETE readings 1  10", "INSERT readings 1 10 ", "INSERT readings 3  ",
		"INSERT shapes 1 5 ", "UPDATE shapes 2  ",
	}, d.records(t, `SELECT concat(operation, ' ', table_name, ' ', key ->> 'id', ' ', coalesce(after ->> 'value', after ->> 'radius'), ' ', before ->> 'value')
		FROM tenancy_audit ORDER BY id`))

	require.NotEmpty(t, d.Migrate(t, d.isolation, &reading{}, &shape{}), "the new partition")
	require.Empty(t, d.Migrate(t, d.isolation, &reading{}, &shape{}))
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), "TRUNCATE readings_2")
	requireCode(t, err, "55000")
}

func TestAuditRefusesWhatItCannotRecord(t *testing.T) {
	d := testdb.New(t)
	for says, audit := range map[string]rls.Audit{
		`Audits: column "id" of model *audit_test.account says which row`:        {Model: &account{}, Omit: []string{"id"}},
		`Audits: column "tenant_id" of model *audit_test.account says which row`: {Model: &account{}, Mask: []string{"tenant_id"}},
		`Audits: model *audit_test.account has no column "none"`:                 {Model: &account{}, Mask: []string{"none"}},
		`Audits: model *audit_test.shape is not among those`:                     {Model: &shape{}},
		`Audits: the rows of table public.country belong to no tenant`:           {Model: &country{}},
	} {
		i := d.Isolation()
		i.Audits = []rls.Audit{audit}
		_, err := i.Migrate(t.Context(), d.OwnerDB, append([]any{&country{}}, models...)...)
		require.ErrorContains(t, err, "tenancy: ")
		require.ErrorContains(t, err, says)
	}
}

type country struct {
	ID   int64
	Name string
}

func (country) TenantShared()     {}
func (country) TableName() string { return "country" }

func TestAuditIsPlanned(t *testing.T) {
	d := database{Database: testdb.New(t)}
	d.isolation = d.Isolation()
	d.isolation.Audits = []rls.Audit{{Model: &account{}}}
	plan, err := d.isolation.Plan(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "rest: public.tenancy_audit: make the table of records")
	require.Contains(t, plan.String(), "create trigger tenancy_audit (SHARE ROW EXCLUSIVE)")
	require.Empty(t, list(t, d.OwnerDB, "SELECT relname FROM pg_class WHERE relname LIKE 'tenancy%'"))
}
