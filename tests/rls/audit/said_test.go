package audit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

const sayings = `SELECT concat_ws(' ', operation, key ->> 'id', coalesce(actor, '-'), coalesce(request_id, '-'), coalesce(reason, '-')) FROM tenancy_audit ORDER BY id`

// oneConnection opens the application's client with one connection, in a mode, and returns the proxy before it.
func (d database) oneConnection(t *testing.T, opts ...testdb.Option) (*gorm.DB, *wire.Proxy) {
	t.Helper()
	proxy, dsn := wire.Start(t, d.App.DSN)
	db, err := testdb.OpenGuarded(t, dsn, d.Config(), opts...)
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	return db, proxy
}

func TestActorIsRecordedInTheSameRoundTrip(t *testing.T) {
	for _, mode := range testdb.Modes {
		t.Run(testdb.ModeName(mode), func(t *testing.T) {
			d := newDatabase(t)
			db, proxy := d.oneConnection(t, testdb.Mode(mode), testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = true }))
			silent := tenancy.WithTenant(t.Context(), "acme")
			said := tenancy.WithRequestID(tenancy.WithActor(silent, `u-7 "quoted" \ 'Zoë' 🙂 $1`), "req-1")
			update := func(ctx context.Context) func() {
				return func() {
					require.NoError(t, db.WithContext(ctx).Model(&account{}).Where("id = ?", 1).Update("balance", gorm.Expr("balance + 1")).Error)
				}
			}
			trips := func(do func()) int64 {
				before := proxy.RoundTrips()
				do()
				return proxy.RoundTrips() - before
			}
			require.NoError(t, db.WithContext(said).Create(&account{ID: 1, Name: "a"}).Error)
			for range 2 { // the first describes
				update(silent)()
				update(said)()
			}
			without, with := trips(update(silent)), trips(update(said))
			require.Equal(t, without, with)

			const told = `u-7 "quoted" \ 'Zoë' 🙂 $1 req-1 -`
			records := d.records(t, sayings)
			require.Equal(t, []string{"INSERT 1 " + told, "UPDATE 1 - - -", "UPDATE 1 " + told}, records[:3], "nothing is left to the next statement")
			require.Len(t, records, 7)
		})
	}
}

// Where nothing is said, no message is sent.
func TestActorCostsNothingWithoutOne(t *testing.T) {
	d := newDatabase(t)
	db, proxy := d.oneConnection(t)
	read := func(ctx context.Context) int64 {
		before := proxy.Sent('B')
		require.NoError(t, db.WithContext(ctx).Find(&[]account{}).Error)
		return proxy.Sent('B') - before
	}
	silent := tenancy.WithTenant(t.Context(), "acme")
	read(silent)
	require.EqualValues(t, 2, read(silent), "the scope, and the statement")
	require.EqualValues(t, 3, read(tenancy.WithActor(silent, "u-7")))
	require.EqualValues(t, 2, read(silent))
}

func TestActorOfATransaction(t *testing.T) {
	d := newDatabase(t)
	db, _ := d.oneConnection(t)
	ctx := tenancy.WithActor(tenancy.WithTenant(t.Context(), "acme"), "u-1")
	require.NoError(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&account{ID: 1, Name: "a"}).Error)
		require.NoError(t, tx.WithContext(tenancy.WithActor(ctx, "u-2")).Create(&account{ID: 2, Name: "b"}).Error)
		require.NoError(t, tx.WithContext(tenancy.WithTenant(t.Context(), "acme")).Create(&account{ID: 3, Name: "c"}).Error)
		return nil
	}))
	require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), "globex")).Create(&account{ID: 4, Name: "d"}).Error)
	require.Equal(t, []string{"INSERT 1 u-1 - -", "INSERT 2 u-2 - -", "INSERT 3 u-2 - -", "INSERT 4 - - -"}, d.records(t, sayings))
}

func TestReasonOfABypassIsRecorded(t *testing.T) {
	d := newDatabase(t)
	d.run(t, "acme", "INSERT INTO accounts (id, name) VALUES (1, 'a')")
	admin := tenancy.Bypass(d.app, "close old accounts").WithContext(tenancy.WithActor(t.Context(), "job"))
	require.NoError(t, admin.Exec("DELETE FROM accounts").Error)
	require.Equal(t, []string{"INSERT 1 - - -", "DELETE 1 job - close old accounts"}, d.records(t, sayings))
	require.Equal(t, []string{d.Admin.Role}, d.records(t, "SELECT role FROM tenancy_audit WHERE operation = 'DELETE'"))
}

// SQL of one tenant leaves no actor to the statements of the next.
func TestActorOfHostileSQLEndsWithItsSession(t *testing.T) {
	d := newDatabase(t)
	db, _ := d.oneConnection(t)
	require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), "acme")).Exec(`SET tenancy.audit = '{"actor": "forged"}'`).Error)
	require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), "globex")).Create(&account{ID: 1, Name: "a"}).Error)
	require.Equal(t, []string{"INSERT 1 - - -"}, d.records(t, sayings))
}

func TestActorOfAnyTextIsRecorded(t *testing.T) {
	d := newDatabase(t)
	for _, actor := range []string{"\x00", "\xff", strings.Repeat("é", 4000), "'; DROP TABLE accounts; --", "\u2028", `\u0000`} {
		require.NoError(t, d.app.WithContext(tenancy.WithActor(tenancy.WithTenant(t.Context(), "acme"), actor)).
			Exec("INSERT INTO accounts (id, name) SELECT 1 + count(*), count(*) FROM accounts").Error)
	}
	require.Equal(t, []string{"\uFFFD", "\uFFFD", strings.Repeat("é", 512), "'; DROP TABLE accounts; --", "\u2028", `\u0000`},
		d.records(t, "SELECT actor FROM tenancy_audit ORDER BY id"))
}
