// Package isolation sends SQL in every way that GORM has, for two tenants, and looks whether a row crosses.
package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m, pgserver.WithStatementLog()) }

// denied tells PostgreSQL's refusals: insufficient_privilege, which is also that of a policy, and unique_violation, by
// which an upsert fails on a key that exists and can't be seen.
func denied(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "42501" || pgErr.Code == "23505")
}

// setup is one of the ways to open a guarded *gorm.DB.
type setup struct {
	mode    pgx.QueryExecMode
	prepare bool
	skipTx  bool
	direct  bool
}

func (s setup) String() string {
	return fmt.Sprintf("%s/prepare=%t/skipTx=%t/direct=%t", testdb.ModeName(s.mode), s.prepare, s.skipTx, s.direct)
}

func setups() (all []setup) {
	for _, mode := range testdb.Modes {
		for bits := range 8 {
			all = append(all, setup{mode, bits&1 != 0, bits&2 != 0, bits&4 != 0})
		}
	}
	return all
}

// signedSetups are two of each mode that can carry a proof, which differ in everything else.
func signedSetups() (some []setup) {
	for _, mode := range testdb.Modes {
		if mode != pgx.QueryExecModeSimpleProtocol {
			some = append(some, setup{mode, false, false, false}, setup{mode, true, true, true})
		}
	}
	return some
}

// borrowingSetups are two of each mode, whose pools borrow their connections.
func borrowingSetups() (some []setup) {
	for _, mode := range testdb.Modes {
		some = append(some, setup{mode, false, false, false}, setup{mode, true, true, false})
	}
	return some
}

func (s setup) open(t testing.TB, d *database) *gorm.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = s.mode
	pool := stdlib.OpenDB(*cfg)
	if s.direct {
		require.NoError(t, pool.Close())
		pool = tenancy.OpenDB(stdlib.GetConnector(*cfg), d.Config())
	}
	return d.Open(t, d.Config(), testdb.Pool(pool), testdb.Prepared(s.prepare),
		testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = s.skipTx }))
}

// TestStatementsKeepTenantsApart is the guarantee itself, over every way to open a pool and every way to send SQL.
func TestStatementsKeepTenantsApart(t *testing.T) {
	keepApart(t, newDatabase(t), setups())
}

// TestSignedStatementsKeepTenantsApart sends the same where policies demand the proof of a key.
func TestSignedStatementsKeepTenantsApart(t *testing.T) {
	keepApart(t, newSignedDatabase(t), signedSetups())
}

// TestStatementsWithTenantKeysKeepTenantsApart sends the same where primary keys begin with the tenant column.
func TestStatementsWithTenantKeysKeepTenantsApart(t *testing.T) {
	keepApart(t, newKeyedDatabase(t), borrowingSetups()[:4])
}

// TestStatementsOnPartitionsKeepTenantsApart sends the same where tables have partitions: of so many, in which most tenants are alone, and
// of two, which all of them share.
func TestStatementsOnPartitionsKeepTenantsApart(t *testing.T) {
	keepApart(t, newPartitionedDatabase(t, 64), borrowingSetups()[4:6])
	keepApart(t, newPartitionedDatabase(t, 2), borrowingSetups()[6:8])
}

func keepApart(t *testing.T, d *database, setups []setup) {
	for _, s := range setups {
		t.Run(s.String(), func(t *testing.T) {
			db := s.open(t, d)
			for _, way := range append(reads, writes...) {
				t.Run(way.name, func(t *testing.T) {
					two := d.newPair(t)
					before := d.state(t, two.other)
					ctx := tenancy.WithTenant(context.Background(), two.me)
					err := way.run(db.WithContext(ctx), two)
					if d.Signed() && way.name == severalStatements {
						require.ErrorContains(t, err, "several statements")
					} else {
						require.NoError(t, err)
					}
					require.Equal(t, before, d.state(t, two.other), "the other tenant's rows")
				})
			}
		})
	}
}

// TestStatementsCrossWithoutPlugin runs the same ways without the plugin, on a connection that no policy holds back, so that a way
// that would pass there too is known to prove nothing.
func TestStatementsCrossWithoutPlugin(t *testing.T) {
	d := newDatabase(t)
	for _, way := range append(reads, writes...) {
		t.Run(way.name, func(t *testing.T) {
			two := d.newPair(t)
			before := d.state(t, two.other)
			err := way.run(d.AdminDB.WithContext(context.Background()), two)
			crossed := !equal(before, d.state(t, two.other))
			require.True(t, err != nil || crossed, "passes without the plugin")
		})
	}
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// TestStatementsWithoutDecisionSendNothing sends nothing in any way when the context says nothing about the tenant.
func TestStatementsWithoutDecisionSendNothing(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	log := newServerLog(t, d)
	for _, s := range setups() {
		t.Run(s.String(), func(t *testing.T) {
			db := s.open(t, d)
			require.NotEmpty(t, log.statements(t, d), "the log can be read: opening asks about the roles")
			for _, way := range append(reads, writes...) {
				t.Run(way.name, func(t *testing.T) {
					err := way.run(db.WithContext(context.Background()), two)
					require.ErrorIs(t, err, tenancy.ErrNoTenant)
				})
			}
			require.Empty(t, log.statements(t, d), "statements in the server's log")
		})
	}
}

var statementInLog = regexp.MustCompile(`(?m) LOG:  (statement|execute .*|parse .*|bind .*): .*$`)

// serverLog tells which statements have reached the server since it was last asked.
type serverLog struct {
	read int64     // bytes of the log
	seen time.Time // by the server's clock, where there is no log
}

func newServerLog(t testing.TB, d *database) *serverLog {
	t.Helper()
	l := &serverLog{read: pgserver.LogEnd}
	l.statements(t, d)
	return l
}

func (l *serverLog) statements(t testing.TB, d *database) []string {
	t.Helper()
	more, read, err := pgserver.Shared(t).LogsSince(context.Background(), l.read)
	if errors.Is(err, pgserver.ErrNoLogs) {
		return l.inActivity(t, d)
	}
	require.NoError(t, err)
	l.read = read
	return statementInLog.FindAllString(more, -1)
}

// inActivity asks what the application's sessions have last run: all that a server elsewhere tells.
func (l *serverLog) inActivity(t testing.TB, d *database) (statements []string) {
	t.Helper()
	admin, err := sql.Open("pgx", pgserver.Shared(t).DSN())
	require.NoError(t, err)
	defer admin.Close()
	since := l.seen
	require.NoError(t, admin.QueryRow("SELECT clock_timestamp()").Scan(&l.seen))
	rows, err := admin.Query(
		"SELECT query FROM pg_stat_activity WHERE usename = $1 AND query <> '' AND query_start > $2", d.App.Role, since)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var statement string
		require.NoError(t, rows.Scan(&statement))
		statements = append(statements, statement)
	}
	require.NoError(t, rows.Err())
	return statements
}
