package model

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// Note is a tenant's. Of one body a tenant has one.
type Note struct {
	ID       int64
	TenantID string
	Body     string `gorm:"unique"`
	Value    int
}

// tenants are few, so that they meet.
var tenants = []string{"acme", "globex", "o'brien \\ ünïted"}

const (
	connections = 3
	mostOpen    = connections - 1 // transactions: the others need a connection as well
)

// patience is far more than anything here takes.
const patience = 30 * time.Second

// fixture is the database, which all runs use one after another.
type fixture struct {
	*testdb.Database
	proxy   *wire.Proxy
	through string  // the application's DSN, through the proxy
	admin   *sql.DB // past proxy and plugin
	less    string  // a role that the application may take, and that may only read
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: testdb.New(t, &Note{})}
	f.AsOwner(t, `CREATE PROCEDURE leave(n int, commits bool) LANGUAGE plpgsql AS $$ BEGIN
		UPDATE notes SET value = n;
		PERFORM set_config('`+secret+`', 'told', false);
		IF commits THEN COMMIT; END IF;
	END $$`, `GRANT USAGE ON SEQUENCE notes_id_seq TO `+f.App.Role)
	f.less = f.App.Role + "_less_" + f.Name
	f.AsSuperuser(t, `CREATE ROLE `+f.less+` NOLOGIN; GRANT `+f.less+` TO `+f.App.Role+`; GRANT SELECT ON notes TO `+f.less+`; GRANT USAGE ON SEQUENCE notes_id_seq TO `+f.less)
	t.Cleanup(func() { f.AsSuperuser(t, `DROP OWNED BY `+f.less+`; DROP ROLE `+f.less) })
	f.admin = testdb.OpenSQL(t, f.Admin.DSN)
	f.proxy, f.through = wire.Start(t, f.App.DSN)
	return f
}

// way is how the application uses GORM and pgx.
type way struct {
	mode    pgx.QueryExecMode
	prepare bool
}

// open gives a new application, with a pool of its own.
func (f *fixture) open(t require.TestingT, way way) (*gorm.DB, *sql.DB) {
	cfg, err := pgx.ParseConfig(f.through)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = way.mode
	inner := stdlib.OpenDB(*cfg)
	inner.SetMaxOpenConns(connections)
	inner.SetMaxIdleConns(connections)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: inner}),
		&gorm.Config{Logger: logger.Discard, PrepareStmt: way.prepare})
	require.NoError(t, err)
	require.NoError(t, db.Use(tenancy.New(f.Config())))
	return db, inner
}

var as = testdb.As

// literal quotes a tenant's id for SQL text.
func literal(s string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
