package check

import (
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Audited names the models whose changes must be recorded, as in rls.Isolation.Audits. Without it, Run knows only of tables that have a
// trigger of records.
func Audited(models ...any) Option {
	return func(c *checker) { c.audited = append(c.audited, models...) }
}

// auditStore is a table of records.
type auditStore struct {
	catalog.Relation
	Type     string   // of its tenant column
	Writers  []string // by whose rights the application, or its admin role, can write records
	Function *catalog.AuditFunction
	Users    []string // by whose rights the application, or its admin role, can use the function
}

// auditedTable is a table whose changes are recorded, or should be.
type auditedTable struct {
	catalog.Relation
	store *auditStore
}

var auditStoresQuery = `
SELECT json_agg(json_build_object(
	'schema',   t.nspname,
	'table',    t.relname,
	'owner',    pg_get_userbyid(t.relowner),
	'type',     format_type(t.atttypid, NULL),
	'writers',  (
		SELECT json_agg(DISTINCT users.name)
		FROM pg_class part, aclexplode(part.relacl) e JOIN ` + auditUsers + ` users ON users.oid = e.grantee
		WHERE (part.oid = t.oid OR part.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = t.oid)) AND e.grantee <> t.relowner
			AND e.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')),
	'function', (SELECT ` + catalog.AuditFunctionOf("f") + ` FROM pg_proc f WHERE ` + auditFunction + `),
	'users',    (
		SELECT json_agg(DISTINCT users.name) FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) e
		JOIN ` + auditUsers + ` users ON users.oid = e.grantee WHERE ` + auditFunction + ` AND e.grantee <> f.proowner)))
FROM tenants t WHERE t.relkind = 'p' AND t.relname = '` + audit.Name + `'`

const (
	// auditUsers are the roles of the application and those that Config names.
	auditUsers = `(SELECT oid, name FROM self UNION SELECT r.oid, quote_ident(r.rolname) FROM pg_roles r JOIN trusted USING (oid))`

	auditFunction = `f.pronamespace = t.relnamespace AND f.proname = '` + audit.Name + `' AND f.prorettype = 'trigger'::regtype`
)

var auditedTablesQuery = `
SELECT json_agg(json_build_object(
	'schema',    n.nspname,
	'table',     c.relname,
	'partition', c.relispartition,
	'audits',    ` + catalog.AuditsOf("c") + `) ORDER BY n.nspname, c.relname)
FROM (
	WITH RECURSIVE family AS (
		SELECT oid FROM audited UNION SELECT tgrelid FROM pg_trigger WHERE tgname = '` + audit.Name + `'
		UNION SELECT inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid)
	SELECT oid FROM family
) f JOIN pg_class c USING (oid) JOIN spaces n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')`

func (s auditStore) function() string { return s.Sibling(audit.Name) + "()" }

// genuine reports whether the function is the one that package rls makes.
func (s auditStore) genuine(c *checker) bool {
	f := s.Function
	return f != nil && f.Definer && f.Owner == s.Owner && f.Body == s.body(c) &&
		slices.Equal(slices.Sorted(slices.Values(f.Config)), slices.Sorted(slices.Values(audit.Settings)))
}

func (s auditStore) body(c *checker) string { return audit.Body(c.Config, s.Quoted(), s.Type) }

var auditStoreRules = []rule[*auditStore]{
	{
		code: AuditWritable, severity: High,
		found: func(_ *checker, s *auditStore) bool { return len(s.Writers) > 0 },
		problem: "It holds the records of changes, and a role of the application may write it: who is to be held to account by the records " +
			"changes them.",
		fix: func(_ *checker, s *auditStore) []string {
			return []string{
				fmt.Sprintf("REVOKE INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON TABLE %s FROM %s", s.Quoted(), join(s.Writers)),
				fmt.Sprintf("DO %s", sqltext.Literal(fmt.Sprintf("DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE "+
					"inhparent = %s::regclass LOOP EXECUTE 'REVOKE INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON TABLE ' || part || %s; END LOOP; END",
					sqltext.Literal(s.Quoted()), sqltext.Literal(" FROM "+join(s.Writers))))),
			}
		},
	},
	{
		code: AuditFunctionExposed, severity: High,
		found: func(_ *checker, s *auditStore) bool { return len(s.Users) > 0 },
		problem: "A role of the application may use the function that writes records: by a trigger on a temporary table of its own it writes " +
			"records of changes that never were, for any tenant.",
		fix: func(_ *checker, s *auditStore) []string {
			return []string{fmt.Sprintf("REVOKE ALL ON FUNCTION %s FROM %s", s.function(), join(s.Users))}
		},
	},
	{
		code: AuditFunctionReplaced, severity: High,
		found: func(c *checker, s *auditStore) bool { return !s.genuine(c) },
		problem: "The function that writes its records is missing or not the one that Migrate makes: changes may be recorded wrongly, or not " +
			"at all.",
		fix: func(c *checker, s *auditStore) []string {
			return []string{
				audit.Create(s.Sibling(audit.Name), s.body(c)),
				fmt.Sprintf("ALTER FUNCTION %s OWNER TO %s", s.function(), sqltext.Ident(s.Owner)),
				fmt.Sprintf("REVOKE ALL ON FUNCTION %s FROM PUBLIC", s.function()),
			}
		},
	},
}

var auditedRules = []rule[*auditedTable]{
	{
		code: AuditTriggerMissing, severity: Medium,
		found: func(_ *checker, t *auditedTable) bool { return len(t.missing()) > 0 },
		problem: "Its changes should be recorded, and are not, or not all: the trigger %s is missing, or not the one that Migrate makes. " +
			"Run Migrate.",
		detail: func(_ *checker, t *auditedTable) string { return join(t.missing()) },
	},
	{
		code: AuditTriggerDisabled, severity: Medium,
		found: func(_ *checker, t *auditedTable) bool { return len(t.disabled()) > 0 },
		problem: "Its changes should be recorded, and the trigger %s is disabled, or so with session_replication_role = replica: changes leave no " +
			"trace.",
		detail: func(_ *checker, t *auditedTable) string { return join(t.disabled()) },
		fix: func(_ *checker, t *auditedTable) (steps []string) {
			for _, name := range t.disabled() {
				steps = append(steps, fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", t.Quoted(), name))
			}
			return steps
		},
	},
}

// missing returns the triggers that the table lacks. A partition that was made after Migrate has no trigger for TRUNCATE, which its
// owner alone could run.
func (t *auditedTable) missing() (names []string) {
	for name, kind := range map[string]int{audit.Name: audit.RowType, audit.Truncate: audit.TruncateType} {
		live, exists := t.Audits[name]
		wrong := live.Type != kind || t.store == nil || live.Function != t.store.Schema+"."+audit.Name
		if wrong && (exists || !t.Partition || name != audit.Truncate) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// disabled returns the triggers of the table that do not always fire.
func (t *auditedTable) disabled() (names []string) {
	for name, live := range t.Audits {
		if !live.Always {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// auditedNames returns the names of the tables of audited models.
func (c *checker) auditedNames(db *gorm.DB) ([]string, error) {
	set, err := model.Parse(db, c.Column, c.audited)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(c.audited))
	for n, m := range c.audited {
		if names[n], err = set.TableOf(db, m, nil); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// connectAudits finds the records of each table, and takes their triggers out of those that are judged: their function writes
// nothing but the record of the row, of any owner.
func (c *checker) connectAudits() {
	for _, t := range c.facts.AuditedTables {
		for _, s := range c.facts.AuditStores {
			if live, exists := t.Audits[audit.Name]; !exists || live.Function == s.Schema+"."+audit.Name {
				t.store = s
			}
		}
	}
	c.facts.Triggers = slices.DeleteFunc(c.facts.Triggers, func(t trigger) bool {
		return slices.ContainsFunc(c.facts.AuditStores, func(s *auditStore) bool { return s.genuine(c) && t.Source == s.Function.Body })
	})
}
