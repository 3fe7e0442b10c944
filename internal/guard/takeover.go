package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"reflect"
	"sync"
	"time"
)

// TakeOver makes db itself the guarded pool, and reports whether it could. Every connection that db makes from then on is
// guarded, also for those who took the pool earlier; its limits, lifetimes and statistics are what they were. Its idle
// connections are closed: they are not guarded. Where one is in use, or where database/sql is another than we know, db is left
// as it was.
//
// database/sql offers no way to exchange the connector of a pool, and none to make another pool of which a holder of the first
// would know: its limits would not hold there, its Stats not count, its Close not close. So the field is written, under the
// pool's own lock and while it has no connection that was made by the other one.
func TakeOver(ctx context.Context, db *sql.DB, cfg Config) bool {
	in := insideOf(db)
	if in == nil {
		return false
	}
	for range db.Stats().Idle {
		if db.Stats().InUse > 0 {
			return false
		}
		c, err := db.Conn(ctx)
		if err != nil {
			return false
		}
		_ = c.Raw(func(any) error { return driver.ErrBadConn }) // which closes it
		_ = c.Close()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if *in.numOpen != 0 || *in.closed {
		return false
	}
	*in.connector = newConnector(cfg, nil, *in.connector)
	return true
}

// inside is what a *sql.DB keeps to itself.
type inside struct {
	mu        *sync.Mutex // protects the rest, but for connector, which database/sql never writes
	connector *driver.Connector
	numOpen   *int
	closed    *bool

	maxIdle     *int
	maxOpen     *int
	maxLifetime *time.Duration
	maxIdleTime *time.Duration
}

// insideOf returns nil where the fields are not those that we know.
func insideOf(db *sql.DB) *inside {
	v := reflect.ValueOf(db).Elem()
	in := &inside{
		mu:          field[sync.Mutex](v, "mu"),
		connector:   field[driver.Connector](v, "connector"),
		numOpen:     field[int](v, "numOpen"),
		closed:      field[bool](v, "closed"),
		maxIdle:     field[int](v, "maxIdleCount"),
		maxOpen:     field[int](v, "maxOpen"),
		maxLifetime: field[time.Duration](v, "maxLifetime"),
		maxIdleTime: field[time.Duration](v, "maxIdleTime"),
	}
	for _, known := range []bool{
		in.mu != nil, in.connector != nil, in.numOpen != nil, in.closed != nil,
		in.maxIdle != nil, in.maxOpen != nil, in.maxLifetime != nil, in.maxIdleTime != nil,
	} {
		if !known {
			return nil
		}
	}
	return in
}

func field[T any](v reflect.Value, name string) *T {
	f := v.FieldByName(name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(f.Addr().UnsafePointer())
}

// limits are the settings of a pool.
type limits struct {
	open, idle         int
	lifetime, idleTime time.Duration
}

func (in *inside) limits() limits {
	in.mu.Lock()
	defer in.mu.Unlock()
	return limits{*in.maxOpen, *in.maxIdle, *in.maxLifetime, *in.maxIdleTime}
}

// give sets on db what differs from its limits. What a pool keeps for the number of idle connections is 0 for the default, and
// less than 0 for none.
func (l limits) give(db *sql.DB, has limits) {
	const defaultIdle = 2
	if l.open != has.open {
		db.SetMaxOpenConns(l.open)
	}
	if l.idle != has.idle {
		idle := l.idle
		if idle == 0 {
			idle = defaultIdle
		}
		db.SetMaxIdleConns(idle)
	}
	if l.lifetime != has.lifetime {
		db.SetConnMaxLifetime(l.lifetime)
	}
	if l.idleTime != has.idleTime {
		db.SetConnMaxIdleTime(l.idleTime)
	}
}

// shared are the limits that a borrowing pool and the one it borrows from have in common: what is set on either is set on the
// other when a connection is made, borrowed or closed next.
type shared struct {
	mu               sync.Mutex
	outer, inner     *sql.DB
	inOuter, inInner *inside
	ofOuter, ofInner limits // when they were equal last
}

// share gives outer the limits of inner. It returns nil where database/sql is another than we know.
func share(outer, inner *sql.DB) *shared {
	s := &shared{outer: outer, inner: inner, inOuter: insideOf(outer), inInner: insideOf(inner)}
	if s.inOuter == nil || s.inInner == nil {
		return nil
	}
	const empty = 64 // connections that hold none of PostgreSQL's, at most
	outer.SetMaxIdleConns(empty)
	s.ofInner = s.inInner.limits()
	s.give(s.ofInner)
	return s
}

// give makes the limits of both pools those that are wanted. The inner pool keeps nothing idle where another pool is below it, of
// pgx's; the outer one then does not copy that, because to keep its empty connections costs less than to make them each time.
func (s *shared) give(want limits) {
	outer, inner := s.inOuter.limits(), s.inInner.limits()
	ofOuter := want
	if ofOuter.idle < 0 {
		ofOuter.idle = outer.idle
	}
	ofOuter.give(s.outer, outer)
	want.give(s.inner, inner)
	s.ofOuter, s.ofInner = s.inOuter.limits(), s.inInner.limits()
}

// follow makes the limits equal again. It must not be called under the lock of a pool.
func (s *shared) follow() {
	if s == nil || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	outer, inner := s.inOuter.limits(), s.inInner.limits()
	if outer == s.ofOuter && inner == s.ofInner {
		return
	}
	want := limits{
		open:     newer(outer.open, s.ofOuter.open, inner.open),
		idle:     newer(outer.idle, s.ofOuter.idle, inner.idle),
		lifetime: newer(outer.lifetime, s.ofOuter.lifetime, inner.lifetime),
		idleTime: newer(outer.idleTime, s.ofOuter.idleTime, inner.idleTime),
	}
	if inner.idle < 0 && outer.open != s.ofOuter.open && outer.idle == outer.open {
		want.idle = inner.idle // database/sql has lowered that of the outer pool together with its open connections
	}
	s.give(want)
}

// newer returns what the outer pool has, if that was changed, and what the inner one has otherwise.
func newer[T comparable](outer, before, inner T) T {
	if outer != before {
		return outer
	}
	return inner
}
