package roundtrip

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// trips are the round trips of an operation without the plugin, and with it.
type trips struct{ plain, guarded int }

// How pgx sends a statement decides how often it has to wait for the server. Where the plugin does not change that,
// both columns are the same.
var modes = []struct {
	mode pgx.QueryExecMode
	of   func(modeTrips) trips
}{
	{pgx.QueryExecModeCacheStatement, func(m modeTrips) trips { return m.cached }},
	{pgx.QueryExecModeCacheDescribe, func(m modeTrips) trips { return m.cached }},
	{pgx.QueryExecModeDescribeExec, func(m modeTrips) trips { return m.described }},
	{pgx.QueryExecModeExec, func(m modeTrips) trips { return m.unnamed }},
	{pgx.QueryExecModeSimpleProtocol, func(m modeTrips) trips { return m.unnamed }},
}

// modeTrips are the round trips in the modes that remember what the server has described, in the one that asks for it
// each time, and in those that do without.
type modeTrips struct{ cached, described, unnamed trips }

// inAll is for what takes the same in every mode.
func inAll(plain, guarded int) modeTrips {
	t := trips{plain, guarded}
	return modeTrips{t, t, t}
}

var (
	skip            = options{}
	begin           = options{begin: true}
	prepared        = options{prepare: true}
	beginOfPrepared = options{begin: true, prepare: true}
)

// warm is the table: what an operation costs when it has been done before. Each pair is plain GORM, then guarded.
var warm = []struct {
	name  string
	do    operation
	opts  options
	trips modeTrips
}{
	{"First", first, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Find", find, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Count", count, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Raw.Scan", raw, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Exec", exec, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Exec of text", execText, skip, inAll(1, 1)},
	{"Create", create, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Update", update, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Delete", deleteOne, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"CreateInBatches, three", createInBatches, skip, modeTrips{trips{3, 3}, trips{6, 6}, trips{3, 3}}},
	{"FindInBatches, three", findInBatches, skip, modeTrips{trips{3, 3}, trips{6, 6}, trips{3, 3}}},
	{"Preload", preload, skip, modeTrips{trips{2, 2}, trips{4, 4}, trips{2, 2}}},
	{"Rows, streamed", stream, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Rows, closed early", stopEarly, skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"WithoutTenant", withoutTenant(shared), skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Bypass: First", bypassed(first), skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Bypass: Create", bypassed(create), skip, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},

	{"First", first, begin, modeTrips{trips{1, 1}, trips{2, 2}, trips{1, 1}}},
	{"Create", create, begin, modeTrips{trips{3, 1}, trips{4, 2}, trips{3, 1}}},
	{"Update", update, begin, modeTrips{trips{3, 1}, trips{4, 2}, trips{3, 1}}},
	{"Delete", deleteOne, begin, modeTrips{trips{3, 1}, trips{4, 2}, trips{3, 1}}},
	{"CreateInBatches, three", createInBatches, begin, modeTrips{trips{5, 4}, trips{8, 7}, trips{5, 4}}},
	{"Transaction{}", emptyTransaction, begin, inAll(2, 0)},
	{"Transaction{First, Create}", firstAndCreate, begin, modeTrips{trips{4, 3}, trips{6, 5}, trips{4, 3}}},
	{"Transaction{First}, rolled back", rolledBack, begin, modeTrips{trips{3, 2}, trips{4, 3}, trips{3, 2}}},
	{"Transaction{savepoint, First}", nested, begin, modeTrips{trips{4, 3}, trips{5, 4}, trips{4, 3}}},
	{"ForEachTenant, two", perTenant, begin, modeTrips{trips{6, 4}, trips{8, 6}, trips{6, 4}}},
	{"Bypass: Create", bypassed(create), begin, modeTrips{trips{3, 2}, trips{4, 3}, trips{3, 2}}},
	{"Bypass: Transaction{First, Create}", bypassed(firstAndCreate), begin, modeTrips{trips{4, 3}, trips{6, 5}, trips{4, 3}}},

	{"First", first, prepared, inAll(1, 1)},
	{"Exec of text", execText, prepared, inAll(1, 1)},
	{"Create", create, prepared, inAll(1, 1)},
	{"Rows, streamed", stream, prepared, inAll(1, 1)},

	{"Create", create, beginOfPrepared, inAll(5, 2)},
	{"CreateInBatches, three", createInBatches, beginOfPrepared, inAll(7, 4)},
	{"Transaction{}", emptyTransaction, beginOfPrepared, inAll(2, 0)},
	{"Transaction{First, Create}", firstAndCreate, beginOfPrepared, inAll(8, 3)},
	{"ForEachTenant, two", perTenant, beginOfPrepared, inAll(10, 4)},
	// The bypass client does without GORM's prepared statements.
	{"Bypass: First", bypassed(first), beginOfPrepared, modeTrips{trips{1, 1}, trips{1, 2}, trips{1, 1}}},
	{"Bypass: Create", bypassed(create), beginOfPrepared, modeTrips{trips{5, 2}, trips{5, 3}, trips{5, 2}}},
}

// TestRoundTripsOfEachStatement is the promise that the plugin costs no round trip, and saves some in transactions.
func TestRoundTripsOfEachStatement(t *testing.T) {
	roundTripsOfEach(t, newDatabase(t), append([]opener{plain}, guarded...))
}

func roundTripsOfEach(t *testing.T, d *database, openers []opener) {
	for _, m := range modes {
		if d.Signed() && m.mode == pgx.QueryExecModeSimpleProtocol {
			continue
		}
		for _, o := range []options{skip, begin, prepared, beginOfPrepared} {
			for _, c := range openers {
				t.Run(testdb.ModeName(m.mode)+"/"+o.String()+"/"+c.name, func(t *testing.T) {
					db := c.open(t, d, m.mode, o).WithContext(forTenant())
					for _, tt := range warm {
						if tt.opts != o {
							continue
						}
						t.Run(tt.name, func(t *testing.T) {
							want := m.of(tt.trips).guarded
							if c.name == plain.name {
								want = m.of(tt.trips).plain
							}
							require.NoError(t, tt.do(db), "the first time, which is not warm")
							for range 3 {
								require.Equal(t, want, d.counted(t, func() error { return tt.do(db) }))
							}
						})
					}
				})
			}
		}
	}
}

// cold is what the first statement of a new pool costs, and what it costs on a new connection of a pool that has proof
// of its tables. The plugin adds a round trip for each tenant's table that was not asked about before.
var cold = []struct {
	name   string
	do     operation
	tables int
	trips  modeTrips // on a new connection
}{
	{"First", first, 1, modeTrips{trips{2, 2}, trips{2, 2}, trips{1, 1}}},
	{"Create", create, 1, modeTrips{trips{4, 2}, trips{4, 2}, trips{3, 1}}},
	{"Preload", preload, 2, modeTrips{trips{4, 4}, trips{4, 4}, trips{2, 2}}},
	{"Transaction{First, Create}", firstAndCreate, 1, modeTrips{trips{6, 5}, trips{6, 5}, trips{4, 3}}},
	{"Exec", exec, 0, modeTrips{trips{2, 2}, trips{2, 2}, trips{1, 1}}},
	{"Exec of text", execText, 0, inAll(1, 1)},
	{"Rows, streamed", stream, 0, modeTrips{trips{2, 2}, trips{2, 2}, trips{1, 1}}},
	{"WithoutTenant", withoutTenant(shared), 0, modeTrips{trips{2, 2}, trips{2, 2}, trips{1, 1}}},
	{"Bypass: First", bypassed(first), 0, modeTrips{trips{2, 2}, trips{2, 2}, trips{1, 1}}},
}

func TestRoundTripsOfFirstStatement(t *testing.T) {
	d := newDatabase(t)
	for _, m := range modes {
		for i, c := range append([]opener{plain}, guarded...) {
			for _, tt := range cold {
				t.Run(testdb.ModeName(m.mode)+"/"+c.name+"/"+tt.name, func(t *testing.T) {
					db := c.open(t, d, m.mode, begin).WithContext(forTenant())
					neverIdle(t, db)
					want, proof := m.of(tt.trips).guarded, tt.tables
					if i == 0 {
						want, proof = m.of(tt.trips).plain, 0
					}
					run := func() error { return tt.do(db) }
					require.Equal(t, want+proof, d.counted(t, run), "on a new pool")
					require.Equal(t, want, d.counted(t, run), "on a new connection")
				})
			}
		}
	}
}

// TestProofIsAskedOnce asks about one table after another, in all modes, and about none of them twice, whichever client asks.
func TestProofIsAskedOnce(t *testing.T) {
	d := newDatabase(t)
	for _, m := range modes {
		for _, c := range guarded {
			t.Run(testdb.ModeName(m.mode)+"/"+c.name, func(t *testing.T) {
				for range 2 { // a pool knows nothing of another one's proofs
					db := c.open(t, d, m.mode, prepared)
					patient := func() error { return db.WithContext(forTenant()).First(&Patient{}).Error }
					doctor := func() error { return db.WithContext(forTenant()).First(&Doctor{}).Error }
					const preparing = 1

					require.Equal(t, 1+preparing+1, d.counted(t, patient))
					require.Equal(t, 1, d.counted(t, patient))
					require.Equal(t, 1+preparing+1, d.counted(t, doctor))
					for range 50 {
						require.Equal(t, 1, d.counted(t, patient))
						require.Equal(t, 1, d.counted(t, doctor))
					}
					require.Equal(t, 1, d.counted(t, func() error {
						return rows(db.WithContext(forOther()).Limit(1).Find(&[]Patient{}), 1)
					})-preparing, "another tenant, another statement")
				}
			})
		}
	}
}
