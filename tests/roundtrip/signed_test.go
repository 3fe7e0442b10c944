package roundtrip

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func newSignedDatabase(t testing.TB) *database {
	t.Helper()
	return newDatabaseOf(t, testdb.NewSigned(t, models...))
}

// TestRoundTripsOfEachSignedStatement: with a key, statements take as many round trips as without.
func TestRoundTripsOfEachSignedStatement(t *testing.T) {
	roundTripsOfEach(t, newSignedDatabase(t), guarded)
}

func TestLoneSignedStatementIsOneFlight(t *testing.T) {
	loneIsOneFlight(t, withSlots(t, newSignedDatabase(t)))
}

// TestSignedProofIsAskedOnce: what PostgreSQL has said of a table counts for the statements that follow, though each session is cleaned, and in a
// transaction as well.
func TestSignedProofIsAskedOnce(t *testing.T) {
	d := newSignedDatabase(t)
	for _, o := range []options{skip, begin} {
		db := d.Open(t, d.Config(), testdb.Pool(d.pool(t, d.App.DSN, pgx.QueryExecModeCacheStatement)), testdb.GORM(o.gorm)).WithContext(forTenant())
		for _, do := range []operation{first, create, firstAndCreate, preload} {
			for range 2 {
				require.NoError(t, do(db))
			}
			before, _ := d.proxy.Bytes()
			require.NoError(t, do(db))
			after, _ := d.proxy.Bytes()
			require.Less(t, after-before, int64(3000), "bytes sent: the question is longer")
		}
	}
}
