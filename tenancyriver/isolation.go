package tenancyriver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Isolation says how the jobs of tenants are kept apart in River's tables.
type Isolation struct {
	// AppRole is the role that the application works in. It may insert jobs of the current tenant, see them, and complete them in a
	// transaction (river.JobCompleteTx). It must not be empty.
	AppRole string

	// WorkerRole is the role that River's workers log in as. It sees and changes all jobs, and needs no rights on other tables than
	// River's. AppRole must not be a member of it. It must not be empty.
	WorkerRole string

	// AdminRole is tenancy.Config.AdminRole, so that clients of tenancy.Bypass insert jobs, too. Empty means that they cannot.
	AdminRole string

	// Setting is the PostgreSQL setting that holds the current tenant; "app.tenant_id" if empty.
	Setting string

	// Schema is the schema of River's tables; "public" if empty.
	Schema string

	// Signed has the policy of river_job demand the proof of tenancy.Config.SigningKeys, as rls.Isolation.Signed has those of other tables:
	// SQL that names another tenant then neither sees nor inserts its jobs. Migrate with rls.Isolation first, which makes the functions.
	Signed bool

	// DangerouslyAcceptUnsigned has the policy take statements without a proof as well: while an application changes to Signed, or back.
	DangerouslyAcceptUnsigned bool

	// Slots, if not zero, shares each queue fairly: that many jobs of a tenant are given to the workers at a time, and the others wait
	// (see Jobs.Release). SetSlots gives a tenant another number.
	Slots int
}

const (
	tenantKey    = "tenancy:tenant"    // of the metadata: the tenant's id
	withoutKey   = "tenancy:without"   // of the metadata: true if the job is for no tenant
	tenantColumn = "tenant_id"         // of river_job, generated from the metadata
	triggerName  = "tenancy_river_job" // and the name of its function
	slotsTable   = "tenancy_river_slots"
)

// withDefaults returns i with its defaults, or says what is wrong with it.
func (i Isolation) withDefaults() (Isolation, error) {
	if i.Schema == "" {
		i.Schema = "public"
	}
	c := policy.Config{Setting: i.Setting, AppRole: i.AppRole, AdminRole: i.AdminRole}.WithDefaults()
	i.Setting = c.Setting
	switch err := c.Validate(); {
	case err != nil:
		return i, fmt.Errorf("tenancy: Isolation.%w", err)
	case i.AppRole == "" || i.WorkerRole == "":
		return i, errors.New("tenancy: Isolation needs AppRole and WorkerRole, which are different roles")
	case i.AppRole == i.WorkerRole:
		return i, fmt.Errorf("tenancy: AppRole and WorkerRole cannot both be %q: tenants would see the jobs of all", i.AppRole)
	case i.DangerouslyAcceptUnsigned && !i.Signed:
		return i, errors.New("tenancy: Isolation.DangerouslyAcceptUnsigned needs Signed")
	case i.Slots < 0:
		return i, errors.New("tenancy: Isolation.Slots cannot be negative")
	}
	return i, nil
}

// Migrate makes what SQL describes, in a transaction. The pool is of the role that owns River's tables, after River's migrations. It can
// be called again, also with other roles or slots. Adding the tenant column rewrites river_job. Jobs that are there from before have no
// tenant, and workers refuse them.
func (i Isolation) Migrate(ctx context.Context, owner *sql.DB) error {
	script, err := i.SQL()
	if err != nil {
		return err
	}
	tx, err := owner.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("tenancy: migrate River's tables: %w", err)
	}
	_, err = tx.ExecContext(ctx, script)
	if err != nil {
		return errors.Join(fmt.Errorf("tenancy: migrate River's tables: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("tenancy: migrate River's tables: %w", err)
	}
	return nil
}

// SQL returns a script for the owner of River's tables, to be run in a transaction after River's migrations: the tenant column of river_job,
// which PostgreSQL generates from the metadata; policies on it; a trigger that keeps a job's tenant, and makes unique keys unique within
// each tenant; and the grants. It returns an error if i is invalid.
func (i Isolation) SQL() (string, error) {
	i, err := i.withDefaults()
	if err != nil {
		return "", err
	}
	parts := []string{i.columnSQL(), i.triggerSQL(), i.policiesSQL(), i.slotsSQL(), i.grantsSQL()}
	return strings.Join(parts, "\n"), nil
}

// policy is how the jobs of tenants are told apart.
func (i Isolation) policy() policy.Config {
	c := policy.Config{Setting: i.Setting, Column: tenantColumn}.WithDefaults()
	switch {
	case i.DangerouslyAcceptUnsigned:
		c.Form = policy.Either
	case i.Signed:
		c.Form = policy.Signed
	}
	return c
}

func (i Isolation) table(name string) string { return sqltext.Ident(i.Schema, name) }

func (i Isolation) columnSQL() string {
	return `ALTER TABLE ` + i.table("river_job") + ` ADD COLUMN IF NOT EXISTS ` + tenantColumn + ` text COLLATE "C" NOT NULL
	GENERATED ALWAYS AS (coalesce(metadata->>'` + tenantKey + `', '')) STORED;
CREATE INDEX IF NOT EXISTS tenancy_river_tenant ON ` + i.table("river_job") + ` (` + tenantColumn + `);`
}

// triggerBody is the trigger's function. River's arbiter of unique jobs is unique_key alone, so the tenant becomes part of the key in the
// database, where SQL of a tenant cannot take the key of another's job.
func (i Isolation) triggerBody() string {
	body := `
DECLARE
	tenant text := coalesce(NEW.metadata->>'` + tenantKey + `', '');
BEGIN
	IF TG_OP = 'INSERT' THEN
		NEW.unique_key := sha256(convert_to(tenant, 'UTF8') || '\x00'::bytea || NEW.unique_key);
	ELSIF tenant <> coalesce(OLD.metadata->>'` + tenantKey + `', '') THEN
		RAISE EXCEPTION 'a job keeps its tenant' USING ERRCODE = 'insufficient_privilege';
	END IF;`
	if i.Slots > 0 {
		body += i.waitSQL()
	}
	return body + `
	RETURN NEW;
END `
}

func (i Isolation) triggerSQL() string {
	return `CREATE OR REPLACE FUNCTION ` + i.table(triggerName) + `() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $tenancy$` + i.triggerBody() + `$tenancy$;
DROP TRIGGER IF EXISTS ` + triggerName + ` ON ` + i.table("river_job") + `;
CREATE TRIGGER ` + triggerName + ` BEFORE INSERT OR UPDATE ON ` + i.table("river_job") + `
	FOR EACH ROW EXECUTE FUNCTION ` + i.table(triggerName) + `();`
}

func (i Isolation) policiesSQL() string {
	own := i.policy().Predicate("text")
	job := i.table("river_job")
	script := `ALTER TABLE ` + job + ` ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
` + replacePolicy(policy.Tenant, job, "PUBLIC", own)
	script += replacePolicy("tenancy_river_worker", job, sqltext.Ident(i.WorkerRole), "true")
	if i.AdminRole != "" {
		script += replacePolicy(policy.Admin, job, sqltext.Ident(i.AdminRole), "true")
	}
	return script
}

func replacePolicy(name, table, roles, condition string) string {
	return `DROP POLICY IF EXISTS ` + sqltext.Ident(name) + ` ON ` + table + `;
CREATE POLICY ` + sqltext.Ident(name) + ` ON ` + table + ` FOR ALL TO ` + roles + ` USING (` + condition + `) WITH CHECK (` + condition + `);
`
}

// grantsSQL grants the application what inserting takes, and river.JobCompleteTx. The worker's role gets all of River's tables.
func (i Isolation) grantsSQL() string {
	app, worker := sqltext.Ident(i.AppRole), sqltext.Ident(i.WorkerRole)
	job, seq := i.table("river_job"), i.table("river_job_id_seq")
	all := job + ", " + i.table("river_queue") + ", " + i.table("river_leader")
	script := `REVOKE ALL ON ` + all + ` FROM PUBLIC, ` + app + `;
GRANT USAGE ON SCHEMA ` + sqltext.Ident(i.Schema) + ` TO ` + app + `, ` + worker + `;
GRANT SELECT, INSERT, UPDATE (attempt, errors, finalized_at, kind, metadata, scheduled_at, state) ON ` + job + ` TO ` + app + `;
GRANT USAGE ON SEQUENCE ` + seq + ` TO ` + app + `, ` + worker + `;
GRANT SELECT, INSERT, UPDATE, DELETE ON ` + all + ` TO ` + worker + `;
`
	if i.Slots > 0 {
		script += `GRANT SELECT, INSERT, UPDATE, DELETE ON ` + i.table(slotsTable) + `, ` + i.table(feedTable) + ` TO ` + worker + `;
REVOKE ALL ON ` + i.table(slotsTable) + `, ` + i.table(feedTable) + ` FROM PUBLIC, ` + app + `;
`
	}
	if i.AdminRole != "" {
		admin := sqltext.Ident(i.AdminRole)
		script += `GRANT USAGE ON SCHEMA ` + sqltext.Ident(i.Schema) + ` TO ` + admin + `;
GRANT SELECT, INSERT, UPDATE, DELETE ON ` + job + ` TO ` + admin + `;
GRANT USAGE ON SEQUENCE ` + seq + ` TO ` + admin + `;
`
	}
	return script
}
