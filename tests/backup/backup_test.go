package backup

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Plan is shared by all tenants.
type Plan struct {
	ID   int64
	Name string
}

// Note is a tenant's.
type Note struct {
	ID       int64
	TenantID string
	Body     string
	PlanID   int64
	Plan     *Plan
	Lines    []Line
}

// Line is a child of a note.
type Line struct {
	ID     int64
	NoteID int64
	Text   string
}

var (
	models = []any{&Plan{}, &Note{}, &Line{}}
	tables = []string{"lines", "notes", "plans"}
)

// database has rows of two tenants, and a login for backups.
type database struct {
	*testdb.Database
	backup       rls.Isolation
	super, login string // DSNs
}

func newDatabase(t *testing.T) database {
	t.Helper()
	d := emptyDatabase(t)
	d.Migrate(t, d.backup, models...)
	require.NoError(t, d.AdminDB.Create(&Plan{Name: "free"}).Error)
	db := d.Open(t, tenancy.Config{})
	for _, tenant := range []string{"acme", "globex"} {
		for range 3 {
			note := Note{Body: "of " + tenant, PlanID: 1, Lines: []Line{{Text: "one"}, {Text: "two"}}}
			require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), tenant)).Create(&note).Error)
		}
	}
	return d
}

// emptyDatabase has the roles, and no tables.
func emptyDatabase(t *testing.T) database {
	t.Helper()
	d := database{Database: testdb.New(t)}
	d.backup, d.super = d.Isolation(), d.SuperuserDSN(t)
	d.backup.BackupRole = d.App.Role + "_" + d.Name + "_backup"
	_, err := d.backup.Migrate(t.Context(), d.OwnerDB, models...)
	_, create, found := strings.Cut(err.Error(), "create it first: ")
	require.True(t, found, err)
	require.Contains(t, create, "LOGIN BYPASSRLS")
	d.AsSuperuser(t, create+" PASSWORD 'secret'")
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+d.backup.BackupRole, "DROP ROLE "+d.backup.BackupRole) })
	d.login = loginOf(t, d.super, d.backup.BackupRole, "secret")
	return d
}

// TestOwnerCannotDump shows the trap: the owner's dump fails, and what pg_dump proposes in its error leaves all rows out.
func TestOwnerCannotDump(t *testing.T) {
	d := newDatabase(t)
	_, problem, err := call{login: d.Owner.DSN}.try(t, "pg_dump")
	require.Error(t, err)
	require.Contains(t, problem, "row-level security")

	dump := call{login: d.Owner.DSN, args: []string{"--enable-row-security", "--data-only"}}.run(t, "pg_dump")
	require.Contains(t, dump, "free", "shared rows are there")
	require.NotContains(t, dump, "of acme")
	require.NotContains(t, dump, "of globex")
}

// isolation is what the catalog says of policies, and of who may do what.
const isolation = `
SELECT format('%s %s %s %s', c.relname, c.relrowsecurity, c.relforcerowsecurity, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a))
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL SELECT format('%s %s', tablename, p) FROM pg_policies p
UNION ALL SELECT format('%s %s %s', attrelid::regclass, attname, pg_get_expr(adbin, adrelid))
	FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
ORDER BY 1`

func TestBackupRoleDumpsAll(t *testing.T) {
	d := newDatabase(t)
	require.Empty(t, d.Migrate(t, d.backup, models...), "a second run changes nothing")
	dump := call{login: d.login, args: []string{"--format=custom"}}.run(t, "pg_dump")

	target := emptyDatabase(t)
	d.AsSuperuser(t, "ALTER SCHEMA public OWNER TO "+d.Owner.Role) // as in the target
	restore := call{login: target.super, input: dump, args: []string{"--exit-on-error", "--single-transaction", "--clean", "--if-exists"}}
	restore.run(t, "pg_restore")
	require.Equal(t, sums(t, d.super), sums(t, target.super))
	require.Contains(t, sums(t, d.super), "notes|6|")
	require.Equal(t, query(t, d.super, isolation), query(t, target.super, isolation))

	var notes []Note
	db := target.Open(t, tenancy.Config{})
	require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), "acme")).Find(&notes).Error)
	require.Len(t, notes, 3)
	require.Empty(t, target.Migrate(t, d.backup, models...), "Migrate has nothing left to do")
}

func TestBackupRoleOnlyReads(t *testing.T) {
	d := newDatabase(t)
	for _, sql := range []string{
		"DELETE FROM notes", "INSERT INTO plans (name) VALUES ('x')", "UPDATE lines SET text = ''", "TRUNCATE lines",
		"SELECT nextval('notes_id_seq')", "ALTER TABLE notes DISABLE ROW LEVEL SECURITY", "SET ROLE " + d.Owner.Role,
	} {
		_, problem, err := psql(d.login, "", sql).try(t, "psql")
		require.Error(t, err, sql)
		require.Regexp(t, "permission denied|must be owner", problem, sql)
	}
}

// TestDumpAsMember lets a login take the role, as --role does.
func TestDumpAsMember(t *testing.T) {
	d := newDatabase(t)
	operator := d.backup.BackupRole + "_op"
	d.AsSuperuser(t, "CREATE ROLE "+operator+" LOGIN NOINHERIT PASSWORD 'secret'", "GRANT "+d.backup.BackupRole+" TO "+operator)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE "+operator) })
	login := loginOf(t, d.super, operator, "secret")
	_, _, err := call{login: login}.try(t, "pg_dump")
	require.Error(t, err)
	dump := call{login: login, args: []string{"--role=" + d.backup.BackupRole}}.run(t, "pg_dump")
	require.Equal(t, 6, strings.Count(dump, "\tof acme\t")+strings.Count(dump, "\tof globex\t"))
}

// TestDumpByPolicies is for servers that let no role have BYPASSRLS: a role with a policy of its own reads all rows.
func TestDumpByPolicies(t *testing.T) {
	d := newDatabase(t)
	dump := call{login: d.Admin.DSN, args: []string{"--enable-row-security", "--data-only"}}
	require.Equal(t, 6, strings.Count(dump.run(t, "pg_dump"), "\tof "))

	// A table that lacks the policy is dumped without its rows. Check says so, as no role can dump it.
	d.AsSuperuser(t, "ALTER ROLE "+d.backup.BackupRole+" NOBYPASSRLS")
	require.NotContains(t, codes(t, d), check.BackupIncomplete)
	d.AsOwner(t, "DROP POLICY tenant_admin ON notes")
	require.NotContains(t, dump.run(t, "pg_dump"), "\tof ")
	require.Contains(t, codes(t, d), check.BackupIncomplete)
	d.AsSuperuser(t, "ALTER ROLE "+d.backup.BackupRole+" BYPASSRLS")
	require.NotContains(t, codes(t, d), check.BackupIncomplete)
}

func codes(t *testing.T, d database) (list []check.Code) {
	t.Helper()
	report, err := d.backup.Check(t.Context(), d.OwnerDB, check.Models(models...))
	require.NoError(t, err)
	for _, f := range append(report.Findings, report.Notes...) {
		list = append(list, f.Code)
	}
	return list
}

// TestBackupRoleIsOutOfReach refuses a backup role that lacks its attribute, and one that SQL of the application can become.
func TestBackupRoleIsOutOfReach(t *testing.T) {
	d := newDatabase(t)
	role := d.backup.BackupRole
	migrate := func() error {
		_, err := d.backup.Migrate(t.Context(), d.OwnerDB, models...)
		return err
	}
	d.AsSuperuser(t, "ALTER ROLE "+role+" NOBYPASSRLS")
	require.ErrorContains(t, migrate(), "lacks BYPASSRLS")
	d.AsSuperuser(t, "ALTER ROLE "+role+" BYPASSRLS")
	require.NoError(t, migrate())

	between := role + "_between"
	d.AsSuperuser(t, "CREATE ROLE "+between, "GRANT "+role+" TO "+between, "GRANT "+between+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE IF EXISTS "+between) })
	require.ErrorContains(t, migrate(), "is a member of the backup role")
	require.Contains(t, codes(t, d), check.RoleBecomesBypassRLS)
	d.AsSuperuser(t, "DROP ROLE "+between)
	require.NoError(t, migrate())
	require.NotContains(t, codes(t, d), check.RoleBecomesBypassRLS)
}

// TestDataOnlyRestore fills a migrated database as its owner, who lifts FORCE for the transaction.
func TestDataOnlyRestore(t *testing.T) {
	d, target := newDatabase(t), emptyDatabase(t)
	target.Migrate(t, target.backup, models...)
	dump := call{login: d.login, args: []string{"--data-only"}}.run(t, "pg_dump")

	_, problem, err := psql(target.Owner.DSN, "", dump).try(t, "psql")
	require.Error(t, err, "the owner is bound by the policies")
	require.Contains(t, problem, "row-level security")

	before := query(t, target.super, isolation)
	psql(target.Owner.DSN, "", snippet(t, "lift.sql")+dump+snippet(t, "force.sql")).run(t, "psql")
	require.Equal(t, sums(t, d.super), sums(t, target.super))
	require.Equal(t, before, query(t, target.super, isolation))
	require.Equal(t, query(t, d.super, "SELECT last_value FROM notes_id_seq"), query(t, target.super, "SELECT last_value FROM notes_id_seq"))
}

// TestDataOnlyRestoreKeepsRecords: the records are those of the dump, also in partitions that the target does not have, and none is about the restore.
func TestDataOnlyRestoreKeepsRecords(t *testing.T) {
	d, target := newDatabase(t), emptyDatabase(t)
	audited := func(d database) {
		d.backup.Audits = []rls.Audit{{Model: &Note{}}}
		d.Migrate(t, d.backup, models...)
	}
	audited(d)
	audited(target)
	_, err := d.backup.MaintainAudit(t.Context(), d.OwnerDB, rls.Retention{Keep: 24})
	require.NoError(t, err)
	require.NoError(t, d.Open(t, tenancy.Config{}).WithContext(tenancy.WithTenant(t.Context(), "acme")).Exec("UPDATE notes SET body = body || '!'").Error)
	dump := call{login: d.login, args: []string{"--data-only", "--load-via-partition-root"}}.run(t, "pg_dump")

	psql(target.Owner.DSN, "", snippet(t, "lift.sql")+dump+snippet(t, "records.sql")+snippet(t, "force.sql")).run(t, "psql")
	require.Equal(t, sums(t, d.super), sums(t, target.super))
	const records = "SELECT count(*) || md5(string_agg(a::text, ',' ORDER BY at, id)) FROM tenancy_audit a"
	require.Regexp(t, "^3", query(t, d.super, records))
	require.Equal(t, query(t, d.super, records), query(t, target.super, records))
}

// TestOneTenant dumps one tenant as the application, and restores it beside the others.
func TestOneTenant(t *testing.T) {
	d := newDatabase(t)
	before := sums(t, d.super)
	args := []string{"--enable-row-security", "--data-only", "--inserts", "--rows-per-insert=1000", "--table=notes", "--table=lines",
		"--exclude-table-data=*_seq"}
	dump := call{login: d.App.DSN, tenant: "acme", args: args}.run(t, "pg_dump")
	require.Contains(t, dump, "of acme")
	require.NotContains(t, dump, "of globex")

	db := d.Open(t, tenancy.Config{}).WithContext(tenancy.WithTenant(t.Context(), "acme"))
	require.NoError(t, db.Exec("DELETE FROM lines").Error)
	require.NoError(t, db.Exec("DELETE FROM notes").Error)
	require.NotEqual(t, before, sums(t, d.super))
	_, problem, err := psql(d.App.DSN, "globex", dump).try(t, "psql")
	require.Error(t, err, "as another tenant")
	require.Contains(t, problem, "violates row-level security policy")
	psql(d.App.DSN, "acme", dump).run(t, "psql")
	require.Equal(t, before, sums(t, d.super))
}

// Folder and Entry have partitions. The entries come first in a dump.
type (
	Folder struct {
		ID       int64
		TenantID string
		Name     string
		Entries  []Entry
	}
	Entry struct {
		ID       int64
		TenantID string
		FolderID int64
	}
)

// partitioned has the tables of Folder and Entry.
func partitioned(t *testing.T) database {
	t.Helper()
	d := emptyDatabase(t)
	d.backup.TenantKeys = true
	d.backup.Partition = []rls.Partitioned{{Model: &Folder{}, Hash: 2}, {Model: &Entry{}, Hash: 2}}
	d.Migrate(t, d.backup, &Folder{}, &Entry{})
	return d
}

// TestDumpOfPartitions: the owner restores the data with the foreign keys verified at the end, and the dump of one tenant is empty.
func TestDumpOfPartitions(t *testing.T) {
	d, target := partitioned(t), partitioned(t)
	d.AsSuperuser(t, "INSERT INTO folders (id, tenant_id, name) SELECT i, CASE WHEN i > 5 THEN 'acme' ELSE 'globex' END, 'a name' FROM generate_series(1, 12) i",
		"INSERT INTO entries (tenant_id, folder_id) SELECT tenant_id, id FROM folders")
	dump := call{login: d.login, args: []string{"--data-only", "--load-via-partition-root"}}.run(t, "pg_dump")

	_, problem, err := psql(target.Owner.DSN, "", snippet(t, "-- lift.sql")+dump+snippet(t, "-- force.sql")).try(t, "psql")
	require.Error(t, err)
	require.Contains(t, problem, "violates foreign key constraint", "the page says what is needed")
	before := query(t, target.super, isolation)
	const keys = "SELECT conrelid::regclass, conname, condeferrable, condeferred, convalidated FROM pg_constraint WHERE contype = 'f' ORDER BY 1, 2"
	keysBefore := query(t, target.super, keys)
	restore := func(dump string) call {
		return psql(target.Owner.DSN, "", snippet(t, "-- lift.sql")+snippet(t, "-- defer.sql")+dump+snippet(t, "-- verify.sql")+snippet(t, "-- force.sql"))
	}
	_, problem, err = restore(dump+"\nDELETE FROM public.folders WHERE id = 7;\n").try(t, "psql")
	require.Error(t, err, "an entry without its folder")
	require.Contains(t, problem, "violates foreign key constraint")
	restore(dump).run(t, "psql")
	const rows = "SELECT string_agg(f::text || e::text, ',' ORDER BY f.id) FROM folders f JOIN entries e USING (tenant_id) WHERE e.folder_id = f.id"
	require.Contains(t, query(t, target.super, rows), "acme")
	require.Equal(t, query(t, d.super, rows), query(t, target.super, rows))
	require.Equal(t, before, query(t, target.super, isolation))
	require.Equal(t, keysBefore, query(t, target.super, keys))
	require.Empty(t, target.Migrate(t, target.backup, &Folder{}, &Entry{}))

	one := call{login: d.App.DSN, tenant: "acme", args: []string{"--enable-row-security", "--data-only", "--inserts", "--table=folders"}}
	require.NotContains(t, one.run(t, "pg_dump"), "INSERT", "the page warns of it")
}

// TestDumpHoldsNoRoles: what must be there before a dump is restored.
func TestDumpHoldsNoRoles(t *testing.T) {
	d := newDatabase(t)
	dump := call{login: d.login, args: []string{"--schema-only"}}.run(t, "pg_dump")
	require.NotContains(t, dump, "CREATE ROLE")
	require.Contains(t, dump, "FORCE ROW LEVEL SECURITY")
	require.Contains(t, dump, "TO "+d.backup.BackupRole)
}
