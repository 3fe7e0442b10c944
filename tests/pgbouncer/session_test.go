package pgbouncer

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// Behind PgBouncer in transaction mode the server's connection may be another for each transaction, and nothing that the
// guard knows of a session holds for the next. What holds is what happens within one transaction:
//
//   - the tenant and the role are set for each statement;
//   - the first statement of each use looks for temporary objects, search_path and row_security, and does not run where they
//     are not as they should be: the guard cleans and sends it again, or refuses it;
//   - the cleaning behind SQL of the caller is a transaction of its own, which PgBouncer may send to another connection.
//
// Without server_reset_query_always the rest stays on the server's connection, for all who come there: see stays.

// left is something that SQL leaves on a connection to the server.
type left struct {
	name  string
	leave string
	look  string // finds it, as the number of what was found
}

// hides is what changes which rows a statement reads.
var hides = []left{
	{"temporary table", `CREATE TEMP TABLE notes AS SELECT 0::bigint AS id, 'tenant-0'::text AS tenant_id, 'seed'::text AS text`, ``},
	{"temporary view", `CREATE TEMP VIEW notes AS SELECT 0::bigint AS id, 'tenant-0'::text AS tenant_id, 'seed'::text AS text`, ``},
	{"search_path", `SET search_path = pg_catalog`, ``},
	{"row_security", `SET row_security = off`, ``},
}

// stays is what changes no rows, and what the guard does not look for.
var stays = []left{
	{"custom setting", `SET my.secret = 'told'`, `SELECT count(*) FROM (SELECT current_setting('my.secret', true)) s (v) WHERE v = 'told'`},
	{"statement_timeout", `SET statement_timeout = '1h'`, `SELECT count(*) FROM (SELECT current_setting('statement_timeout')) s (v) WHERE v = '1h'`},
	{"advisory lock", `SELECT pg_advisory_lock_shared(42)`, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`},
	{"channel", `LISTEN news`, `SELECT count(*) FROM pg_listening_channels()`},
	{"cursor", `DECLARE c CURSOR WITH HOLD FOR SELECT 'secret'`, `SELECT count(*) FROM pg_cursors WHERE is_holdable`},
	{"prepared statement", `PREPARE p AS SELECT 'secret'`, `SELECT count(*) FROM pg_prepared_statements WHERE from_sql`},
	{"lastval", `SELECT nextval('counter')`, `SELECT count(*) FROM (SELECT lastval()) s`},
}

// carelessly leaves SQL's traces on every connection to the server: as a client without the guard does, or one whose cleaning
// went to another connection.
func (d *database) carelessly(t *testing.T, leave string) {
	t.Helper()
	ctx := context.Background()
	var open []pgx.Tx // at the same time, so that each has another connection
	for range serverConns {
		conn, err := pgx.Connect(ctx, d.dsn(t, d.App.DSN, "default_query_exec_mode=simple_protocol"))
		require.NoError(t, err)
		defer conn.Close(ctx)
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `DISCARD TEMP; `+leave)
		require.NoError(t, err)
		open = append(open, tx)
	}
	for _, tx := range open {
		require.NoError(t, tx.Commit(ctx))
	}
}

// found counts what is found on all connections to the server.
func (d *database) found(t *testing.T, look string) (n int) {
	t.Helper()
	d.onEach(t, d.App, serverConns, func(_ uint32, tx pgx.Tx) {
		var found int
		if err := tx.QueryRow(context.Background(), look).Scan(&found); err != nil {
			require.ErrorContains(t, err, "55000", "lastval is not defined")
		}
		n += found
	})
	return n
}

// undefinedTable is PostgreSQL's error for a table that is not in the search_path.
const undefinedTable = "42P01"

// TestSessionThatHidesTables: whatever hides a table on the server's connection, no statement of a tenant reads it.
func TestSessionThatHidesTables(t *testing.T) {
	for _, resets := range []bool{false, true} {
		t.Run(fmt.Sprintf("server_reset_query_always=%t", resets), func(t *testing.T) {
			d := newDatabaseBehind(t, resets)
			for _, s := range setups() {
				for _, l := range hides {
					t.Run(s.String()+"/"+l.name, func(t *testing.T) {
						db := s.open(t, d, 0)
						d.readsOnEach(t, db) // so that the guard knows how a session begins
						d.carelessly(t, l.leave)
						d.readsOnEach(t, db)
						d.carelessly(t, l.leave)
						d.reads(t, db.WithContext(as(tenant(1))), tenant(1))
						d.carelessly(t, l.leave)
						d.crowd(t, db)
						d.carelessly(t, `RESET ALL`)
					})
				}
			}
		})
	}
}

// reads reads in several ways, of which none shows anything but the tenant's notes.
func (d *database) reads(t *testing.T, db *gorm.DB, tenant string) {
	t.Helper()
	var notes []Note
	require.NoError(t, db.Where("text = ?", seed).Find(&notes).Error)
	require.NoError(t, see(tenant, notes, notesEach))
	notes = nil
	require.NoError(t, db.Raw(`SELECT * FROM notes WHERE text = ?`, seed).Scan(&notes).Error)
	require.NoError(t, see(tenant, notes, notesEach))
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error { return writeNote(tx, tenant) }))
}

// readsOnEach reads in as many transactions at the same time as there are connections to the server.
func (d *database) readsOnEach(t *testing.T, db *gorm.DB) {
	t.Helper()
	for n := range serverConns {
		tx := db.WithContext(as(tenant(n))).Begin()
		require.NoError(t, tx.Error)
		defer func() { require.NoError(t, tx.Commit().Error) }()
		d.reads(t, tx, tenant(n))
	}
}

// crowd reads from more clients than there are connections. Where one's cleaning goes to another connection than its
// statement, the statement is refused. And a client that the pool opens while something is left on the server's connection takes
// it for what the application's connect hook has set: its statements may fail. None shows anything else.
func (d *database) crowd(t *testing.T, db *gorm.DB) {
	t.Helper()
	var wg sync.WaitGroup
	for n := range clients {
		me := tenant(n % tenants)
		db := ownStore(db).WithContext(as(me))
		wg.Go(func() {
			var notes []Note
			err := db.Where("text = ?", seed).Find(&notes).Error
			if err == nil {
				err = see(me, notes, notesEach)
			} else if len(notes) == 0 && (strings.Contains(err.Error(), "server_reset_query_always") ||
				isCode(err, undefinedTable) || isCode(err, insufficientPrivilege)) {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestSessionThatATenantLeaves: the same, where the SQL is a tenant's, through the guard.
func TestSessionThatATenantLeaves(t *testing.T) {
	for _, resets := range []bool{false, true} {
		t.Run(fmt.Sprintf("server_reset_query_always=%t", resets), func(t *testing.T) {
			d := newDatabaseBehind(t, resets)
			for _, s := range setups() {
				db := s.open(t, d, 0)
				for _, l := range append(hides, stays...) {
					t.Run(s.String()+"/"+l.name, func(t *testing.T) {
						for n := range serverConns {
							require.NoError(t, db.WithContext(as(tenant(n))).Exec(l.leave).Error)
							err := db.WithContext(as(tenant(n))).Transaction(func(tx *gorm.DB) error { return tx.Exec(l.leave).Error })
							require.NoError(t, err)
						}
						d.readsOnEach(t, db)
						d.reads(t, db.WithContext(as(tenant(1))), tenant(1))
					})
				}
			}
		})
	}
}

// TestSessionOfControlFirst: where the first statement of a transaction is one that takes no snapshot, such as SET LOCAL or LOCK
// TABLE, the second looks at the session. It cannot be cleaned any more then, and the second statement is refused, or fails. It is
// also refused, once, where a reset has left an empty temporary schema of which the guard does not know.
func TestSessionOfControlFirst(t *testing.T) {
	for _, resets := range []bool{false, true} {
		t.Run(fmt.Sprintf("server_reset_query_always=%t", resets), func(t *testing.T) {
			d := newDatabaseBehind(t, resets)
			for _, s := range setups() {
				db := s.open(t, d, 0)
				for _, l := range hides {
					t.Run(s.String()+"/"+l.name, func(t *testing.T) {
						d.carelessly(t, l.leave)
						if resets {
							d.readsOnEach(t, db) // what had temporary objects is looked at more closely afterwards
						}
						var notes []Note
						err := db.WithContext(as(tenant(1))).Transaction(func(tx *gorm.DB) error {
							if err := tx.Exec(`SET LOCAL lock_timeout = '1s'`).Error; err != nil {
								return err
							}
							return tx.Raw(`SELECT * FROM notes WHERE text = ?`, seed).Scan(&notes).Error
						})
						switch {
						case resets:
							require.NoError(t, err)
							require.NoError(t, see(tenant(1), notes, notesEach))
						default:
							require.Error(t, err)
							require.Empty(t, notes)
						}
					})
				}
			}
		})
	}
}

// TestSessionWithoutReset writes down what does not hold without server_reset_query_always: what changes no rows stays on
// the server's connection, and is found there by all who come. With it nothing stays.
func TestSessionWithoutReset(t *testing.T) {
	for _, resets := range []bool{false, true} {
		t.Run(fmt.Sprintf("server_reset_query_always=%t", resets), func(t *testing.T) {
			d := newDatabaseBehind(t, resets)
			db := setup{mode: "exec"}.open(t, d, 0)
			for _, l := range stays {
				t.Run(l.name, func(t *testing.T) {
					d.carelessly(t, l.leave)
					d.reads(t, db.WithContext(as(tenant(1))), tenant(1))
					got := d.found(t, l.look)
					if resets {
						require.Zero(t, got)
					} else {
						require.Positive(t, got, "PgBouncer or the guard has learned something new: say so in the documentation")
					}
				})
			}
		})
	}
}
