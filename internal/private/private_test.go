package private_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"

	"github.com/gormtenancy/tenancy/internal/private"
)

// What to do about a failure of the tests below.
const moved = "this version has moved, renamed or changed %s: adapt package internal/private, and the versions in its doc.go"

func sqlMoved(field string) []any {
	return []any{"database/sql of " + runtime.Version() + ": " + moved, field}
}

func gormMoved(field string) []any { return []any{"gorm.io/gorm: " + moved, field} }

// connector makes connections that can begin a transaction and nothing else.
type connector struct{ of driver.Driver }

func (connector) Connect(context.Context) (driver.Conn, error) { return conn{}, nil }
func (c connector) Driver() driver.Driver                      { return c.of }

type conn struct{}

func (conn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not used") }
func (conn) Close() error                        { return nil }
func (conn) Begin() (driver.Tx, error)           { return tx{}, nil }

type tx struct{}

func (tx) Commit() error   { return nil }
func (tx) Rollback() error { return nil }

func open(t *testing.T) *sql.DB {
	db := sql.OpenDB(connector{})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestPoolOfTxAndConn(t *testing.T) {
	db := open(t)
	begun, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer begun.Rollback()
	require.Same(t, db, private.PoolOfTx(begun), sqlMoved("sql.Tx.db")...)
	taken, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer taken.Close()
	require.Same(t, db, private.PoolOfConn(taken), sqlMoved("sql.Conn.db")...)
	require.Nil(t, private.PoolOfTx(nil))
	require.Nil(t, private.PoolOfConn(nil))
}

func TestFieldsReplaceConnector(t *testing.T) {
	db := open(t)
	fields := private.FieldsOf(db)
	require.NotNil(t, fields, sqlMoved("a field of sql.DB that private.FieldsOf names")...)
	other := connector{named("other")}
	replace := func(old driver.Connector) driver.Connector {
		require.Equal(t, connector{}, old, sqlMoved("sql.DB.connector")...)
		return other
	}

	taken, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.False(t, fields.ReplaceConnector(replace), sqlMoved("sql.DB.numOpen")...)
	require.NoError(t, taken.Raw(func(any) error { return nil }))
	require.ErrorIs(t, taken.Raw(func(any) error { return driver.ErrBadConn }), driver.ErrBadConn) // closes the connection
	require.NoError(t, ignore(taken.Close(), sql.ErrConnDone))
	require.True(t, fields.ReplaceConnector(replace), sqlMoved("sql.DB.numOpen or sql.DB.closed")...)
	require.Equal(t, other.of, db.Driver(), sqlMoved("sql.DB.connector")...)

	closed := open(t)
	require.NoError(t, closed.Close())
	require.False(t, private.FieldsOf(closed).ReplaceConnector(replace), sqlMoved("sql.DB.closed")...)
}

func ignore(err, ignored error) error {
	if errors.Is(err, ignored) {
		return nil
	}
	return err
}

type named string

func (named) Open(string) (driver.Conn, error) { return conn{}, nil }

func TestFieldsLimits(t *testing.T) {
	db := open(t)
	fields := private.FieldsOf(db)
	require.NotNil(t, fields, sqlMoved("a field of sql.DB that private.FieldsOf names")...)
	require.Equal(t, private.Limits{}, fields.Limits(), sqlMoved("what sql.DB keeps for the default limits")...)
	db.SetMaxOpenConns(7)
	db.SetMaxIdleConns(-1)
	db.SetConnMaxLifetime(time.Hour)
	db.SetConnMaxIdleTime(time.Minute)
	want := private.Limits{Open: 7, Idle: -1, Lifetime: time.Hour, IdleTime: time.Minute}
	require.Equal(t, want, fields.Limits(), sqlMoved("the limits of sql.DB")...)
}

// dialector connects to nothing.
type dialector struct{ gorm.Dialector }

func (dialector) Name() string { return "none" }

func (dialector) Initialize(db *gorm.DB) error {
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{})
	return nil
}

func openGORM(t *testing.T) *gorm.DB {
	db, err := gorm.Open(dialector{}, &gorm.Config{ConnPool: open(t), DisableAutomaticPing: true})
	require.NoError(t, err)
	return db
}

func TestCacheStore(t *testing.T) {
	db := openGORM(t)
	prepared, ok := db.Session(&gorm.Session{PrepareStmt: true}).Statement.ConnPool.(*gorm.PreparedStmtDB)
	require.True(t, ok)
	defer prepared.Close()
	store := private.CacheStore(db.Config)
	require.NotNil(t, store, gormMoved("gorm.Config.cacheStore")...)
	kept, _ := store.Load("preparedStmt")
	require.IsType(t, prepared, kept, gormMoved("the key of prepared statements in gorm.Config.cacheStore")...)

	require.Nil(t, private.CacheStore(&gorm.Config{}))
	require.Nil(t, private.CacheStore(&struct{ cacheStore string }{}))
	require.Nil(t, private.CacheStore(&struct{ other int }{}))
}

func TestCallbacks(t *testing.T) {
	fns := private.CallbacksOf[gorm.DB](openGORM(t).Callback().Create())
	require.True(t, fns.Known(), gormMoved("the struct behind (*gorm.DB).Callback().Create()")...)
	require.NotZero(t, fns.Len(), gormMoved("the field fns of GORM's processor")...)
	require.NotZero(t, fns.Code(0))
}

// Callbacks are not read from what does not look like GORM's processor.
func TestCallbacksOfUnknownProcessor(t *testing.T) {
	for name, p := range map[string]any{
		"nil":       nil,
		"nil of it": (*struct{ fns []func(*gorm.DB) })(nil),
		"no struct": new(int),
		"a value":   struct{ fns []func(*gorm.DB) }{},
		"a field more": &struct {
			db                   *gorm.DB
			Clauses              []string
			fns, more, callbacks []func(*gorm.DB)
		}{},
		"a field less": &struct {
			fns []func(*gorm.DB)
		}{},
		"another name": &struct {
			db                *gorm.DB
			Clauses           []string
			handlers, replace []func(*gorm.DB)
		}{},
		"another type": &struct {
			db        *gorm.DB
			Clauses   []string
			fns       []func(*gorm.DB) error
			callbacks []func(*gorm.DB)
		}{},
	} {
		t.Run(name, func(t *testing.T) { require.False(t, private.CallbacksOf[gorm.DB](p).Known()) })
	}
}
