package signing_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestSignedAudit: changes are recorded for the tenant whose rows they are, who reads its records, and a stranger none.
func TestSignedAudit(t *testing.T) {
	t.Parallel()
	d := testdb.NewSigned(t)
	isolation := d.Isolation()
	isolation.Audits = []rls.Audit{{Model: &Page{}}}
	d.Migrate(t, isolation, models...)
	require.Empty(t, d.Migrate(t, isolation, models...))
	db := d.Open(t, d.Config())
	for _, tenant := range []string{"a", "b"} {
		ctx := tenancy.WithActor(testdb.As(tenant), "user of "+tenant)
		require.NoError(t, db.WithContext(ctx).Create(&Page{Text: tenant}).Error)
		require.NoError(t, db.WithContext(ctx).Model(&Page{}).Where("true").Update("text", tenant+"!").Error)
	}
	read := func(tenant string) (found []rls.AuditRecord) {
		require.NoError(t, db.WithContext(testdb.As(tenant)).Order("id").Find(&found).Error)
		return found
	}
	for _, tenant := range []string{"a", "b"} {
		records := read(tenant)
		require.Len(t, records, 2)
		require.Equal(t, "UPDATE", records[1].Operation)
		require.Equal(t, "user of "+tenant, *records[1].Actor)
		require.Equal(t, d.App.Role, records[1].Login)
	}
	require.Empty(t, read("evil"))

	evil := db.WithContext(testdb.As("evil"))
	var count int64
	for _, sql := range []string{
		`SELECT count(*) FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s, tenancy_audit`,
		`SELECT count(*) FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s, ONLY tenancy_audit_default`,
	} {
		count = 0
		_ = evil.Raw(sql).Scan(&count).Error // a partition is not for its login at all
		require.Zero(t, count, sql)
	}
	for _, sql := range []string{
		`INSERT INTO tenancy_audit (tenant_id, operation, table_schema, table_name, login, role) SELECT set_config('app.tenant_id', 'b', true), 'DELETE', 'public', 'pages', 'x', 'x'`,
		`DELETE FROM tenancy_audit`,
		`INSERT INTO pages (tenant_id, text) SELECT set_config('app.tenant_id', 'b', true), 'planted'`,
		`SELECT tenancy_audit_record()`,
	} {
		require.Error(t, evil.Exec(sql).Error, sql)
	}
	require.NoError(t, evil.Exec(`UPDATE pages SET text = 'changed' FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s`).Error)
	require.Len(t, read("b"), 2, "nothing was changed, and nothing recorded")

	require.NoError(t, tenancy.Bypass(db, "a reason").Model(&Page{}).Where("tenant_id = ?", "b").Update("text", "by the admin").Error)
	records := read("b")
	require.Len(t, records, 3)
	require.Equal(t, "a reason", *records[2].Reason)
	require.Len(t, read("a"), 2)

	// New partitions have the policies of the whole.
	_, err := isolation.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{})
	require.NoError(t, err)
	again, err := isolation.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{})
	require.NoError(t, err)
	require.Empty(t, again)
	require.Len(t, read("b"), 3)
	require.Empty(t, read("evil"))
	require.NoError(t, db.WithContext(testdb.As("a")).Create(&Page{Text: "after"}).Error)
	require.Len(t, read("a"), 3)
	report, err := isolation.Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

// TestSignedAuditIsDeletedByTheOwner: by the SQL of docs/audit.md. The SQL for databases without signatures deletes nothing.
func TestSignedAuditIsDeletedByTheOwner(t *testing.T) {
	t.Parallel()
	d := testdb.NewSigned(t)
	isolation := d.Isolation()
	isolation.Audits = []rls.Audit{{Model: &Page{}}}
	d.Migrate(t, isolation, models...)
	db := d.Open(t, d.Config())
	left := func(tenant string) (count int64) {
		require.NoError(t, db.WithContext(testdb.As(tenant)).Model(&rls.AuditRecord{}).Count(&count).Error)
		return count
	}
	for _, tenant := range []string{"a", "b"} {
		require.NoError(t, db.WithContext(testdb.As(tenant)).Create(&Page{Text: tenant}).Error)
	}
	d.AsOwner(t, `BEGIN; SET LOCAL app.tenant_id = 'a'; DELETE FROM tenancy_audit; COMMIT`)
	require.EqualValues(t, 1, left("a"))
	d.AsOwner(t, `BEGIN; ALTER TABLE tenancy_audit NO FORCE ROW LEVEL SECURITY; DELETE FROM tenancy_audit WHERE tenant_id = 'a';
		ALTER TABLE tenancy_audit FORCE ROW LEVEL SECURITY; COMMIT`)
	require.Zero(t, left("a"))
	require.EqualValues(t, 1, left("b"))
	require.Empty(t, d.Migrate(t, isolation, models...), "all is as it was")
}
