package model

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
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
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
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

// world is the database, which all runs use one after another.
type world struct {
	*pgserver.Database
	proxy   *wire.Proxy
	through string  // the application's DSN, through the proxy
	admin   *sql.DB // past proxy and plugin
	less    string  // a role that the application may take, and that may only read
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Database: pgserver.New(t)}
	owner, err := gorm.Open(postgres.Open(w.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	_, err = rls.Isolation{AppRole: w.App.Role, AdminRole: w.Admin.Role}.Migrate(t.Context(), owner, &Note{})
	require.NoError(t, err)
	require.NoError(t, owner.Exec(`CREATE PROCEDURE leave(n int, commits bool) LANGUAGE plpgsql AS $$ BEGIN
		UPDATE notes SET value = n;
		PERFORM set_config('`+secret+`', 'told', false);
		IF commits THEN COMMIT; END IF;
	END $$`).Error)
	require.NoError(t, owner.Exec(`GRANT USAGE ON SEQUENCE notes_id_seq TO `+w.App.Role).Error)
	w.less = w.App.Role + "_less_" + w.Name
	w.asSuper(t, `CREATE ROLE `+w.less+` NOLOGIN; GRANT `+w.less+` TO `+w.App.Role+`; GRANT SELECT ON notes TO `+w.less+`; GRANT USAGE ON SEQUENCE notes_id_seq TO `+w.less)
	t.Cleanup(func() { w.asSuper(t, `DROP OWNED BY `+w.less+`; DROP ROLE `+w.less) })
	closeDB(t, owner)
	w.admin, err = sql.Open("pgx", w.Admin.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.admin.Close()) })
	w.proxy, w.through = wire.Start(t, w.App.DSN)
	return w
}

// asSuper runs SQL as the server's superuser, in this database.
func (w *world) asSuper(t *testing.T, sql string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	cfg.Database = w.Name
	c, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(t, err)
	defer c.Close(context.Background())
	_, err = c.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
}

// way is how the application uses GORM and pgx.
type way struct {
	mode    pgx.QueryExecMode
	prepare bool
}

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// open gives a new application, with a pool of its own.
func (w *world) open(t require.TestingT, way way) (*gorm.DB, *sql.DB) {
	cfg, err := pgx.ParseConfig(w.through)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = way.mode
	inner := stdlib.OpenDB(*cfg)
	inner.SetMaxOpenConns(connections)
	inner.SetMaxIdleConns(connections)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: inner}),
		&gorm.Config{Logger: logger.Discard, PrepareStmt: way.prepare})
	require.NoError(t, err)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{
		AdminRole: w.Admin.Role, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})))
	return db, inner
}

func closeDB(t require.TestingT, db *gorm.DB) {
	pool, err := db.DB()
	require.NoError(t, err)
	require.NoError(t, pool.Close())
}

func as(tenant string) context.Context { return tenancy.WithTenant(context.Background(), tenant) }

// literal quotes a tenant's id for SQL text.
func literal(s string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
