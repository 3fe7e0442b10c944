package audit_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
)

// attacked has a record of acme and one of globex.
func attacked(t *testing.T) database {
	t.Helper()
	d := newDatabase(t)
	d.run(t, "acme", "INSERT INTO accounts (id, name) VALUES (1, 'a')")
	d.run(t, "globex", "INSERT INTO accounts (id, name) VALUES (2, 'b')")
	return d
}

func TestAuditRecordsAreReadByTheirTenantAlone(t *testing.T) {
	d := attacked(t)
	var own []rls.AuditRecord
	require.NoError(t, d.of(t, "acme").Order("id").Find(&own).Error)
	require.Len(t, own, 1)
	require.Equal(t, "acme", own[0].TenantID)
	require.JSONEq(t, `{"id": 1}`, string(own[0].Key))
	require.Nil(t, own[0].Before)
	require.Contains(t, string(own[0].After), `"name": "a"`)

	for _, from := range []string{"tenancy_audit", "tenancy_audit WHERE tenant_id = 'globex'", "tenancy_audit WHERE true OR tenant_id = 'acme'"} {
		found := list(t, d.of(t, "acme"), "SELECT tenant_id FROM "+from)
		require.NotContains(t, found, "globex")
	}
	require.Empty(t, list(t, d.app.WithContext(tenancy.WithoutTenant(t.Context())), "SELECT tenant_id FROM tenancy_audit"))
	requireCode(t, d.of(t, "acme").Exec("SELECT * FROM tenancy_audit_default").Error, insufficientPrivilege)
	require.Empty(t, list(t, d.OwnerDB, "SELECT tenant_id FROM tenancy_audit_default"), "the owner is bound as well")
}

func TestAuditRecordsCannotBeChanged(t *testing.T) {
	d := attacked(t)
	admin := tenancy.Bypass(d.app, "an attack")
	statements := []string{
		"UPDATE tenancy_audit SET actor = 'another'",
		"DELETE FROM tenancy_audit",
		"TRUNCATE tenancy_audit",
		"DELETE FROM tenancy_audit_default",
		"INSERT INTO tenancy_audit (tenant_id, at, xact, operation, table_schema, table_name, login, role) VALUES ('acme', now(), 1, 'DELETE', 's', 't', 'l', 'r')",
		"INSERT INTO tenancy_audit OVERRIDING SYSTEM VALUE SELECT * FROM tenancy_audit",
		"ALTER TABLE accounts DISABLE TRIGGER tenancy_audit",
		"ALTER TABLE accounts DISABLE TRIGGER ALL",
		"DROP TRIGGER tenancy_audit ON accounts",
		"DROP TABLE tenancy_audit",
		"DROP FUNCTION tenancy_audit() CASCADE",
		"CREATE OR REPLACE FUNCTION tenancy_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"ALTER TABLE tenancy_audit NO FORCE ROW LEVEL SECURITY",
		"SET session_replication_role = replica",
		"ALTER FUNCTION tenancy_audit() SET search_path = pg_temp",
		"SELECT setval('tenancy_audit_id_seq', 1)",
	}
	before := d.records(t, "SELECT a::text FROM tenancy_audit a ORDER BY id")
	for _, statement := range statements {
		t.Run(statement, func(t *testing.T) {
			for _, db := range []*gorm.DB{d.of(t, "acme"), admin} {
				requireCode(t, db.Exec(statement).Error, insufficientPrivilege)
			}
		})
	}
	require.Equal(t, before, d.records(t, "SELECT a::text FROM tenancy_audit a ORDER BY id"))
}

// A trigger on a table of one's own would write records about rows that never were, also of other tenants.
func TestAuditFunctionCannotBeUsed(t *testing.T) {
	d := attacked(t)
	const forge = `CREATE TEMP TABLE accounts (id int, tenant_id text); CREATE TRIGGER forged AFTER INSERT ON accounts FOR EACH ROW
		EXECUTE FUNCTION public.tenancy_audit('accounts', 'tenant_id', '{id}', '{}', '{}'); INSERT INTO accounts VALUES (9, 'globex')`
	for _, db := range []*gorm.DB{d.of(t, "acme"), tenancy.Bypass(d.app, "an attack")} {
		requireCode(t, db.Exec(forge).Error, insufficientPrivilege)
	}
	require.Len(t, d.records(t, summary), 2)
}

func TestAuditResolvesNoNameOfTheSession(t *testing.T) {
	d := attacked(t)
	d.run(t, "acme", `CREATE TEMP TABLE tenancy_audit (LIKE public.tenancy_audit);
		CREATE FUNCTION pg_temp.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"tenant_id": "globex", "id": 0}'::jsonb $$;
		CREATE FUNCTION pg_temp.minus(jsonb, text[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"tenant_id": "globex", "id": 0}'::jsonb $$;
		CREATE OPERATOR pg_temp.- (FUNCTION = pg_temp.minus, LEFTARG = jsonb, RIGHTARG = text[]);
		SET LOCAL search_path = pg_temp, public, pg_catalog;
		INSERT INTO public.accounts (id, tenant_id, name) VALUES (3, 'acme', 'c')`)
	require.Equal(t, []string{`acme INSERT accounts {"id": 3} from - to {"id": 3, "hash": "***", "name": "c", "balance": null, "tenant_id": "acme"}`},
		d.records(t, summary)[2:])
}

func TestAuditRecordsAHugeRow(t *testing.T) {
	d := newDatabase(t)
	d.run(t, "acme", "INSERT INTO accounts (id, name) VALUES (1, repeat('x', 1000))")
	d.AsOwner(t, "ALTER TABLE accounts ADD COLUMN body text")
	d.run(t, "acme", "UPDATE accounts SET body = repeat('x', 20000000)")
	require.Equal(t, []string{"20000000"}, d.records(t, "SELECT length(after ->> 'body') FROM tenancy_audit WHERE operation = 'UPDATE'"))
	d.run(t, "acme", "UPDATE accounts SET balance = 1")
	require.Equal(t, []string{`{"balance": 1}`}, d.records(t, "SELECT after FROM tenancy_audit ORDER BY id DESC LIMIT 1"), "what an update leaves alone is not recorded")
}

// What cannot be recorded does not happen.
func TestAuditFailsClosed(t *testing.T) {
	d := attacked(t)
	d.AsOwner(t, "ALTER TABLE tenancy_audit ADD CHECK (tenant_id <> 'acme') NOT VALID")
	err := d.of(t, "acme").Exec("UPDATE accounts SET name = 's3cret'").Error
	requireCode(t, err, "23514")
	require.ErrorContains(t, err, `"tenancy_audit`)
	require.NotContains(t, err.Error(), "s3cret")
	require.Equal(t, []string{"a"}, list(t, d.of(t, "acme"), "SELECT name FROM accounts"))

	d.AsOwner(t, "DROP POLICY tenant_audit ON tenancy_audit")
	requireCode(t, tenancy.Bypass(d.app, "an attack").Exec("UPDATE accounts SET name = 's3cret' WHERE id = 2").Error, insufficientPrivilege)
	require.Equal(t, []string{"b"}, list(t, d.of(t, "globex"), "SELECT name FROM accounts"))

	d.AsOwner(t, "DROP TABLE tenancy_audit_default")
	requireCode(t, d.of(t, "globex").Exec("DELETE FROM accounts").Error, "23514") // no partition for the record
}

// Settings of the session do not switch records off.
func TestAuditUnderHostileSettings(t *testing.T) {
	d := attacked(t)
	for _, setting := range []string{"tenancy.audit = '{'", "tenancy.audit = '[]'", "row_security = off", "app.tenant_id = 'globex'", "check_function_bodies = off"} {
		err := d.of(t, "acme").Exec("SET LOCAL " + setting + "; UPDATE accounts SET name = name").Error
		records := d.records(t, "SELECT tenant_id FROM tenancy_audit WHERE operation = 'UPDATE'")
		if err == nil {
			require.NotEmpty(t, records, setting)
			require.True(t, strings.HasPrefix(setting, "app.tenant_id") || records[len(records)-1] == "acme", setting)
		} else {
			require.NotContains(t, err.Error(), "globex")
		}
	}
	require.Len(t, d.records(t, "SELECT tenant_id FROM tenancy_audit WHERE operation = 'UPDATE'"), 3, "two of the settings fail the update")
}
