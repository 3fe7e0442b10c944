package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

func newServers(t testing.TB) *servers {
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

// takesKey are ways that write a row with a primary key of the other tenant, which is taken where both live on one server.
var takesKey = map[string]bool{"Save onto the other's key": true, "upsert doing nothing": true}

// TestStatementsOverServersKeepTenantsApart sends every way of SQL for a tenant, while it and the other live on each pair of servers.
func TestStatementsOverServersKeepTenantsApart(t *testing.T) {
	s := newServers(t)
	for n, how := range borrowingSetups() {
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
					ctx := tenancy.WithTenant(context.Background(), two.me)
					require.NoError(t, way.run(db.WithContext(ctx), two))
					require.Equal(t, before, s.databases[theirs].state(t, two.other), "the other tenant's rows")
					for n, d := range s.databases {
						if n != mine {
							require.Empty(t, d.state(t, two.me), "rows on a server where the tenant does not live")
						}
					}
				})
			}
		})
	}
}
