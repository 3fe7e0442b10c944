package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/internal/tenantlock"
)

// OpMove is the operation of a run of Transfer, which both databases have a record of.
const OpMove Operation = "move"

// ErrBusy is the error where another run works on the copy of the tenant.
var ErrBusy = errors.New("another run moves the tenant")

// TransferRun copies the rows of a tenant to another database, and brings the copy up to date while the tenant works. It holds one connection to
// each database.
type TransferRun struct {
	from, to *session
	tables   []*transferTable
	ready    bool

	agreed      map[*transferTable]agreement // tables in which nothing differed
	startedOver bool                         // the copy was deleted, because it could not be changed into what the source has
}

// transferTable is a table in both databases.
type transferTable struct {
	*relation           // in the first one
	to        *relation // in the other one
	columns   []column
	key       []column // that tells the rows of a tenant apart
	circle    bool     // rows of its group may refer to each other
}

// Transfer runs do with a connection to each of two databases that have the same tables: from has the tenant's rows, to gets them. It needs no
// right of replication, and both may be of any supported version. All statements run within the tenant's policies.
//
// Each connection holds a lock for this tenant, without which it cannot write. So two runs never write one copy, also when a process that was taken for dead
// wakes up: ErrBusy. The pools must lead to PostgreSQL itself, or to a pooler that keeps sessions. Package placement moves tenants by it.
func Transfer(ctx context.Context, from, to Tenants, tenant string, do func(r *TransferRun) error) error {
	return from.run(ctx, OpMove, tenant, func(source *session) (err error) {
		config, err := to.config(ctx)
		if err != nil {
			return err
		}
		target := &session{Tenants: to, config: config, op: OpMove, tenant: tenant}
		began := time.Now()
		defer func() {
			to.report(ctx, Event{
				Operation: OpMove, Actor: to.Actor, Tenant: tenant, Tables: target.tables, Rows: target.rows, Duration: time.Since(began), Err: err,
			})
		}()
		return target.on(ctx, func(*session) error {
			if err := source.locked(ctx, lockKey); err != nil {
				return err
			}
			defer source.unlock(ctx, lockKey)
			if err := target.locked(ctx, lockKey); err != nil {
				return err
			}
			defer target.unlock(ctx, lockKey)
			return do(&TransferRun{from: source, to: target})
		})
	})
}

const lockKey = "pg_catalog.hashtextextended('tenancy: rows of a tenant that is moved: ' || $1, 0)"

// locked takes a lock of the tenant for the connection.
func (s *session) locked(ctx context.Context, key string) error {
	row, err := s.row(ctx, "SELECT pg_catalog.pg_try_advisory_lock("+key+")", s.tenant)
	if err == nil && string(row[0]) != "t" {
		err = fmt.Errorf("%w, or both servers are the same database: wait until it has ended", ErrBusy)
	}
	return err
}

// unlock gives the lock back. A connection that has failed is closed, which does the same.
func (s *session) unlock(ctx context.Context, key string) {
	if s.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := s.row(ctx, "SELECT pg_catalog.pg_advisory_unlock("+key+")", s.tenant); err != nil {
		_ = s.conn.Close(ctx)
	}
}

// prepare finds the tables in both databases, which must be the same.
func (r *TransferRun) prepare(ctx context.Context) error {
	if r.ready {
		return nil
	}
	for _, s := range []*session{r.from, r.to} {
		if err := s.inTransaction(ctx, beginReading, func() error { return nil }); err != nil {
			at := "source"
			if s == r.to {
				at = "target"
			}
			return fmt.Errorf("at the %s: %w", at, err)
		}
	}
	if err := r.match(); err != nil {
		return err
	}
	r.ready, r.agreed = true, map[*transferTable]agreement{}
	return nil
}

// match pairs the tables, or says all that differs.
func (r *TransferRun) match() error {
	var differences []string
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	r.tables = nil
	for _, group := range r.from.scope.group {
		for _, t := range group {
			n := slices.IndexFunc(r.to.scope.tables(), func(o *relation) bool { return o.name() == t.name() })
			if n < 0 {
				differ("the target has no tenant table %s", t.name())
				continue
			}
			pair := pairOf(t, r.to.scope.tables()[n])
			if len(t.Primary) == 0 {
				differ("%s has no primary key", t.name())
			}
			if !slices.Equal(t.Primary, pair.to.Primary) || t.key.Name != pair.to.key.Name {
				differ("the primary keys of %s, or its tenant columns, are not the same", t.name())
			}
			compareStored(t, pair.to, differ)
			for _, f := range t.ForeignKeys {
				pair.circle = pair.circle || slices.Contains(group, r.from.scope.find(f.Schema, f.Table))
			}
			r.tables = append(r.tables, pair)
		}
	}
	for _, t := range r.to.scope.tables() {
		if !slices.ContainsFunc(r.from.scope.tables(), func(o *relation) bool { return o.name() == t.name() }) {
			differ("the source has no tenant table %s", t.name())
		}
	}
	if len(differences) > 0 {
		return fmt.Errorf("%w: migrate both servers, or leave a table out by Skip: %s", errDifferent, strings.Join(differences, "; "))
	}
	return nil
}

func pairOf(t, to *relation) *transferTable {
	pair := &transferTable{relation: t, to: to, columns: t.stored()}
	for _, name := range t.Primary {
		if name != t.key.Name || len(t.Primary) == 1 {
			pair.key = append(pair.key, *t.column(name))
		}
	}
	return pair
}

// errDifferent is ErrSchema in the words of a transfer.
var errDifferent = schemaError("the tables of the two servers differ")

type schemaError string

func (e schemaError) Error() string        { return string(e) }
func (e schemaError) Is(target error) bool { return target == ErrSchema }

// compareStored says how the columns of two tables differ.
func compareStored(a, b *relation, differ func(format string, args ...any)) {
	for _, side := range []struct {
		has, lacks *relation
		where      string
	}{{a, b, "target"}, {b, a, "source"}} {
		for _, c := range side.has.Columns {
			other := side.lacks.column(c.Name)
			switch {
			case other == nil:
				differ("%s has no column %s at the %s", a.name(), sqltext.Ident(c.Name), side.where)
			case other.Type != c.Type || other.Generated != c.Generated:
				differ("column %s of %s is %s at the %s, and not %s", sqltext.Ident(c.Name), a.name(), other.Type, side.where, c.Type)
			}
		}
	}
}

// Check refuses what would fail later or, worse, not: databases with different tables, rows that refer to shared rows which the target does not have,
// and a sequence at the target that would give out keys which rows of the tenant have. With vacant, the tenant must have no rows at the target.
//
// Keys that rows of other tenants have at the target are found only by writing, as ErrConflict, because policies hide these rows.
func (r *TransferRun) Check(ctx context.Context, vacant bool) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if vacant {
		if err := r.isVacant(ctx); err != nil {
			return err
		}
	}
	if err := r.checkShared(ctx); err != nil {
		return err
	}
	return r.CheckSequences(ctx)
}

func (r *TransferRun) isVacant(ctx context.Context) error {
	return r.to.inTransaction(ctx, beginReading, func() error {
		for _, t := range r.tables {
			n, err := r.to.number(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s WHERE %s LIMIT 1) t", t.to.from(), t.to.condition()), r.to.tenant)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name(), explain(err))
			}
			if n > 0 {
				return fmt.Errorf("%w: the tenant has rows in %s at the target, and no move has put them there: look whether the DSNs of the servers are swapped, and whether the tenant works with these rows, before you erase them", ErrConflict, t.name())
			}
		}
		return nil
	})
}

// checkShared asks for each foreign key to a shared table whether the target has the rows.
func (r *TransferRun) checkShared(ctx context.Context) error {
	for _, t := range r.tables {
		for _, f := range t.ForeignKeys {
			to := r.from.scope.find(f.Schema, f.Table)
			if to == nil || to.key != nil {
				continue
			}
			if err := r.checkReferences(ctx, t, f, to); err != nil {
				return fmt.Errorf("%s: %w", t.name(), explain(err))
			}
		}
	}
	return nil
}

func (r *TransferRun) checkReferences(ctx context.Context, t *transferTable, f foreignKey, shared *relation) error {
	var list [][][]byte
	present, _ := f.join("p")
	names := make([]string, len(f.Columns))
	for n, c := range f.Columns {
		names[n] = "c." + sqltext.Ident(c)
	}
	query := fmt.Sprintf("SELECT DISTINCT %s FROM %s c WHERE c.%s AND %s", strings.Join(names, ", "), t.from(), t.condition(), present)
	other := r.to.scope.find(f.Schema, f.Table)
	if other == nil {
		return fmt.Errorf("%w: the target has no table %s", errDifferent, shared.name())
	}
	return r.from.inTransaction(ctx, beginReading, func() error {
		return r.to.inTransaction(ctx, beginReading, func() error {
			flush := func() error {
				defer func() { list = nil }()
				return r.refersThere(ctx, t, f, other, list)
			}
			err := r.from.each(ctx, query, func(row [][]byte) error {
				list = append(list, copied(row))
				if len(list) < batchRows {
					return nil
				}
				return flush()
			}, r.from.tenant)
			if err != nil || len(list) == 0 {
				return err
			}
			return flush()
		})
	})
}

// refersThere counts the rows of a shared table that have these keys.
func (r *TransferRun) refersThere(ctx context.Context, t *transferTable, f foreignKey, shared *relation, keys [][][]byte) error {
	columns := make([]column, len(f.Columns))
	same := make([]string, len(f.Columns))
	for n, name := range f.Columns {
		columns[n] = *t.column(name)
		same[n] = fmt.Sprintf("p.%s = k.%s", sqltext.Ident(f.Keys[n]), sqltext.Ident(name))
	}
	query := fmt.Sprintf("SELECT count(*) FROM %s WHERE NOT EXISTS (SELECT FROM %s p WHERE %s)", valuesAs("k", columns, len(keys), 1), shared.from(), strings.Join(same, " AND "))
	missing := int64(0)
	err := r.to.eachOf(ctx, query, func(row [][]byte) error {
		_, err := fmt.Sscan(string(row[0]), &missing)
		return err
	}, slices.Concat(keys...))
	if err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%w: rows refer by %s to %d rows of %s that the target does not have: shared tables are each server's own, bring them over first",
			ErrBeyond, sqltext.Ident(f.Name), missing, shared.name())
	}
	return nil
}

// reach is how many values of a sequence at the target must be free of the tenant's keys.
const reach = 100_000_000

// CheckSequences refuses a sequence at the target that would give out a key which the tenant's rows have, within its next 100 million values and its
// maximum. No sequence is changed: those of several servers stay apart.
func (r *TransferRun) CheckSequences(ctx context.Context) error {
	type question struct {
		table    *transferTable
		column   column
		sequence string
		args     []string
	}
	var questions []question
	for _, t := range r.tables {
		for _, c := range t.to.Columns {
			for _, sequence := range c.Sequences {
				if c.Base != "smallint" && c.Base != "integer" && c.Base != "bigint" {
					continue
				}
				row, err := r.to.row(ctx, fmt.Sprintf("SELECT q.last_value - CASE WHEN q.is_called THEN 0 ELSE s.seqincrement END, s.seqincrement, s.seqmax, s.seqmin "+
					"FROM %s q, pg_catalog.pg_sequence s WHERE s.seqrelid = $1::pg_catalog.regclass", sequence), sequence)
				if err != nil {
					return fmt.Errorf("read the sequence %s, which needs SELECT on it: %w", sequence, explain(err))
				}
				questions = append(questions, question{t, c, sequence, []string{string(row[0]), string(row[1]), string(row[2]), string(row[3])}})
			}
		}
	}
	return r.from.inTransaction(ctx, beginReading, func() error {
		for _, q := range questions {
			// The numbers are numeric because those at the end of bigint overflow. $2 is the last value, $3 the increment.
			name := sqltext.Ident(q.column.Name)
			query := fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s t WHERE t.%s AND t.%s IS NOT NULL AND (t.%[3]s::numeric - $2::text::numeric) %% $3::text::numeric = 0
				AND (t.%[3]s::numeric - $2::text::numeric) / $3::text::numeric BETWEEN 1 AND %d AND t.%[3]s::numeric BETWEEN $5::text::numeric AND $4::text::numeric)`,
				q.table.from(), q.table.condition(), name, reach)
			row, err := r.from.row(ctx, query, append([]string{r.from.tenant}, q.args...)...)
			if err != nil {
				return fmt.Errorf("%s: %w", q.table.name(), explain(err))
			}
			if string(row[0]) == "t" {
				return fmt.Errorf("%w: the sequence %s at the target would give out keys that rows of the tenant have in %s: "+
					"use UUIDs, or sequences of the servers that are far apart", ErrConflict, q.sequence, q.table.name())
			}
		}
		return nil
	})
}

// WaitForWriters waits until all transactions have ended that have, at the time of the call, written to a table of the tenant at the source, or
// wait to do so: they are found by their locks, whichever tenant they are for. And it waits for those that say that they may write later (see
// package tenantlock), which are the tenant's own.
func (r *TransferRun) WaitForWriters(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	var names []string
	for _, t := range r.tables {
		names = append(names, sqltext.Literal(t.quoted())+"::pg_catalog.regclass")
	}
	query := `SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l
		WHERE l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
			AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
			AND (l.locktype = 'advisory' AND l.objsubid = 1 AND (l.classid::bigint << 32) | l.objid::bigint = ` + tenantlock.Key("$1::text") + `
				OR l.locktype = 'relation' AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
				AND l.relation IN (SELECT t FROM pg_catalog.unnest(ARRAY[` + strings.Join(names, ", ") + `]) t
					UNION SELECT p.relid FROM pg_catalog.unnest(ARRAY[` + strings.Join(names, ", ") + `]) t, LATERAL pg_catalog.pg_partition_tree(t) p))`
	waitFor, err := r.from.texts(ctx, query, r.from.tenant)
	for err == nil && len(waitFor) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d transactions that write to the tenant's tables at the source have not ended: %w", len(waitFor), context.Cause(ctx))
		case <-time.After(pollWriters):
		}
		var now []string
		if now, err = r.from.texts(ctx, query, r.from.tenant); err == nil {
			waitFor = slices.DeleteFunc(waitFor, func(v string) bool { return !slices.Contains(now, v) })
		}
	}
	return err
}

const pollWriters = 5 * time.Millisecond

// CopyErasure says what EraseCopy does before it erases.
type CopyErasure struct {
	// Confirm is called under the lock: an error, such as that the tenant lives here by now, ends the run. It must be set.
	Confirm func(ctx context.Context) error

	// Fingerprint is that of a TransferPass. If it is not empty, the rows must be those of the pass: otherwise they are kept, with ErrChanged.
	Fingerprint string

	// Verified is called when they are. A run that follows one which was killed later cannot compare any more. It may be nil.
	Verified func(ctx context.Context) error
}

// EraseCopy erases the rows of a tenant in a database that the tenant does not live in, as Erase does, under the lock of Transfer: what a move has left at
// the source, or a move that is backed out at the target.
func (t Tenants) EraseCopy(ctx context.Context, tenant string, c CopyErasure) (Report, error) {
	report := Report{Tenant: tenant}
	err := t.run(ctx, OpErase, tenant, func(s *session) error {
		if err := s.locked(ctx, lockKey); err != nil {
			return err
		}
		defer s.unlock(ctx, lockKey)
		if err := c.Confirm(ctx); err != nil {
			return err
		}
		if c.Fingerprint != "" {
			if err := s.unchanged(ctx, c.Fingerprint); err != nil {
				return err
			}
		}
		if c.Verified != nil {
			if err := c.Verified(ctx); err != nil {
				return err
			}
		}
		return s.erase(ctx, &report)
	})
	return report, err
}

// unchanged compares the rows with a fingerprint.
func (s *session) unchanged(ctx context.Context, fingerprint string) error {
	return s.inTransaction(ctx, beginReading, func() error {
		r := &TransferRun{from: s, to: s}
		if err := r.match(); err != nil {
			return err
		}
		found, err := r.fingerprint(ctx)
		if err == nil && found != fingerprint {
			err = fmt.Errorf("%w: rows of the tenant have changed here after the move: they are kept; look at them, bring over what is missing, and erase the rest", errStray)
		}
		return err
	})
}

var errStray = changedError("the rows are not those that were moved")

type changedError string

func (e changedError) Error() string        { return string(e) }
func (e changedError) Is(target error) bool { return target == ErrChanged }
