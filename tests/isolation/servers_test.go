package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// servers are databases with pools of their own, and the tenants on each. To the plugin a pool is a server.
type servers struct {
	databases [3]*database
	tenants   sync.Map // index of a database by tenant
}

func newServers(t testing.TB, newDatabase func(testing.TB) *database) *servers {
	t.Helper()
	s := &servers{}
	for n := range s.databases {
		d := newDatabase(t)
		for _, table := range []string{"doctors", "tags", "patients", "visits", "hookeds"} { // ids are unique over all servers
			d.AsOwner(t, fmt.Sprintf("ALTER SEQUENCE %s_id_seq RESTART %d", table, 1+n*1_000_000))
		}
		s.databases[n] = d
	}
	return s
}

// open opens a client on the first server, which finds tenants on all.
func (s *servers) open(t testing.TB, how setup) *gorm.DB {
	t.Helper()
	var pools [len(s.databases)]*sql.DB
	for n, d := range s.databases {
		cfg, err := pgx.ParseConfig(d.App.DSN)
		require.NoError(t, err)
		cfg.DefaultQueryExecMode = how.mode
		pools[n] = stdlib.OpenDB(*cfg)
		if n > 0 {
			t.Cleanup(func() { require.NoError(t, pools[n].Close()) })
		}
	}
	cfg := s.databases[0].Config()
	if cfg.AdminDB != nil { // each server has one
		cfg.AdminDB = nil
		for n, d := range s.databases {
			admin, err := d.AdminDB.DB()
			require.NoError(t, err)
			cfg.Servers = append(cfg.Servers, tenancy.Server{Name: d.Name, DB: pools[n], AdminDB: admin})
		}
	}
	cfg.Place = func(_ context.Context, tenant string) (*sql.DB, error) {
		n, found := s.tenants.Load(tenant)
		if !found {
			return nil, errors.New("no server")
		}
		return pools[n.(int)], nil
	}
	return s.databases[0].Open(t, cfg, testdb.Pool(pools[0]), testdb.Prepared(how.prepare),
		testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = how.skipTx }))
}

// audited are those of a tenant's rows that are in tables of models: the join table has none.
func audited(rows []string) (some []string) {
	return slices.DeleteFunc(rows, func(row string) bool { return strings.HasPrefix(row, "patient_tags") })
}

// takesKey are ways that write a row with a primary key of the other tenant, which is taken where both live on one server.
var takesKey = map[string]bool{"Save onto the other's key": true, "upsert doing nothing": true}

// TestStatementsOverServersKeepTenantsApart sends every way of SQL for a tenant, while it and the other live on each pair of servers.
func TestStatementsOverServersKeepTenantsApart(t *testing.T) {
	keepApartOverServers(t, newServers(t, newDatabase), borrowingSetups(), false)
}

// TestAuditedStatementsOverServersKeepTenantsApart does so with all at once: keys that hold the tenant, policies that demand the proof of a key, and records
// of changes, which are where the rows are.
func TestAuditedStatementsOverServersKeepTenantsApart(t *testing.T) {
	t.Run("signed", func(t *testing.T) {
		s := newServers(t, newAuditedDatabase)
		require.True(t, s.databases[0].Signed())
		keepApartOverServers(t, s, signedSetups()[:1], true)
	})
}

func keepApartOverServers(t *testing.T, s *servers, setups []setup, records bool) {
	for n, how := range setups {
		t.Run(how.String(), func(t *testing.T) {
			db := s.open(t, how)
			for m, way := range append(reads, writes...) {
				t.Run(way.name, func(t *testing.T) {
					mine, theirs := (n+m)%len(s.databases), (n+m+m/2)%len(s.databases)
					if takesKey[way.name] {
						theirs = mine
					}
					two := s.databases[mine].newPair(t)
					if mine != theirs {
						two.theirs = s.databases[theirs].seed(t, two.other)
					}
					s.tenants.Store(two.me, mine)
					s.tenants.Store(two.other, theirs)
					before := s.databases[theirs].state(t, two.other)
					own, recorded := []string{}, [2]int{}
					if records {
						own = audited(s.databases[mine].state(t, two.me))
						recorded = [2]int{s.databases[theirs].records(t, two.other), s.databases[mine].records(t, two.me)}
					}
					ctx := tenancy.WithTenant(context.Background(), two.me)
					err := way.run(db.WithContext(ctx), two)
					if s.databases[mine].Signed() && way.name == severalStatements {
						require.ErrorContains(t, err, "several statements")
					} else {
						require.NoError(t, err)
					}
					require.Equal(t, before, s.databases[theirs].state(t, two.other), "the other tenant's rows")
					if records {
						require.Positive(t, recorded[0])
						require.Equal(t, recorded[0], s.databases[theirs].records(t, two.other), "records of the other tenant's rows")
						changed := !slices.Equal(own, audited(s.databases[mine].state(t, two.me)))
						require.Equal(t, changed, s.databases[mine].records(t, two.me) > recorded[1], "records of the tenant's own rows")
					}
					for n, d := range s.databases {
						if n != mine {
							require.Empty(t, d.state(t, two.me), "rows on a server where the tenant does not live")
							if records {
								require.Zero(t, d.records(t, two.me), "records on a server where the tenant does not live")
							}
						}
					}
				})
			}
		})
	}
}
