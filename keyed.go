package tenancy

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
)

// Tables whose primary key is (tenant_id, id), as rls.Isolation.TenantKeys makes it, while their models know the id alone. GORM names the
// key of the model in ON CONFLICT, for which there is no unique index then.

// isKeyed reports whether the primary key of the statement's table has the tenant column. The answer comes with the proof. Where nothing
// is proved it is asked for in a round trip of its own, and counts as long as a proof.
func (p *Plugin) isKeyed(stmt *gorm.Statement, tenant tenantColumn) bool {
	on, key, err := p.keyAbout(stmt, tenant)
	if err != nil {
		_ = stmt.AddError(err)
	}
	if on == nil {
		return false
	}
	if known := on.proofs.of(key); known != nil {
		if v := known.verdict.Load(); v != nil && *v != unproved {
			return *v == keyed
		}
	}
	s := p.statementOf(stmt)
	name := s.nameOf(key)
	if stmt.DryRun || name == "" {
		return false
	}
	return on.keys.ask(name, func() (is bool, err error) {
		err = unprepared(stmt.ConnPool).QueryRowContext(guard.Own(stmt.Context, keyedSQL), keyedSQL, once, name, p.config.Column).Scan(&is)
		_ = stmt.AddError(err)
		return is, err
	})
}

// keyAbout returns the server of the statement and the subject of its proof, and no server if it is not known.
func (p *Plugin) keyAbout(stmt *gorm.Statement, tenant tenantColumn) (*server, subject, error) {
	key := subject{table: stmt.Table, kind: kindTable}
	switch {
	case stmt.TableExpr != nil:
		key = subject{table: stmt.TableExpr.SQL, sql: true, kind: kindTable}
	case tenant.field != nil && policy.IsShared(stmt.Schema):
		key.kind = kindOwn
	case tenant.field != nil:
		key.kind = kindTenant
	}
	s := p.statementOf(stmt)
	pool := p.knownPool(stmt.ConnPool)
	if s.bypass != nil {
		pool = s.bypass.below
	}
	if pool == nil {
		return nil, key, nil
	}
	on, err := p.serverOfStatement(&s, pool)
	if err != nil {
		return nil, key, err
	}
	return on, key, nil
}

// doubtKeys forgets what is known of a table when PostgreSQL has no unique index for a conflict target: a migration may have changed
// the primary key since the proof. The next statement asks again.
func (p *Plugin) doubtKeys(stmt *gorm.Statement) {
	const noIndexForConflict = "42P10"
	var pg *pgconn.PgError
	if !errors.As(stmt.Error, &pg) || pg.Code != noIndexForConflict {
		return
	}
	on, key, err := p.keyAbout(stmt, p.columnOf(stmt, "create"))
	if err != nil || on == nil {
		return
	}
	if known := on.proofs.of(key); known != nil {
		on.proofs.forget(known)
	}
	on.keys.forget()
}

// keyedSQL asks whether the primary key of the table $1 has the column $2.
var keyedSQL = `SELECT ` + holdsTenant("pg_catalog.to_regclass($1)::pg_catalog.oid")

// keys remembers of which tables it was asked.
type keys struct {
	mu    sync.Mutex
	known map[string]keyedUntil
}

type keyedUntil struct {
	is    bool
	until time.Time
}

func (k *keys) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = nil
}

func (k *keys) ask(table string, ask func() (bool, error)) bool {
	now := clock.Now()
	k.mu.Lock()
	known, found := k.known[table]
	k.mu.Unlock()
	if found && now.Before(known.until) {
		return known.is
	}
	is, err := ask()
	if err != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) >= maxProofs {
		k.known = map[string]keyedUntil{}
	}
	k.known[table] = keyedUntil{is, now.Add(proofValid)}
	return is
}

// bindKeys has an update or delete by the admin client mean the rows of the tenants that its structs name. GORM goes by the id alone, which
// rows of several tenants can have.
func (s *statement) bindKeys() error {
	if s.bypass == nil || s.Statement == nil {
		return nil
	}
	s.Settings.Delete(boundKey) // of an earlier use of the statement
	field := s.tenant.field
	if s.Schema == nil || field == nil || s.SQL.Len() > 0 ||
		slices.Contains(s.Schema.PrimaryFields, field) || policy.IsShared(s.Schema) {
		return nil
	}
	values := []any{s.Model}
	if s.op == "delete" && !same(s.Model, s.Dest) {
		values = append(values, s.Dest)
	}
	for _, value := range values {
		keys, complete := s.keysOf(reflect.ValueOf(value))
		switch {
		case len(keys) == 0 || !s.plugin.isKeyed(s.Statement, s.tenant):
		case !complete:
			return wrapf(ErrNoTenant, "an id alone does not name one row of all tenants: set the tenant of the struct as well")
		default:
			columns := []clause.Column{{Table: clause.CurrentTable, Name: field.DBName}}
			for _, key := range s.Schema.PrimaryFields {
				columns = append(columns, clause.Column{Table: clause.CurrentTable, Name: key.DBName})
			}
			s.AddClause(clause.Where{Exprs: []clause.Expression{clause.IN{Column: columns, Values: keys}}})
			if tenant, one := tenantOf(keys); one {
				s.Settings.Store(boundKey, tenant)
			}
		}
	}
	return nil
}

// boundKey is where a statement of the admin client notes the tenant of its rows, if bindKeys has bound it to rows of one.
const boundKey = "tenancy:bound"

// tenantOf returns the tenant of keys that keysOf has returned, and false if they have several.
func tenantOf(keys []any) (tenant any, one bool) {
	for n, key := range keys {
		row, _ := key.([]any)
		if n > 0 && !reflect.DeepEqual(row[0], tenant) {
			return nil, false
		}
		tenant = row[0]
	}
	return tenant, len(keys) > 0
}

func same(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	return x.Kind() == reflect.Pointer && y.Kind() == reflect.Pointer && x.Pointer() == y.Pointer()
}

// keysOf returns the tenants and primary keys of the rows of a struct or slice, without those that name no key, and whether each names its
// tenant.
func (s *statement) keysOf(value reflect.Value) (keys []any, complete bool) {
	for value.Kind() == reflect.Pointer || value.Kind() == reflect.Interface {
		value = value.Elem()
	}
	complete = true
	switch {
	case !value.IsValid():
	case value.Kind() == reflect.Slice || value.Kind() == reflect.Array:
		for n := range value.Len() {
			some, all := s.keysOf(value.Index(n))
			keys, complete = append(keys, some...), complete && all
		}
	case value.Type() == s.Schema.ModelType:
		tenant, zero := s.tenant.field.ValueOf(s.Context, value)
		row := []any{tenant}
		for _, key := range s.Schema.PrimaryFields {
			part, unset := key.ValueOf(s.Context, value)
			if unset {
				return nil, true
			}
			row = append(row, part)
		}
		return []any{row}, !zero && !isUnset(tenant)
	}
	return keys, complete
}
