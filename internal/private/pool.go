package private

import (
	"database/sql"
	"database/sql/driver"
	"reflect"
	"sync"
	"time"
)

// PoolOfTx returns the pool that a transaction comes from, and nil if that is not known.
func PoolOfTx(tx *sql.Tx) *sql.DB { return poolOf(tx, txPool) }

// PoolOfConn returns the pool that a connection comes from, and nil if that is not known.
func PoolOfConn(c *sql.Conn) *sql.DB { return poolOf(c, connPool) }

// The index of the field db in sql.Tx and sql.Conn; nil if there is none.
var txPool, connPool = poolField[sql.Tx](), poolField[sql.Conn]()

func poolField[T any]() []int {
	f, ok := reflect.TypeFor[T]().FieldByName("db")
	if !ok || f.Type != reflect.TypeFor[*sql.DB]() {
		return nil
	}
	return f.Index
}

func poolOf[T any](v *T, field []int) *sql.DB {
	if v == nil || field == nil {
		return nil
	}
	return (*sql.DB)(reflect.ValueOf(v).Elem().FieldByIndex(field).UnsafePointer())
}

// Fields are pointers to fields of a *sql.DB.
type Fields struct {
	mu        *sync.Mutex // guards the others, except connector, which database/sql never writes
	connector *driver.Connector
	numOpen   *int
	closed    *bool

	maxIdle     *int
	maxOpen     *int
	maxLifetime *time.Duration
	maxIdleTime *time.Duration
}

// FieldsOf returns nil if one of the fields is missing or of another type.
func FieldsOf(db *sql.DB) *Fields {
	v := reflect.ValueOf(db).Elem()
	f := &Fields{
		mu:          field[sync.Mutex](v, "mu"),
		connector:   field[driver.Connector](v, "connector"),
		numOpen:     field[int](v, "numOpen"),
		closed:      field[bool](v, "closed"),
		maxIdle:     field[int](v, "maxIdleCount"),
		maxOpen:     field[int](v, "maxOpen"),
		maxLifetime: field[time.Duration](v, "maxLifetime"),
		maxIdleTime: field[time.Duration](v, "maxIdleTime"),
	}
	for _, found := range []bool{
		f.mu != nil, f.connector != nil, f.numOpen != nil, f.closed != nil,
		f.maxIdle != nil, f.maxOpen != nil, f.maxLifetime != nil, f.maxIdleTime != nil,
	} {
		if !found {
			return nil
		}
	}
	return f
}

func field[T any](v reflect.Value, name string) *T {
	f := v.FieldByName(name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(f.Addr().UnsafePointer())
}

// ReplaceConnector puts the connector that replace makes of the pool's own in its place. It does nothing and returns false if
// the pool is closed, or has a connection, which the old connector has made.
func (f *Fields) ReplaceConnector(replace func(driver.Connector) driver.Connector) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *f.numOpen != 0 || *f.closed {
		return false
	}
	*f.connector = replace(*f.connector)
	return true
}

// Limits are the limits of a pool as database/sql keeps them.
type Limits struct {
	Open, Idle         int // Idle is 0 for the default, and less than 0 for none
	Lifetime, IdleTime time.Duration
}

// Limits returns the limits of the pool. It must not be called under the pool's lock.
func (f *Fields) Limits() Limits {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Limits{*f.maxOpen, *f.maxIdle, *f.maxLifetime, *f.maxIdleTime}
}
