package citus

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// coordinators are where an application is tried: the fake, and the cluster if there is one.
func coordinators() map[string]func(t *testing.T) *gorm.DB {
	all := map[string]func(t *testing.T) *gorm.DB{
		"fake": func(t *testing.T) *gorm.DB { return newDistributed(t, models...).client(t) },
	}
	if testdb.HasCluster() {
		all["cluster"] = func(t *testing.T) *gorm.DB {
			_, db := openCluster(t)
			return db
		}
	}
	return all
}

// onCoordinators runs a test on the fake, and on the cluster if there is one. There, the fake only records what is sent.
func onCoordinators(t *testing.T, test func(t *testing.T, f *fake)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) { test(t, newFake(t, models...)) })
	if testdb.HasCluster() {
		t.Run("cluster", func(t *testing.T) {
			c, _ := openCluster(t)
			f := &fake{Database: &testdb.Database{OwnerDB: c.OwnerDB, Database: &pgserver.Database{
				App: pgserver.Login{DSN: c.AppDSN, Role: c.Isolation.AppRole}, Admin: pgserver.Login{Role: c.Isolation.AdminRole},
			}}}
			f.plain.Store(true)
			f.connect(t, c.AppDSN)
			test(t, f)
		})
	}
}

// openCluster distributes the tables again, by the script, and opens GORM as the application.
func openCluster(t *testing.T, opts ...testdb.Option) (testdb.Cluster, *gorm.DB) {
	t.Helper()
	c := testdb.NewCluster(t, everyModel)
	up := script(t, c.Isolation, models...)
	c.AsOwner(t, up, up)
	db, err := testdb.OpenGuarded(t, c.AppDSN, tenancy.Config{Engine: tenancy.Citus, AdminRole: c.Isolation.AdminRole}, opts...)
	require.NoError(t, err)
	return c, db
}

func TestApplicationWorksOnCoordinators(t *testing.T) {
	for name, open := range coordinators() {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			seed(t, db)
			for _, op := range operations {
				require.NoError(t, op.do(db.WithContext(as(acme))), op.name)
			}
			require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Task{}), 2))
			require.NoError(t, found(db.WithContext(as(globex)).Create(&Project{ID: 1, Name: "the same key"}), 1), "keys are the tenant's own")
			require.NoError(t, db.WithContext(as(globex)).Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Exec(`SET LOCAL app.tenant_id = 'acme'`).Error)
				var others int
				require.NoError(t, tx.Raw(`SELECT count(*) FROM projects WHERE tenant_id <> 'globex'`).Scan(&others).Error)
				require.Zero(t, others)
				return nil
			}))
			require.NoError(t, found(tenancy.Bypass(db, "test").Where("tenant_id IN ?", []string{acme, globex}).Find(&[]Project{}), 3))
			saveAsAdmin(t, tenancy.Bypass(db, "test"))
			for range 5 {
				for kind := range 5 {
					require.NoError(t, turn(db, acme, globex, kind))
				}
			}
		})
	}
}

// What the coordinator sends to workers for a statement: one statement on one shard, in a transaction that has the tenant. On the fake the
// condition in the statement is seen instead: see checkAll.
func TestStatementUsesOneShard(t *testing.T) {
	if !testdb.HasCluster() {
		return
	}
	var sent []string
	_, db := openCluster(t, testdb.FromPool(func(cfg *pgx.ConnConfig) {
		cfg.RuntimeParams["citus.log_remote_commands"] = "on"
		cfg.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
			if sql, found := strings.CutPrefix(notice.Message, "issuing "); found {
				sent = append(sent, sql)
			}
		}
	}))
	seed(t, db)
	for range 2 {
		for _, op := range operations {
			sent = nil
			require.NoError(t, op.do(db.WithContext(as(acme))), op.name)
			require.Len(t, sent, 3, op.name)
			require.Contains(t, sent[0], `SET LOCAL "app"."tenant_id" = 'acme'`)
			require.Regexp(t, `\.(projects|tasks)_[0-9]+`, sent[1], op.name)
			require.Equal(t, "COMMIT", sent[2], op.name)
		}
	}
}
