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

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// proofSQL asks whether policies apply to the table $1, for the role in use, and whether it has the column $2. Both are
// about nothing if there is no such table. row_security_active knows about superusers, BYPASSRLS, owners and FORCE
// (https://www.postgresql.org/docs/current/functions-info.html).
const proofSQL = `
SELECT pg_catalog.row_security_active(t.oid),
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = t.oid AND a.attname = $2 AND NOT a.attisdropped)
FROM (SELECT pg_catalog.to_regclass($1)::oid) t (oid)`

// leakSQL finds out why a table is not isolated. A view that runs with the rights of whoever asks (security_invoker) is
// as good as the tables beneath it, and is judged by them.
const leakSQL = `
WITH RECURSIVE beneath (oid) AS (
    SELECT pg_catalog.to_regclass($1)::oid
  UNION
    SELECT d.refobjid
    FROM beneath b
    JOIN pg_catalog.pg_class v ON v.oid = b.oid AND v.relkind = 'v'
    JOIN pg_catalog.pg_rewrite w ON w.ev_class = v.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
                               AND d.refclassid = 'pg_catalog.pg_class'::regclass
)
SELECT c.oid::regclass::text, c.relkind::text, me.rolname::text, me.rolsuper OR me.rolbypassrls, c.relrowsecurity
FROM beneath
JOIN pg_catalog.pg_class c ON c.oid = beneath.oid
JOIN pg_catalog.pg_roles me ON me.rolname = current_user
WHERE EXISTS (SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped)
  AND NOT pg_catalog.row_security_active(c.oid)
  AND NOT (c.relkind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o
                                       WHERE o.option_name = 'security_invoker' AND o.option_value::bool))
LIMIT 1`

// prove makes sure, before the first statement of a pool on a tenant's table, that PostgreSQL isolates it.
//
// It looks at the statement's table and at relations that it joins. Preloads and associations are statements of their
// own. Tables in raw SQL and in subqueries are not seen: rls.Isolation.Check sees them.
func (p *Plugin) prove(s *statement, pool *pool) error {
	if p.config.DangerouslySkipProof || s.DryRun || s.op == "raw" || readsColumnTypes(s) {
		return nil
	}
	if key, found := s.tableKey(); found {
		if err := p.proveTable(s, pool, key); err != nil {
			return err
		}
	}
	for i := range s.Joins {
		for _, relation := range relations(s.Schema, s.Joins[i].Name) {
			if p.fieldOf(relation) == nil {
				continue
			}
			if err := p.proveTable(s, pool, relation.Table); err != nil {
				return err
			}
		}
	}
	return nil
}

// tableKey returns the name under which a proof of the statement's table is remembered, and whether one is needed.
func (s *statement) tableKey() (string, bool) {
	if s.TableExpr == nil {
		return s.Table, s.tenant.field != nil
	}
	// The caller named the table, so that the model tells little. PostgreSQL knows whether it has the column.
	if len(s.TableExpr.Vars) > 0 || s.Schema != nil && isShared(s.Schema) {
		return "", false
	}
	return s.TableExpr.SQL, true
}

// isTenantTable reports whether PostgreSQL has said that the statement's table, which has no model, has the column.
func (p *Plugin) isTenantTable(s *statement) bool {
	key, found := s.tableKey()
	if !found || s.bypass != nil {
		return false
	}
	pool, err := p.takePool(s.DB)
	return err == nil && pool.proofs.of(key) == isolated
}

func (p *Plugin) proveTable(s *statement, pool *pool, key string) error {
	switch pool.proofs.of(key) {
	case isolated, columnless:
		return nil
	case absent:
		if s.SQL.Len() > 0 {
			return nil // raw SQL into a struct that only looks like a tenant's model
		}
	}
	v, err := p.ask(s.Context, plain(s.ConnPool), s.nameOf(key))
	if errors.Is(err, ErrNotIsolated) && p.config.DangerouslyWarnOnly {
		p.config.Logger.WarnContext(s.Context, err.Error(), "table", s.Table)
		v, err = isolated, nil
	}
	if err == nil {
		pool.proofs.remember(key, v)
	}
	return err
}

// once makes pgx send a question that is not asked again in one round trip, without preparing it first. The guard takes
// it for the mode exec, unless simple is the connection's mode.
const once = pgx.QueryExecModeSimpleProtocol

// ask puts the question to PostgreSQL, under the role and on the connection of the statement that wants to know.
func (p *Plugin) ask(ctx context.Context, pool gorm.ConnPool, table string) (verdict, error) {
	var (
		active    sql.NullBool
		hasColumn bool
	)
	err := pool.QueryRowContext(guard.Own(ctx, proofSQL), proofSQL, once, table, p.config.Column).Scan(&active, &hasColumn)
	switch {
	case err != nil:
		return unknown, err
	case !active.Valid:
		return absent, nil // PostgreSQL will say so better
	case !hasColumn:
		return columnless, nil
	case active.Bool:
		return isolated, nil
	}

	var (
		name, kind, role   string
		exempt, rowSecures bool
	)
	err = pool.QueryRowContext(guard.Own(ctx, leakSQL), leakSQL, once, table, p.config.Column).Scan(&name, &kind, &role, &exempt, &rowSecures)
	if errors.Is(err, sql.ErrNoRows) {
		return isolated, nil // a view that is as good as its tables
	}
	if err != nil {
		return unknown, err
	}
	return unknown, because(ErrNotIsolated, "%s", remedy(name, kind, role, exempt, rowSecures))
}

// remedy says why a table is not isolated, and what mends it.
func remedy(table, kind, role string, exempt, rowSecures bool) string {
	const ordinary, partitioned, view = "r", "p", "v"
	switch {
	case exempt:
		return "no policy applies to the role " + quote(role) + ", a superuser or one with BYPASSRLS: use another role"
	case kind == view:
		return "the view " + table + " shows what its owner sees: create it WITH (security_invoker = true), of " +
			"PostgreSQL 15 and later"
	case kind != ordinary && kind != partitioned:
		return table + " is no table, and can have no policy: read tenants' rows from the table itself"
	case rowSecures:
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
type verdict uint8

const (
	unknown    verdict = iota
	isolated           // it has the tenant column, and policies apply
	columnless         // it has no tenant column
	absent             // there is no such table
)

// proofs remembers verdicts. Reading takes no lock and allocates nothing; writing copies, which is rare.
type proofs struct {
	known   atomic.Pointer[map[string]verdict]
	writing sync.Mutex
}

// maxProofs bounds the memory for applications that make up table names. What is not remembered is asked again.
const maxProofs = 1024

func (p *proofs) of(table string) verdict {
	if known := p.known.Load(); known != nil {
		return (*known)[table]
	}
	return unknown
}

func (p *proofs) remember(table string, v verdict) {
	p.writing.Lock()
	defer p.writing.Unlock()
	next := map[string]verdict{}
	if known := p.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	if len(next) < maxProofs {
		next[table] = v
		p.known.Store(&next)
	}
}
