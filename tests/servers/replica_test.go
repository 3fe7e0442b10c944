package servers

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/compat/replica"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestReplicasOfEachServer: statements that dbresolver sends to a replica go to one of the tenant's server, and all others to the server itself.
func TestReplicasOfEachServer(t *testing.T) {
	f := newFixture(t, nil)
	standby := replica.Of(t, f.databases[0].Database) // of the whole server, and so of the three databases
	if !standby.Standby {
		t.Log("a copy is not in recovery: the standby of binaries on this machine is")
		return
	}
	replicas := func(f *fixture, cfg *tenancy.Config) {
		for n, name := range []string{"first", "second", "third"} {
			cfg.Servers = append(cfg.Servers, tenancy.Server{Name: name, DB: f.pools[n]})
			if n < 2 { // the third has none
				cfg.Servers[n].Replicas = []*sql.DB{testdb.OpenSQL(t, standby.DSN(t, f.databases[n].App.DSN))}
			}
		}
	}
	// resolved is a client with dbresolver, which knows a replica of the first server.
	resolved := func(t *testing.T, change func(cfg *tenancy.Config)) (g *fixture) {
		var of *sql.DB
		g = f.again(t, func(f *fixture, cfg *tenancy.Config) {
			replicas(f, cfg)
			of = cfg.Servers[0].Replicas[0]
			change(cfg)
		})
		resolver := dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{postgres.New(postgres.Config{Conn: of})}})
		require.NoError(t, g.db.Use(resolver))
		t.Cleanup(func() {
			require.NoError(t, resolver.Call(func(pool gorm.ConnPool) error { return pool.(*sql.DB).Close() }))
		})
		return g
	}
	g := resolved(t, func(*tenancy.Config) {})
	for _, tenant := range []string{acme, globex, "initech"} {
		require.NoError(t, g.db.WithContext(as(tenant)).Create(&Note{Text: tenant}).Error)
	}
	standby.CatchUp(t)

	// here returns the database that a statement reaches, and whether that is a replica.
	type at struct {
		Database string
		Replica  bool
	}
	const here = `current_database() AS database, pg_is_in_recovery() AS replica`
	built := func(db *gorm.DB) (found at) {
		require.NoError(t, db.Model(&Note{}).Select(here).Limit(1).Scan(&found).Error)
		return found
	}
	raw := func(db *gorm.DB) (found at) {
		require.NoError(t, db.Raw(`SELECT `+here+` FROM notes`).Scan(&found).Error)
		return found
	}
	for n, tenant := range []string{"initech", acme, globex} {
		db, on := g.db.WithContext(as(tenant)), f.databases[n].Name
		for _, ask := range []func(*gorm.DB) at{built, raw} {
			reads := at{on, n < 2}
			require.Equal(t, reads, ask(db), tenant)
			require.Equal(t, reads, ask(db.Session(&gorm.Session{PrepareStmt: true})), tenant)
			require.Equal(t, at{on, false}, ask(db.Clauses(dbresolver.Write)), tenant)
			require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
				require.Equal(t, at{on, false}, ask(tx), "in a transaction")
				return nil
			}))
			require.NoError(t, db.Clauses(dbresolver.Read).Transaction(func(tx *gorm.DB) error {
				require.Equal(t, reads, ask(tx), "in a transaction that is to read")
				return nil
			}))
			admin := tenancy.Bypass(g.db, "look")
			require.Equal(t, at{on, false}, ask(admin.WithContext(as(tenant))), "the client of Bypass")
		}
		require.Equal(t, at{on, false}, built(db.Clauses(clause.Locking{Strength: "SHARE"})), "rows are locked")
		var texts []string
		require.NoError(t, db.Model(&Note{}).Pluck("text", &texts).Error)
		require.Equal(t, []string{tenant}, texts)
		if n < 2 {
			require.ErrorContains(t, db.Clauses(dbresolver.Read).Exec(`INSERT INTO notes (text) VALUES ('at a replica')`).Error, "25006",
				"PostgreSQL refuses what writes there")
		}
	}

	g.places.Store(acme, 0) // a move takes the reads along
	require.Equal(t, at{f.databases[0].Name, true}, func() (found at) {
		require.NoError(t, g.db.WithContext(as(acme)).Raw(`SELECT `+here+` FROM (SELECT count(*) FROM notes) n`).Scan(&found).Error)
		return found
	}())
	g.places.Store(acme, context.DeadlineExceeded)
	require.ErrorIs(t, g.db.WithContext(as(acme)).Find(&[]Note{}).Error, context.DeadlineExceeded, "a tenant that is locked out reads nothing")

	for says, change := range map[string]func(cfg *tenancy.Config){
		"is not one of that server's database": func(cfg *tenancy.Config) {
			cfg.Servers[1].Replicas = []*sql.DB{testdb.OpenSQL(t, standby.DSN(t, f.databases[2].App.DSN))}
		},
		"is not in recovery": func(cfg *tenancy.Config) {
			cfg.Servers[1].Replicas = []*sql.DB{testdb.OpenSQL(t, f.databases[1].App.DSN)}
		},
		"on another server: tenancy: unsafe role": func(cfg *tenancy.Config) {
			cfg.Servers[1].Replicas = []*sql.DB{testdb.OpenSQL(t, standby.DSN(t, f.databases[1].SuperuserDSN(t)))}
		},
	} {
		wrong := resolved(t, change)
		err := wrong.db.WithContext(as(acme)).Find(&[]Note{}).Error
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), acme)
		require.NoError(t, wrong.db.WithContext(as(acme)).Clauses(dbresolver.Write).Find(&[]Note{}).Error)
		require.NoError(t, wrong.db.WithContext(as(globex)).Find(&[]Note{}).Error)
	}

	// A table whose isolation the replica has lost is refused there.
	f.databases[1].AsOwner(t, `ALTER TABLE remarks DISABLE ROW LEVEL SECURITY`)
	standby.CatchUp(t)
	g.places.Store(acme, 1)
	require.ErrorIs(t, g.db.WithContext(as(acme)).Find(&[]Remark{}).Error, tenancy.ErrNotIsolated)

	// What dbresolver chooses and the list does not have is refused.
	unlisted := postgres.New(postgres.Config{Conn: testdb.OpenSQL(t, standby.DSN(t, f.databases[0].App.DSN))})
	require.ErrorContains(t, f.again(t, replicas).db.Use(dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{unlisted}})), "Config.Servers does not have")
}
