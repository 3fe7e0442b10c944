package tenancy

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// Config.DangerouslyObserve: an application that is not isolated yet learns which of its statements have no tenant.

// observes reports whether statements without a tenant pass.
func (p *Plugin) observes() bool { return p.config.DangerouslyObserve != nil }

// isObserved reports whether the statement has no tenant and passes nevertheless. An id that cannot be used is a decision, and is
// refused.
func (s *statement) isObserved() bool {
	if s.bypass != nil || !s.plugin.observes() ||
		guard.CheckTenant(s.Context) != guard.ErrNoTenant { //nolint:errorlint // an error that wraps it means that the context says something
		return false
	}
	if !gormtx.In(s.ConnPool) {
		return true
	}
	_, err := guard.TransactionTenant(s.Context, unprepared(s.ConnPool))
	return errors.Is(err, ErrNoTenant)
}

// observe lets the statement pass and reports it, unless PostgreSQL applies policies to the login: then it would find no row, and an
// application that goes on with that is worse off than with an error.
func (s *statement) observe() error {
	bound, err := s.isBound()
	switch {
	case err != nil:
		return err
	case bound:
		return wrapf(ErrNoTenant, "the table's policies apply to the login already, so that it cannot be observed any more")
	}
	guard.OriginOf(s.Context).Observed = true
	s.plugin.reportObserved(s.Context, &Error{Op: s.op, Table: s.Table, Err: ErrNoTenant})
	return nil
}

// boundSQL asks whether policies hide rows of the table $1 from the current role. No policy for it alone shows every row.
const boundSQL = `SELECT coalesce(pg_catalog.row_security_active(t.oid) AND NOT EXISTS (
	SELECT FROM pg_catalog.pg_policy p
	WHERE p.polrelid = t.oid AND p.polpermissive AND p.polcmd = '*' AND pg_catalog.pg_get_expr(p.polqual, t.oid) = 'true'
		AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) r (role)
			WHERE r.role = 0::pg_catalog.oid OR pg_catalog.pg_has_role(current_user, r.role, 'USAGE'))), false)
FROM (SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid) t`

// isBound asks PostgreSQL whether policies hide rows of the statement's table from the login. SQL of the caller is not searched
// for tables.
func (s *statement) isBound() (bool, error) {
	key, found := s.plugin.subject(s)
	if !found || s.DryRun || s.op == "raw" || s.SQL.Len() > 0 {
		return false, nil
	}
	name, pool := s.nameOf(key), s.plugin.knownPool(s.ConnPool)
	if name == "" || pool == nil {
		return false, nil
	}
	return pool.bound.get(name, func() (yes bool, err error) {
		row := unprepared(s.ConnPool).QueryRowContext(guard.Own(s.Context, boundSQL), boundSQL, once, name)
		return yes, row.Scan(&yes)
	})
}

// boundTables remembers for proofValid whether policies apply to the login on tables, by name.
type boundTables struct {
	mu    sync.Mutex
	known map[string]boundTable
}

type boundTable struct {
	yes bool
	at  time.Time
}

func (b *boundTables) get(table string, ask func() (bool, error)) (bool, error) {
	now := clock.Now()
	b.mu.Lock()
	known, ok := b.known[table]
	b.mu.Unlock()
	if ok && now.Sub(known.at) <= proofValid {
		return known.yes, nil
	}
	yes, err := ask()
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known = map[string]boundTable{}
	}
	if ok || len(b.known) < maxProofs {
		b.known[table] = boundTable{yes, now}
	}
	return yes, nil
}

// observeTable lets a statement with a tenant use a table that is not isolated yet, and reports the table, at most once in
// proofValid.
func (p *Plugin) observeTable(s *statement, known *proof) error {
	now := clock.Now()
	if !known.Due(now) {
		return nil
	}
	v, err := p.ask(s.Context, unprepared(s.ConnPool), known)
	switch {
	case errors.Is(err, ErrNotIsolated):
		p.reportObserved(s.Context, &Error{Op: s.op, Table: s.Table, Err: err})
		v = open
	case err != nil:
		return err
	}
	known.Yes(now, string(v))
	return nil
}

// omitUnset leaves the tenant column out of an observed update of a struct that does not set it, such as Save of a row that has no tenant
// yet: the empty text would be a value, and no tenant's.
func (f *filler) omitUnset() {
	row := reflect.Indirect(reflect.ValueOf(f.Dest))
	if row.Kind() != reflect.Struct {
		return
	}
	field := f.fieldIn(row.Type())
	if field == nil {
		return
	}
	if value, zero := field.ValueOf(f.Context, row); zero || isUnset(value) {
		f.Omits = append(slices.Clip(f.Omits), field.DBName)
	}
}

// defaultValues writes DEFAULT, which is NULL without a tenant, into the rows of an observed create that leave the tenant column unset.
func (s *statement) defaultValues(values clause.Values) clause.Values {
	at := slices.IndexFunc(values.Columns, func(c clause.Column) bool { return s.tenant.is(c.Name) })
	if at < 0 {
		return values
	}
	rows := slices.Clone(values.Values)
	for i, row := range rows {
		if isUnset(row[at]) {
			rows[i] = slices.Clone(row)
			rows[i][at] = clause.Expr{SQL: "DEFAULT"}
		}
	}
	values.Values = rows
	return values
}

// Observation counts statements without a tenant that Config.DangerouslyObserve has let pass: those of one operation on one table
// from one line of the application.
type Observation struct {
	Operation, Table, Caller string // as in Refusal; all are empty for what came after the first 1000 of these
	Count                    uint64 // of statements
}

// maxObservations bounds how many lines and tables are told apart, so that neither memory nor a metric's labels grow without end.
const maxObservations = 1000

// maxSamples bounds the samples of one line in the profile.
const maxSamples = 32

// Observations returns what was observed since the plugin was made, the most frequent first. It is empty without
// Config.DangerouslyObserve. Export it as a counter; the profile tenancy_without_tenant of runtime/pprof has the stacks.
func (p *Plugin) Observations() []Observation { return p.seen.list() }

// observations counts.
type observations struct {
	mu     sync.Mutex
	counts map[Observation]uint64 // by observations without a count
}

// add counts, and returns how often this was seen, or 0 if it is not told apart from others.
func (o *observations) add(key Observation) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[Observation]uint64{}
	}
	if _, known := o.counts[key]; !known && len(o.counts) >= maxObservations {
		o.counts[Observation{}]++
		return 0
	}
	o.counts[key]++
	return o.counts[key]
}

func (o *observations) list() []Observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]Observation, 0, len(o.counts))
	for key, count := range o.counts {
		key.Count = count
		list = append(list, key)
	}
	slices.SortFunc(list, func(a, b Observation) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Table, b.Table))
	})
	return list
}

// tenantless is the profile of statements without a tenant, by their stacks. Its samples are never removed, and so they are bounded.
var tenantless = sync.OnceValue(func() *pprof.Profile {
	const name = "tenancy_without_tenant"
	if known := pprof.Lookup(name); known != nil {
		return known
	}
	return pprof.NewProfile(name)
})

// reportObserved counts, profiles and reports a statement that is let pass. A panic of the application's function must not cost the
// connection of a transaction.
func (p *Plugin) reportObserved(ctx context.Context, would *Error) {
	line, depth := callerAt()
	r := Refusal{Operation: would.Op, Table: would.Table, Caller: line, Err: would}
	if errors.Is(would, ErrNoTenant) {
		key := Observation{Operation: r.Operation, Table: r.Table, Caller: r.Caller}
		if n := p.seen.add(key); n > 0 && n <= maxSamples {
			key.Count = n
			tenantless().Add(sample{p, key}, depth)
		}
	}
	defer func() {
		if v := recover(); v != nil {
			p.config.Logger.ErrorContext(ctx, newPanicError("Config.DangerouslyObserve", v).Error())
		}
	}()
	p.config.DangerouslyObserve(ctx, r)
}

// sample tells the samples of the profile apart, as it demands.
type sample struct {
	plugin *Plugin
	key    Observation
}

// observeBelow is called by the guard. Statements that pass GORM's callbacks were reported there, with their table.
func (p *Plugin) observeBelow(ctx context.Context, o *guard.Origin) {
	if o == nil || !o.Observed {
		p.reportObserved(ctx, &Error{Op: "raw", Err: ErrNoTenant})
	}
}

// warnObserving warns that statements without a tenant pass, at each start.
func (p *Plugin) warnObserving(db *gorm.DB) {
	if p.observes() {
		p.config.Logger.WarnContext(db.Statement.Context, "tenancy: Config.DangerouslyObserve is set: statements without a tenant are "+
			"reported and not refused, and run as the login; remove it before the isolation is enforced")
	}
}
