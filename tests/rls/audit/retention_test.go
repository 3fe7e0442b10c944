package audit_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
)

const parts = `SELECT coalesce(to_char(min(at) AT TIME ZONE 'UTC', 'YYYY-MM'), '-') || ' ' || count(*)::text FROM tenancy_audit a
	RIGHT JOIN (SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = 'tenancy_audit'::regclass) p ON p.oid = a.tableoid GROUP BY p.oid ORDER BY p.oid::regclass::text`

func TestAuditIsMaintained(t *testing.T) {
	d := attacked(t)
	// Records of two and of twenty months ago, which only a superuser can write.
	d.AsSuperuser(t, `INSERT INTO tenancy_audit (tenant_id, at, xact, operation, table_schema, table_name, login, role)
		SELECT 'acme', date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - make_interval(months => m), 1, 'INSERT', 's', 't', 'l', 'r' FROM unnest('{2, 20}'::int[]) m`)
	changes, err := d.isolation.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{Keep: 12, Ahead: 1})
	require.NoError(t, err)
	require.Len(t, changes, 1+12+1+1, "old records, the months that are kept, this one, and the next")
	require.Empty(t, d.records(t, "SELECT id::text FROM tenancy_audit WHERE tableoid = 'tenancy_audit_default'::regclass"))
	require.Equal(t, []string{"3"}, d.records(t, "SELECT count(*)::text FROM tenancy_audit"))
	require.Len(t, d.records(t, parts), 15)

	again, err := d.isolation.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{Keep: 12, Ahead: 1})
	require.NoError(t, err)
	require.Empty(t, again)
	require.Empty(t, d.Migrate(t, d.isolation, models...))
	report, err := d.isolation.Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	require.NoError(t, report.Err())

	d.run(t, "acme", "UPDATE accounts SET balance = 1")
	require.Empty(t, d.records(t, "SELECT id::text FROM tenancy_audit WHERE tableoid = 'tenancy_audit_default'::regclass"), "new records have a partition")
	require.Len(t, list(t, d.of(t, "globex"), "SELECT tenant_id FROM tenancy_audit"), 1)

	changes, err = d.isolation.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{Keep: 1, Ahead: 1})
	require.NoError(t, err)
	require.Len(t, changes, 11)
	require.Equal(t, []string{"3"}, d.records(t, "SELECT count(*)::text FROM tenancy_audit"))
	for _, change := range changes {
		require.Contains(t, change.SQL, "DROP TABLE")
	}
}

func TestAuditIsMaintainedByItsOwnerAlone(t *testing.T) {
	d := attacked(t)
	_, err := d.isolation.MaintainAudit(t.Context(), d.AdminDB, rls.Retention{Keep: 1})
	require.EqualError(t, err, fmt.Sprintf(`tenancy: "%s" does not own the table tenancy_audit, and cannot change its partitions: connect as "%s"`, d.Admin.Role, d.Owner.Role))
	_, err = d.Isolation().MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{Keep: -1})
	require.EqualError(t, err, "tenancy: Retention: months must not be negative")
	require.Len(t, d.records(t, summary), 2)
}

// Rights that default privileges give on new tables would go around the policies of the whole.
func TestAuditPartitionsHaveThePoliciesOfTheWhole(t *testing.T) {
	d := attacked(t)
	d.AsOwner(t, "ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO PUBLIC, "+d.App.Role)
	_, err := rls.Isolation{}.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{}) // which names no role
	require.NoError(t, err)
	const policies = `SELECT string_agg(concat_ws(' ', policyname, permissive, roles, cmd, qual, with_check), '; ' ORDER BY policyname)
		FROM pg_policies WHERE tablename LIKE 'tenancy_audit%' AND policyname <> 'tenant_audit' GROUP BY tablename ORDER BY tablename`
	found := d.records(t, policies)
	require.Greater(t, len(found), 4)
	for _, part := range found {
		require.Equal(t, found[0], part)
	}
	require.Empty(t, d.records(t, `SELECT c.relname || a.grantee::regrole FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid, aclexplode(c.relacl) a
		WHERE inhparent = 'tenancy_audit'::regclass AND a.grantee <> c.relowner`))
	require.Empty(t, d.Migrate(t, d.isolation, models...))
}
