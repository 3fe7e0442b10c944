package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
)

// The question whether PostgreSQL isolates the relation that a name means: $1 is the name, $2 the tenant column, $3 a regular
// expression for predicates that bind (package policy), $4 the tables whose policies are trusted, as an array.
//
// holesSQL finds the relations with the column, it and those beneath it, that are not isolated. A view that runs with the
// rights of whoever asks (security_invoker) is as good as the tables beneath it. row_security_active knows about superusers,
// BYPASSRLS, owners and FORCE (https://www.postgresql.org/docs/current/functions-info.html). Permissive policies are joined
// with OR, so that each must bind that applies to the role in use; a restrictive one that binds makes up for them all
// (https://www.postgresql.org/docs/current/sql-createpolicy.html). A temporary relation is of this session, and the guard hands
// over no session that has one: it was made by who uses it.
const holesSQL = `
WITH RECURSIVE beneath (oid) AS (
    SELECT pg_catalog.to_regclass($1)::pg_catalog.oid
  UNION
    SELECT d.refobjid
    FROM beneath b
    JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) b.oid AND v.relkind OPERATOR(pg_catalog.=) 'v'
    JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) v.oid
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                               AND d.objid OPERATOR(pg_catalog.=) w.oid
                               AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
), applied AS (
    SELECT p.polrelid AS oid, p.polname, p.polpermissive, p.polcmd, p.polqual IS NOT NULL AS selects,
           coalesce(u.text OPERATOR(pg_catalog.=) 'false' OR u.text OPERATOR(pg_catalog.~) $3 AND u.text OPERATOR(pg_catalog.!~) '` + policy.Unsafe + `', true)
       AND coalesce(k.text OPERATOR(pg_catalog.=) 'false' OR k.text OPERATOR(pg_catalog.~) $3 AND k.text OPERATOR(pg_catalog.!~) '` + policy.Unsafe + `', true) AS binds
    FROM beneath b
    JOIN pg_catalog.pg_policy p ON p.polrelid OPERATOR(pg_catalog.=) b.oid,
    LATERAL (SELECT pg_catalog.pg_get_expr(p.polqual, p.polrelid)) u (text),
    LATERAL (SELECT pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) k (text)
    WHERE EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) r (oid)
                  WHERE r.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'))
), holes AS (
    SELECT c.oid::pg_catalog.regclass::pg_catalog.text AS name, c.relkind::pg_catalog.text AS kind,
           me.rolname::pg_catalog.text AS role, me.rolsuper OR me.rolbypassrls AS exempt, c.relrowsecurity AS secured, bad.polname::pg_catalog.text AS policy
    FROM beneath
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) beneath.oid
    JOIN pg_catalog.pg_roles me ON me.rolname OPERATOR(pg_catalog.=) current_user
    LEFT JOIN LATERAL (
        SELECT a.polname FROM applied a
        WHERE a.oid OPERATOR(pg_catalog.=) c.oid AND a.polpermissive AND NOT a.binds
          AND NOT EXISTS (SELECT FROM applied r WHERE r.oid OPERATOR(pg_catalog.=) c.oid AND NOT r.polpermissive AND r.binds
                                                  AND r.polcmd OPERATOR(pg_catalog.=) '*' AND r.selects)
          AND c.oid OPERATOR(pg_catalog.<>) ALL (SELECT coalesce(pg_catalog.to_regclass(t.name)::pg_catalog.oid, 0::pg_catalog.oid)
                                                 FROM pg_catalog.unnest($4::pg_catalog.text[]) t (name))
        ORDER BY a.polname LIMIT 1) bad ON true
    WHERE EXISTS (SELECT FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name AND NOT a.attisdropped)
      AND c.relnamespace OPERATOR(pg_catalog.<>) pg_catalog.pg_my_temp_schema()
      AND NOT (c.relkind OPERATOR(pg_catalog.=) 'v' AND EXISTS (
              SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o
              WHERE o.option_name OPERATOR(pg_catalog.=) 'security_invoker' AND o.option_value::pg_catalog.bool))
      AND (c.relkind NOT IN ('r', 'p') OR NOT pg_catalog.row_security_active(c.oid) OR bad.polname IS NOT NULL)
)`

// shapeSQL is what the relation itself is: whether there is one, and it has the column, and is a temporary one.
const shapeSQL = `(SELECT c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AS temporary,
        EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name AND NOT a.attisdropped) AS columned
 FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid)`

// askSQL asks in full, for the verdict and its reason.
const askSQL = holesSQL + `
SELECT shape.temporary, shape.columned, h.name, h.kind, h.role, h.exempt, h.secured, h.policy
FROM (SELECT) always LEFT JOIN ` + shapeSQL + ` shape ON true LEFT JOIN (SELECT * FROM holes ORDER BY exempt DESC, name LIMIT 1) h ON true`

// proveSQL asks for a yes, and raises an error otherwise. Where a model has the column, its table must have it.
const (
	proveSQL = holesSQL + `
SELECT CASE WHEN EXISTS (SELECT FROM holes) THEN pg_catalog.current_setting('` + notIsolatedMark + `') END`
	proveColumnSQL = holesSQL + `
SELECT CASE WHEN EXISTS (SELECT FROM holes) OR EXISTS (SELECT FROM ` + shapeSQL + ` shape WHERE NOT columned AND NOT temporary)
       THEN pg_catalog.current_setting('` + notIsolatedMark + `') END`

	// notIsolatedMark is a setting that no one has.
	notIsolatedMark = "tenancy.table_is_not_isolated"
)

// validity is for how long a proof is good. The guard asks again in the round trip of the next statement.
const validity = 30 * time.Second

// prove makes sure, before a statement on a table runs, that PostgreSQL isolates it. The first statement of a pool on a tenant
// table asks in a round trip of its own, for the reason of a refusal; all that comes after is asked in the statement's.
//
// It looks at the statement's table and at relations that it joins. Preloads and associations are statements of their
// own. Tables in raw SQL and in subqueries are not seen: rls.Isolation.Check sees them.
func (p *Plugin) prove(s *statement, pool *pool) error {
	if p.config.DangerouslySkipProof || s.DryRun || s.op == "raw" || readsColumnTypes(s) {
		return nil
	}
	if key, needed := s.tableName(); needed {
		if err := p.proveTable(s, pool, key, s.tenant.field != nil); err != nil {
			return err
		}
	}
	for i := range s.Joins {
		for _, relation := range relations(s.Schema, s.Joins[i].Name) {
			if isShared(relation) {
				continue
			}
			if err := p.proveTable(s, pool, relation.Table, p.fieldOf(relation) != nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// tableName returns the name under which a proof of the statement's table is remembered, and whether one is needed. A model
// without the tenant column may have a table that has it: the column's default fills it.
func (s *statement) tableName() (string, bool) {
	if s.Schema != nil && isShared(s.Schema) {
		return "", false
	}
	if s.TableExpr == nil {
		return s.Table, s.Table != "" && (s.tenant.field != nil || s.SQL.Len() == 0)
	}
	// The caller named the table, so that the model tells little. PostgreSQL knows whether it has the column.
	return s.TableExpr.SQL, len(s.TableExpr.Vars) == 0
}

// isTenantTable reports whether PostgreSQL has said that the statement's table, which has no model, has the column.
func (p *Plugin) isTenantTable(s *statement) bool {
	key, needed := s.tableName()
	if !needed || s.bypass != nil {
		return false
	}
	pool, err := p.takePool(s.DB)
	if err != nil {
		return false
	}
	known := pool.proofs.of(tableKey{key, false})
	if known == nil {
		return false
	}
	found := known.verdict()
	return found == isolated || found == temporary
}

// proveTable proves one table. hasField says that its model has the tenant column.
func (p *Plugin) proveTable(s *statement, pool *pool, key string, hasField bool) error {
	known := pool.proofs.of(tableKey{key, hasField})
	if known == nil {
		known = p.newTable(s.nameOf(key), hasField)
		if hasField || s.TableExpr != nil || p.config.DangerouslyWarnOnly {
			known.doubt.Store(true)
		}
		pool.proofs.remember(tableKey{key, hasField}, known)
	}
	if known.doubt.Load() || p.config.DangerouslyWarnOnly && known.Due(guard.Now()) {
		v, err := p.ask(s.Context, plain(s.ConnPool), s.nameOf(key), hasField && s.SQL.Len() == 0)
		if errors.Is(err, ErrNotIsolated) && p.config.DangerouslyWarnOnly {
			p.config.Logger.WarnContext(s.Context, err.Error(), "table", s.Table)
			v, err = isolated, nil
		}
		if err != nil {
			return err
		}
		known.found.Store(uint32(v))
		if v == absent || v == temporary || hasField && v == columnless {
			return nil // which is not remembered
		}
		known.Yes(guard.Now())
		known.doubt.Store(false)
	}
	if o := guard.OriginOf(s.Context); o != nil && o.SQL == &s.SQL && !p.config.DangerouslyWarnOnly {
		if o.Proofs == nil {
			o.Proofs = known.self[:]
		} else {
			o.Proofs = append(o.Proofs[:len(o.Proofs):len(o.Proofs)], &known.Proof)
		}
	}
	return nil
}

// newTable is a table that nothing is known about.
func (p *Plugin) newTable(name string, hasField bool) *table {
	t := &table{}
	t.self = [1]*guard.Proof{&t.Proof}
	t.SQL, t.Valid = proveSQL, validity
	if hasField {
		t.SQL = proveColumnSQL
	}
	for _, arg := range p.proofArgs(name) {
		t.Args = append(t.Args, []byte(arg))
	}
	t.Refuse = func(err error) error {
		if !guard.Raises(err, notIsolatedMark) {
			return err
		}
		t.Yes(time.Time{})
		t.doubt.Store(true) // the next statement asks in full
		return because(ErrNotIsolated, "%s has the column %s, or its model has, and PostgreSQL does not isolate it for the role in use, or "+
			"not any more: the next statement says why; rls.Isolation{}.Check says it of all tables", name, quote(p.config.Column))
	}
	return t
}

// proofArgs are the parameters of the question.
func (p *Plugin) proofArgs(name string) []string {
	trusted := make([]string, len(p.config.DangerouslyTrustPolicies))
	for i, t := range p.config.DangerouslyTrustPolicies {
		trusted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t) + `"`
	}
	return []string{name, p.config.Column, policy.Pattern(p.config.Setting, p.config.Column), "{" + strings.Join(trusted, ",") + "}"}
}

// once makes pgx send a question that is not asked again in one round trip, without preparing it first. The guard takes
// it for the mode exec, unless simple is the connection's mode.
const once = pgx.QueryExecModeSimpleProtocol

// ask puts the question to PostgreSQL, under the role and on the connection of the statement that wants to know.
func (p *Plugin) ask(ctx context.Context, pool gorm.ConnPool, table string, wantsColumn bool) (verdict, error) {
	var (
		isTemporary, hasColumn   sql.NullBool
		name, kind, role, policy sql.NullString
		exempt, secured          sql.NullBool
	)
	args := []any{once}
	for _, arg := range p.proofArgs(table) {
		args = append(args, arg)
	}
	err := pool.QueryRowContext(guard.Own(ctx, askSQL), askSQL, args...).Scan(
		&isTemporary, &hasColumn, &name, &kind, &role, &exempt, &secured, &policy)
	switch {
	case err != nil:
		return unknown, err
	case !isTemporary.Valid:
		return absent, nil // PostgreSQL will say so better
	case name.Valid:
		return unknown, because(ErrNotIsolated, "%s", remedy(name.String, kind.String, role.String, exempt.Bool, secured.Bool, policy.String))
	case isTemporary.Bool && !hasColumn.Bool:
		return absent, nil // nor is there anything to isolate
	case isTemporary.Bool:
		return temporary, nil
	case hasColumn.Bool:
		return isolated, nil
	case wantsColumn:
		return unknown, because(ErrNotIsolated, "the model has the column %s, and the table %s has not, so that no policy can bind it: "+
			"run rls.Isolation{}.Migrate with the model, or make it a SharedModel", quote(p.config.Column), table)
	}
	return columnless, nil
}

// remedy says why a table is not isolated, and what fixes it.
func remedy(table, kind, role string, exempt, secured bool, policy string) string {
	const ordinary, partitioned, view = "r", "p", "v"
	switch {
	case exempt:
		return "no policy applies to the role " + quote(role) + ", a superuser or one with BYPASSRLS: use another role"
	case kind == view:
		return "the view " + table + " shows what its owner sees: create it WITH (security_invoker = true), of " +
			"PostgreSQL 15 and later"
	case kind != ordinary && kind != partitioned:
		return table + " is no table, and can have no policy: read tenants' rows from the table itself"
	case policy != "":
		return "the policy " + quote(policy) + " of " + table + " is of a form that cannot be shown to bind it to the tenant: run " +
			"rls.Isolation{}.Migrate with its model, or write USING as package rls does, or name the table in Config.DangerouslyTrustPolicies"
	case secured:
		return "the role " + quote(role) + " owns " + table + ", and owners are exempt: run ALTER TABLE " + table +
			" FORCE ROW LEVEL SECURITY, or use a role that does not own it"
	default:
		return "row-level security is off on " + table + ": run rls.Isolation{}.Migrate with its model, or ALTER TABLE " +
			table + " ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY and create a policy"
	}
}

// identifier is the table name at the beginning of what was given to db.Table, such as "s"."t" AS x.
var identifier = regexp.MustCompile(`^\s*((?:"[^"]+"|[\pL_][\pL\pN_$]*)(?:\.(?:"[^"]+"|[\pL_][\pL\pN_$]*))*)`)

// nameOf returns the table of a key as to_regclass reads it: in SQL, quoted where it has to be.
func (s *statement) nameOf(key string) string {
	if s.TableExpr == nil || key != s.TableExpr.SQL {
		return s.Quote(key)
	}
	if m := identifier.FindStringSubmatch(key); m != nil {
		return m[1]
	}
	if s.Schema != nil {
		return s.Quote(s.Schema.Table)
	}
	return key
}

// relations returns the models that a join by name leads through, such as "Manager.Company"; none for raw SQL.
func relations(from *schema.Schema, name string) []*schema.Schema {
	if from == nil {
		return nil
	}
	var through []*schema.Schema
	for part := range strings.SplitSeq(name, ".") {
		relation := from.Relationships.Relations[part]
		if relation == nil {
			return nil
		}
		from = relation.FieldSchema
		through = append(through, from)
	}
	return through
}

// readsColumnTypes recognises how GORM's migrator learns the types of a table's columns: it reads one row, and looks
// only at its description. AutoMigrate of a table that has no policy yet must be able to.
func readsColumnTypes(s *statement) bool {
	if s.op != "row" || s.Schema != nil || s.SQL.Len() > 0 || len(s.Clauses) != 1 || len(s.Selects) > 0 {
		return false
	}
	limit, _ := s.Clauses["LIMIT"].Expression.(clause.Limit)
	tenant, decided := guard.Tenant(s.Context)
	return limit.Limit != nil && *limit.Limit == 1 && tenant == "" && decided
}

// verdict is what PostgreSQL said of a table.
type verdict uint32

const (
	unknown    verdict = iota
	isolated           // it has the tenant column, and policies bind it
	columnless         // it has no tenant column
	temporary          // it has the column, and is a temporary one of the session
	absent             // there is no such table, or only a temporary one without the column
)

// table is what is known about a table: what PostgreSQL said, and the question that goes on being asked.
type table struct {
	guard.Proof
	self  [1]*guard.Proof
	found atomic.Uint32 // a verdict
	doubt atomic.Bool   // it is to be asked about in full, before anything else is sent
}

func (t *table) verdict() verdict { return verdict(t.found.Load()) }

// tableKey is what a table is remembered by: its name in GORM's hands, and whether its model has the tenant column.
type tableKey struct {
	name     string
	hasField bool
}

// proofs remembers tables. Reading takes no lock and allocates nothing; writing copies, which is rare.
type proofs struct {
	known   atomic.Pointer[map[tableKey]*table]
	writing sync.Mutex
}

// maxProofs bounds the memory for applications that make up table names. What is not remembered is asked again.
const maxProofs = 1024

func (p *proofs) of(key tableKey) *table {
	if known := p.known.Load(); known != nil {
		return (*known)[key]
	}
	return nil
}

func (p *proofs) remember(key tableKey, t *table) {
	p.writing.Lock()
	defer p.writing.Unlock()
	next := map[tableKey]*table{}
	if known := p.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	if len(next) < maxProofs {
		next[key] = t
		p.known.Store(&next)
	}
}
