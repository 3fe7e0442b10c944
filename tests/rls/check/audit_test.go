package check_test

import (
	"maps"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

type jotting struct {
	ID       int64
	TenantID string
	Body     string
}

func (jotting) TableName() string { return "notes" }

// auditNotes is the script that records the changes of notes, with the placeholders of the clean database.
func auditNotes() string {
	db, err := gorm.Open(postgres.Open(""), &gorm.Config{DryRun: true, DisableAutomaticPing: true})
	if err != nil {
		panic(err)
	}
	if pool, err := db.DB(); err == nil {
		defer pool.Close()
	}
	i := rls.Isolation{AppRole: "{app}", AdminRole: "{admin}", Audits: []rls.Audit{{Model: &jotting{}}}}
	up, _, err := i.SQL(db, &jotting{})
	if err != nil {
		panic(err)
	}
	return up
}

// unrecorded is an attack that leaves no record.
var unrecorded = leaks("unrecorded", "INSERT INTO notes (id, body) VALUES (99, 'x'); SELECT CASE WHEN count(*) = 0 THEN 'unrecorded' END FROM tenancy_audit")

func init() {
	audited := auditNotes()
	maps.Copy(holes, map[string]hole{
		"records can be deleted": {
			code: check.AuditWritable, object: "public.tenancy_audit",
			open: audited + "GRANT DELETE ON tenancy_audit TO {app}", attack: does("DELETE FROM tenancy_audit"),
		},
		"records can be deleted in a partition": {
			code: check.AuditWritable, object: "public.tenancy_audit",
			open: audited + "GRANT DELETE ON tenancy_audit_default TO {app}", attack: does("DELETE FROM tenancy_audit_default"),
		},
		"the admin role changes records": {
			code: check.AuditWritable, object: "public.tenancy_audit",
			open: audited + "GRANT UPDATE ON tenancy_audit TO {admin}", attack: does("SET LOCAL ROLE {admin}; UPDATE tenancy_audit SET actor = 'another'"),
		},
		"records can be forged": {
			code: check.AuditFunctionExposed, object: "public.tenancy_audit",
			open: audited + "GRANT EXECUTE ON FUNCTION tenancy_audit() TO {app}",
			attack: does(`CREATE TEMP TABLE forged (tenant_id text, id int); CREATE TRIGGER forged AFTER INSERT ON forged FOR EACH ROW
				EXECUTE FUNCTION tenancy_audit('notes', 'tenant_id', '{id}', '{}', '{}'); INSERT INTO forged VALUES ('acme', 1)`),
		},
		"records are not written": {
			code: check.AuditFunctionReplaced, object: "public.tenancy_audit",
			open: audited + "CREATE OR REPLACE FUNCTION tenancy_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER " +
				"SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'",
			attack: unrecorded,
		},
		"records are written with the rights of the writer": {
			code: check.AuditFunctionReplaced, object: "public.tenancy_audit",
			open:   audited + "ALTER FUNCTION tenancy_audit() SECURITY INVOKER",
			attack: fails("42501", "INSERT INTO notes (id, body) VALUES (99, 'x')"),
		},
		"records are switched off": {
			code: check.AuditTriggerDisabled, object: "public.notes",
			open: audited + "ALTER TABLE notes DISABLE TRIGGER tenancy_audit", attack: unrecorded,
		},
		"changes of replication are not recorded": {
			code: check.AuditTriggerDisabled, object: "public.notes",
			open: audited + "ALTER TABLE notes ENABLE TRIGGER tenancy_audit",
		},
		"TRUNCATE leaves no record": {
			code: check.AuditTriggerDisabled, object: "public.notes",
			open: audited + "ALTER TABLE notes DISABLE TRIGGER tenancy_audit_truncate",
		},
		"a model is not audited": {
			code: check.AuditTriggerMissing, object: "public.notes",
			opts: []check.Option{check.Audited(&jotting{})}, fixed: []check.Option{},
		},
	})
}
