package pgbouncer

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestTenantsShareServerConnections does all kinds of work for all tenants at once, from more clients than there are
// connections to the server.
func TestTenantsShareServerConnections(t *testing.T) {
	d := newDatabase(t)
	t.Log(d.program, d.prepared)
	for _, s := range setups() {
		t.Run(s.String(), func(t *testing.T) {
			db := s.open(t, d, 0)
			everybody(t, db, func(db *gorm.DB, tenant string, w work) {
				if err := w.run(db, tenant); err != nil {
					t.Errorf("%s: %v", w.name, err)
				}
			})
			admin := tenancy.Bypass(db.WithContext(context.Background()), "what the last one had, the next must not")
			require.NoError(t, countSeeds(admin, tenants*notesEach))
			d.requireClean(t, 0)
		})
	}
}

// TestSettingsOfTheLogin: PgBouncer refuses settings in the DSN, and those of the login reach the tenants' statements.
func TestSettingsOfTheLogin(t *testing.T) {
	d := newDatabaseBehind(t, true)
	_, err := pgx.Connect(t.Context(), d.dsn(t, d.App.DSN, "statement_timeout=5000"))
	require.ErrorContains(t, err, "unsupported startup parameter: statement_timeout")
	require.ErrorContains(t, err, "08P01")

	d.AsSuperuser(t, "ALTER ROLE "+d.App.Role+" IN DATABASE "+d.Name+" SET statement_timeout = '5s'",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+d.App.Role+"'")
	db := setups()[0].open(t, d, 0)
	timeout := func() (value string, err error) {
		err = db.WithContext(as(tenant(1))).Raw("SHOW statement_timeout").Scan(&value).Error
		return value, err
	}
	require.Eventually(t, func() bool { value, err := timeout(); return err == nil && value == "5s" }, 10*time.Second, 10*time.Millisecond)
	for range 2 * serverConns {
		value, err := timeout()
		require.NoError(t, err)
		require.Equal(t, "5s", value)
	}
}

// clients are how many work at the same time, each on a connection of its own to PgBouncer.
const clients = 10

// everybody has all work done by all clients, in an order of its own for each, and for a tenant that changes.
//
// GORM's PrepareStmt lets a transaction wait until another client has prepared the same statement, who may wait for the
// server connection of the transaction. So with it each client has a store of statements of its own.
func everybody(t *testing.T, db *gorm.DB, do func(db *gorm.DB, tenant string, w work)) {
	t.Helper()
	pool, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	pool.SetMaxIdleConns(clients)
	apart(t, pool)
	todo := works
	if !db.PrepareStmt {
		todo = append(todo[:len(todo):len(todo)], texts)
	}
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			db := ownStore(db)
			for i, at := range rand.Perm(len(todo)) {
				me := tenant((client + i) % tenants)
				do(db.WithContext(as(me)), me, todo[at])
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return pool.Stats().InUse == 0 }, 10*time.Second, time.Millisecond)
}

// ownStore is the same client with another store of prepared statements, if it has one.
func ownStore(db *gorm.DB) *gorm.DB {
	shared, ok := db.ConnPool.(*gorm.PreparedStmtDB)
	if !ok {
		return db
	}
	config := *db.Config
	own := gorm.NewPreparedStmtDB(shared.ConnPool, 0, 0)
	config.ConnPool = own
	session := db.Session(&gorm.Session{NewDB: true, Context: context.Background()})
	session.Config = &config
	session.Statement.ConnPool = own
	return session
}

// apart opens a connection to PgBouncer for each client.
func apart(t *testing.T, pool *sql.DB) {
	t.Helper()
	for range clients {
		conn, err := pool.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
	}
}

// requireClean asks each connection to the server what the plugin left there, and how many statements are prepared.
func (d *database) requireClean(t *testing.T, maxPrepared int) {
	t.Helper()
	d.onEach(t, d.App, serverConns, func(_ uint32, tx pgx.Tx) {
		var (
			setting, user string
			notes         int
			prepared      int
		)
		require.NoError(t, tx.QueryRow(context.Background(), `SELECT coalesce(current_setting('app.tenant_id', true), ''),
			current_user, (SELECT count(*) FROM notes), (SELECT count(*) FROM pg_prepared_statements)`).
			Scan(&setting, &user, &notes, &prepared))
		require.Empty(t, setting, "the tenant")
		require.Equal(t, d.App.Role, user, "the role")
		require.Zero(t, notes, "rows seen without a tenant")
		require.LessOrEqual(t, prepared, maxPrepared, "prepared statements")
	})
}

// forgetStatements drops what is prepared on the server.
func (d *database) forgetStatements(t *testing.T) {
	t.Helper()
	d.onEach(t, d.App, serverConns, func(_ uint32, tx pgx.Tx) {
		_, err := tx.Exec(context.Background(), "DEALLOCATE ALL")
		require.NoError(t, err)
	})
}

// TestSessionsAreShared shows that the other tests would notice: what a client sets for its session reaches others, and
// so does the row of the tenant that it names.
func TestSessionsAreShared(t *testing.T) {
	d := newDatabase(t)
	careless := testdb.OpenPlain(t, d.dsn(t, d.App.DSN, "default_query_exec_mode=simple_protocol"), testdb.FromPool())
	require.NoError(t, careless.Exec("SET app.tenant_id = 'tenant-1'").Error)
	var crossed []Note
	d.onEach(t, d.App, serverConns, func(_ uint32, tx pgx.Tx) {
		rows, err := tx.Query(context.Background(), "SELECT id, tenant_id, text FROM notes")
		require.NoError(t, err)
		notes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Note])
		require.NoError(t, err)
		crossed = append(crossed, notes...)
	})
	require.ErrorIs(t, see(tenant(0), crossed, notesEach), errCrossed)

	// The guard sets the tenant of every statement, whatever a careless client has left.
	db := setup{mode: "exec"}.open(t, d, 0)
	everybody(t, db, func(db *gorm.DB, tenant string, w work) {
		if err := w.run(db, tenant); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
	})
}

// cancellations are the ways in which pgx ends a statement whose context is over: by closing the connection, which is its
// default, or by a request to the server, which PgBouncer passes on. Such requests can end PgBouncer itself before 1.21
// (https://github.com/pgbouncer/pgbouncer/issues/801).
func (b *bouncer) cancellations() map[string]func(*pgx.ConnConfig) {
	all := map[string]func(*pgx.ConnConfig){"by closing": func(*pgx.ConnConfig) {}}
	if b.minor >= firstInStep {
		all["by request"] = func(cfg *pgx.ConnConfig) {
			cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
				return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 10 * time.Second}
			}
		}
	}
	return all
}

// isOutOfStep reports whether a connection was ended because of an answer that was not expected, by pgx or by the guard. PgBouncer
// before 1.21 may give a server to the next client while it still answers one that has left.
func isOutOfStep(err error) bool {
	return err != nil && strings.Contains(err.Error(), "received unexpected message") || errors.Is(err, tenancy.ErrTenantMismatch)
}

// TestContextEndsAtAnyTime ends contexts at any time, in statements and transactions of all tenants.
func TestContextEndsAtAnyTime(t *testing.T) {
	d := newDatabase(t)
	for how, opt := range d.cancellations() {
		for _, s := range []setup{{"cache_describe", false}, {"exec", true}, {"simple_protocol", false}} {
			t.Run(how+"/"+s.String(), func(t *testing.T) {
				db := s.open(t, d, 0, opt)
				everybody(t, db, func(db *gorm.DB, tenant string, w work) {
					ctx, cancel := context.WithTimeout(db.Statement.Context, rand.N(5*time.Millisecond))
					defer cancel()
					if err := w.run(db.WithContext(ctx), tenant); errors.Is(err, errCrossed) {
						t.Errorf("%s: %v", w.name, err)
					}
				})

				// A statement that is cancelled while the server works, and a transaction.
				ctx, cancel := context.WithTimeout(as(tenant(1)), 20*time.Millisecond)
				defer cancel()
				require.Error(t, db.WithContext(ctx).Exec("SELECT pg_sleep(20)").Error)
				require.Error(t, ctx.Err())
				ctx, cancel = context.WithCancel(as(tenant(1)))
				defer cancel()
				err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					if err := tx.Where("text = ?", seed).Delete(&Note{}).Error; err != nil {
						return err
					}
					cancel()
					return tx.Create(&Note{Text: "never"}).Error
				})
				require.Error(t, err, "and nothing is kept")
				if d.minor >= firstInStep || !isOutOfStep(err) {
					require.ErrorIs(t, err, context.Canceled)
				}

				for n := range tenants {
					count := func() error { return countSeeds(db.WithContext(as(tenant(n))), notesEach) }
					err := count()
					for attempts := 0; d.minor < firstInStep && isOutOfStep(err) && attempts < 10; attempts++ {
						err = count()
					}
					require.NoError(t, err)
				}
				d.requireClean(t, 0)
			})
		}
	}
}
