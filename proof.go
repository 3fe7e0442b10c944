package tenancy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/private"
)

// proofValid is how long a yes of PostgreSQL counts for the statements of a pool.
const proofValid = 30 * time.Second

// verifyIsolation ensures that PostgreSQL isolates the tables of a statement. The first statement of a pool on a tenant table
// asks in a round trip of its own, before anything is sent, so that a no does not fail a transaction. Later the question travels
// with a statement when the last yes is too old: see guard.Proof. About other tables it always travels with the statement, so
// that shared tables cost no round trip.
//
// It checks the statement's table, all that db.Table names, relations that it joins and tables of clause.From. Preloads and associations are
// statements of their own. It does not see tables in raw SQL and in other subqueries; check.Run of package rls/check does.
func (p *Plugin) verifyIsolation(s *statement, pool *pool) error {
	if p.config.DangerouslySkipProof || s.DryRun || s.op == "raw" || readsColumnTypes(s) {
		return nil
	}
	if p.config.LookupRole != "" && s.looksUp() {
		return nil // what that role may read was decided by a migration
	}
	on, err := p.serverOfStatement(s, pool)
	if err != nil {
		return err
	}
	origin := originOf(s.Statement)
	if key, found := p.subject(s); found {
		if err := p.proveTable(s, on, key, origin); err != nil {
			return err
		}
	}
	for i := range s.Joins {
		for _, relation := range relations(s.Schema, s.Joins[i].Name) {
			key := subject{table: relation.Table, kind: kindTable}
			switch {
			case policy.IsShared(relation):
				continue
			case p.fieldOf(relation) != nil:
				key.kind = kindTenant
			}
			if err := p.proveTable(s, on, key, origin); err != nil {
				return err
			}
		}
	}
	for _, table := range furtherTables(s.TableExpr) {
		if err := p.proveTable(s, on, subject{table: table, sql: true, kind: kindTable}, origin); err != nil {
			return err
		}
	}
	return p.proveFrom(s, on, origin)
}

// proveFrom asks about tables that clause.From names, such as the join table of a many2many association.
func (p *Plugin) proveFrom(s *statement, on *server, origin *guard.Origin) error {
	from, _ := s.Clauses["FROM"].Expression.(clause.From)
	tables := slices.Clip(from.Tables)
	for i := range from.Joins {
		if from.Joins[i].Expression == nil {
			tables = append(tables, from.Joins[i].Table)
		}
	}
	for i := range tables {
		key := subject{table: tables[i].Name, kind: kindTable}
		if tables[i].Raw || key.table == "" || key.table == clause.CurrentTable || key.table == s.Table ||
			on.proofs.of(key) == nil && p.isSharedTable(s, key.table) {
			continue
		}
		if err := p.proveTable(s, on, key, origin); err != nil {
			return err
		}
	}
	return nil
}

// isSharedTable reports whether a model that GORM has parsed declares the table shared.
func (p *Plugin) isSharedTable(s *statement, table string) (shared bool) {
	known := private.CacheStore(s.DB.Config)
	if known == nil {
		return false
	}
	known.Range(func(_, v any) bool {
		model, ok := v.(*schema.Schema)
		shared = ok && model.Table == table && policy.IsShared(model)
		return !shared
	})
	return shared
}

// subject is what a proof is about: a table by its name in a statement.
type subject struct {
	table string
	sql   bool // the name is SQL that the caller has given to db.Table
	kind  subjectKind
}

// subjectKind is the parameter $4 of answersSQL.
type subjectKind string

const (
	kindTenant subjectKind = "tenant" // the table of a model that has the tenant column
	kindOwn    subjectKind = "own"    // the same of an OwnRowsModel, whose rows all may read
	kindTable  subjectKind = "table"
	kindRaw    subjectKind = "raw" // the table of a model into which raw SQL is read, which may be about another
)

// subject returns what must be proved about the table of a statement, and false if nothing must.
func (p *Plugin) subject(s *statement) (subject, bool) {
	shared := s.Schema != nil && policy.IsShared(s.Schema)
	switch {
	case s.TableExpr != nil:
		// The caller named the table, so that the model tells little. PostgreSQL knows whether it has the column.
		return subject{table: s.TableExpr.SQL, sql: true, kind: kindTable}, len(s.TableExpr.Vars) == 0 && !shared
	case s.SQL.Len() > 0: // SQL of the caller
		return subject{table: s.Table, kind: kindRaw}, s.tenant.field != nil
	case s.tenant.field != nil && shared:
		return subject{table: s.Table, kind: kindOwn}, true
	case s.tenant.field != nil:
		return subject{table: s.Table, kind: kindTenant}, true
	default:
		return subject{table: s.Table, kind: kindTable}, s.Schema != nil && !shared
	}
}

// isTenantTable reports whether PostgreSQL has said that the statement's table, which has no model, has the column.
func (p *Plugin) isTenantTable(s *statement) bool {
	key, found := p.subject(s)
	if !found || s.bypass != nil {
		return false
	}
	if s.ownTemporary {
		tenant, _ := guard.Tenant(s.Context)
		return tenant != "" // its default, if it has one, fills in nothing else
	}
	pool, err := p.takePool(s.DB)
	if err != nil {
		return false
	}
	on, err := p.serverOfStatement(s, pool)
	if err != nil {
		return false
	}
	known := on.proofs.of(key)
	return known != nil && known.holdsTenants()
}

// proveTable asks about a table now, or lets the guard ask.
func (p *Plugin) proveTable(s *statement, on *server, key subject, origin *guard.Origin) error {
	known := on.proofs.of(key)
	if known == nil {
		name := s.nameOf(key)
		if name == "" {
			return nil // not the name of a table
		}
		known = p.newProof(on, key, name)
	}
	switch {
	case p.observes():
		return p.observeTable(s, known)
	case p.config.DangerouslyWarnOnly:
		return p.warnAbout(s, known)
	}
	if known.verdict.Load() == nil && s.asksFirst(key) {
		v, err := p.ask(s.Context, unprepared(s.ConnPool), known)
		switch {
		case err != nil:
			return err
		case v == temporary:
			s.ownTemporary = true
		case v == isolated || v == keyed || v == columnless:
			known.verdict.Store(&v)
			on.proofs.remember(known)
		}
	}
	origin.Proofs = appendProof(origin.Proofs, known)
	return nil
}

// asksFirst reports whether the plugin asks before the first statement, instead of the guard. It does so for a model's own
// table; if rows are maps, because it must know whether to fill in the column; if the clause ON CONFLICT must name the column;
// and if the statement's error is in a *sql.Row, where it could not be reported to Config.OnRefuse.
func (s *statement) asksFirst(key subject) bool {
	if key.kind != kindTable {
		return key.kind != kindRaw
	}
	conflict, _ := s.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	return s.op == "row" || s.op == "create" && (s.Schema == nil || len(conflict.Columns) > 0 || conflict.UpdateAll)
}

// appendProof adds a proof. Mostly it is the only one, and nothing is allocated.
func appendProof(proofs []*guard.Proof, p *proof) []*guard.Proof {
	switch {
	case len(proofs) == 0:
		return p.alone[:]
	case slices.Contains(proofs, &p.Proof):
		return proofs
	default:
		return append(slices.Clip(proofs), &p.Proof)
	}
}

// warnAbout asks at most once in proofValid, in a round trip of its own, and writes a warning if the answer is no.
func (p *Plugin) warnAbout(s *statement, known *proof) error {
	now := clock.Now()
	if !known.Due(now) {
		return nil
	}
	v, err := p.ask(s.Context, unprepared(s.ConnPool), known)
	switch {
	case errors.Is(err, ErrNotIsolated):
		p.config.Logger.WarnContext(s.Context, err.Error(), "table", s.Table)
		v = unproved
	case err != nil:
		return err
	}
	known.Yes(now, string(v))
	return nil
}

// once makes pgx send a question that is asked once in one round trip, without preparing it. The guard uses the mode exec for
// it, unless simple is the connection's mode.
const once = pgx.QueryExecModeSimpleProtocol

// ask asks PostgreSQL under the role and on the connection of the statement.
func (p *Plugin) ask(ctx context.Context, pool gorm.ConnPool, about *proof) (verdict, error) {
	args := []any{once}
	for _, arg := range about.Args {
		args = append(args, string(arg))
	}
	var v verdict
	var document string
	sql := askSQL
	if p.config.Engine == Citus {
		sql = askShardsSQL
	}
	if err := pool.QueryRowContext(guard.Own(ctx, sql), sql, args...).Scan(&v, &document); err != nil {
		return "", notAnswered(err)
	}
	if document != "" {
		return "", readLeak(document).err(p.config)
	}
	return v, nil
}

// nameOf returns the table of a subject as to_regclass reads it: in SQL, quoted if necessary. It returns "" if SQL of the caller
// does not begin with a table.
func (s *statement) nameOf(key subject) string {
	if !key.sql {
		return s.Quote(key.table)
	}
	if m := identifier.FindStringSubmatch(key.table); m != nil {
		if m[2] != "" {
			return "" // a function
		}
		return m[1]
	}
	if s.Schema != nil {
		return s.Quote(s.Schema.Table)
	}
	return ""
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

// readsColumnTypes recognises how GORM's migrator reads the types of a table's columns: it selects one row and uses only its
// description. AutoMigrate must be able to do so before the table has a policy.
func readsColumnTypes(s *statement) bool {
	if s.op != "row" || s.Schema != nil || s.SQL.Len() > 0 || len(s.Selects) > 0 {
		return false
	}
	for name := range s.Clauses {
		if name != "LIMIT" && name != originKey {
			return false
		}
	}
	limit, _ := s.Clauses["LIMIT"].Expression.(clause.Limit)
	tenant, decided := guard.Tenant(s.Context)
	return limit.Limit != nil && *limit.Limit == 1 && tenant == "" && decided
}

// verdict is what PostgreSQL says of a table that it isolates, or that needs no isolation.
type verdict string

// Verdicts of answersSQL. The others are for a temporary table without the column, and for no table.
const (
	isolated   verdict = "isolated"   // it has the tenant column, and policies apply
	keyed      verdict = "keyed"      // the same, and its primary key has the column too
	columnless verdict = "columnless" // it has no tenant column
	temporary  verdict = "temporary"  // it is the caller's own, and has the column
	open       verdict = "open"       // it is observed: it has the tenant column, and no policy that isolates
	unproved   verdict = "unproved"   // Config.DangerouslyWarnOnly lets it pass, as if it were isolated
)

// proof is the question about a table, and what PostgreSQL has answered.
type proof struct {
	guard.Proof
	about   subject
	verdict atomic.Pointer[verdict] // nil before the first yes that counts for other statements
	alone   [1]*guard.Proof         // for statements on this table and no other
}

// holdsTenants reports whether the table is known to have the tenant column.
func (q *proof) holdsTenants() bool {
	v := q.verdict.Load()
	return v != nil && (*v == isolated || *v == keyed || *v == unproved)
}

// newProof returns the question about a table. It is remembered once PostgreSQL has said yes, because a name may be made up for
// one transaction.
func (p *Plugin) newProof(on *server, about subject, name string) *proof {
	q := &proof{about: about}
	q.alone[0] = &q.Proof
	q.SQL, q.Valid, q.Server = raiseSQL, proofValid, &on.Server
	if p.config.Engine == Citus {
		q.SQL = raiseShardsSQL
	}
	q.Args = [][]byte{[]byte(name), []byte(p.config.Column), p.pattern, []byte(about.kind), p.trusted}
	q.Noted = func(answer string) {
		v := verdict(answer)
		q.verdict.Store(&v)
		on.proofs.remember(q)
	}
	q.Refuse = func(err error) error {
		l := leakIn(err)
		if l == nil {
			return err
		}
		on.proofs.forget(q)
		return l.err(p.config)
	}
	if p.config.DangerouslyWarnOnly || p.observes() {
		on.proofs.remember(q) // or it would ask, and warn, each time
	}
	return q
}

// proofs remembers what was proved. Reading takes no lock and allocates nothing; writing copies the map, which is rare.
type proofs struct {
	known   atomic.Pointer[map[subject]*proof]
	writing sync.Mutex
}

// maxProofs bounds the memory if an application makes up table names. What is not remembered is asked each time.
const maxProofs = 1024

func (p *proofs) of(table subject) *proof {
	if known := p.known.Load(); known != nil {
		return (*known)[table]
	}
	return nil
}

func (p *proofs) remember(q *proof) {
	if p.of(q.about) != nil {
		return
	}
	p.change(func(known map[subject]*proof) {
		if len(known) < maxProofs && known[q.about] == nil {
			known[q.about] = q
		}
	})
}

func (p *proofs) forget(q *proof) {
	p.change(func(known map[subject]*proof) {
		if known[q.about] == q {
			delete(known, q.about)
		}
	})
}

func (p *proofs) change(edit func(map[subject]*proof)) {
	p.writing.Lock()
	defer p.writing.Unlock()
	next := map[subject]*proof{}
	if known := p.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	edit(next)
	p.known.Store(&next)
}
