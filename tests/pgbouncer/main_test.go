// Package pgbouncer puts PgBouncer in transaction mode between the plugin and PostgreSQL, with fewer connections to the
// server than it has clients: what one statement left behind there, the next tenant's would find.
package pgbouncer

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// Note is a tenant's.
type Note struct {
	ID       int64
	TenantID string
	Text     string
}

const (
	serverConns = 2
	tenants     = 5
	notesEach   = 20
)

func tenant(n int) string { return fmt.Sprintf("tenant-%d", n) }

var as = testdb.As

// database has the notes of several tenants, a PgBouncer in front, and a plain client beside it that sees everything.
type database struct {
	*testdb.Database
	*bouncer
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	return newDatabaseBehind(t, false)
}

// newDatabaseBehind is newDatabase behind a PgBouncer with server_reset_query_always, or without.
func newDatabaseBehind(t testing.TB, resets bool) *database {
	t.Helper()
	d := &database{Database: testdb.New(t, &Note{})}
	d.AsOwner(t, `CREATE SEQUENCE counter`, `GRANT USAGE ON SEQUENCE counter TO `+d.App.Role)
	for n := range tenants {
		notes := make([]Note, notesEach)
		for i := range notes {
			notes[i] = Note{TenantID: tenant(n), Text: seed}
		}
		require.NoError(t, d.AdminDB.Create(&notes).Error)
	}
	counts := preparedCounts(t)
	d.bouncer = start(t, serverConns, resets, counts[len(counts)-1], d.App)
	return d
}

// seed is the text of the notes that are there from the beginning, and that no test changes.
const seed = "seed"

// setup is one of the ways to open a guarded pool through PgBouncer.
type setup struct {
	mode    string
	prepare bool // GORM's PrepareStmt
}

func (s setup) String() string { return fmt.Sprintf("%s/prepare=%t", s.mode, s.prepare) }

// open is GORM with the plugin. With PrepareStmt, or in pgx's mode cache_statement, statements are prepared on the server
// unless the statement cache has no room for any.
func (s setup) open(t testing.TB, d *database, cache int, opts ...func(*pgx.ConnConfig)) *gorm.DB {
	t.Helper()
	dsn := d.dsn(t, d.App.DSN, "default_query_exec_mode="+s.mode, fmt.Sprintf("statement_cache_capacity=%d", cache))
	db, err := testdb.OpenGuarded(t, dsn, d.Config(), testdb.FromPool(opts...), testdb.Prepared(s.prepare))
	require.NoError(t, err)
	return db
}

// setups are those that work behind every PgBouncer, where nothing is prepared on the server.
func setups() (all []setup) {
	for _, mode := range []string{"cache_describe", "describe_exec", "exec", "simple_protocol"} {
		all = append(all, setup{mode, false}, setup{mode, true})
	}
	return all
}
