package citus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// config is that of an application on Citus.
func (f *fake) config() tenancy.Config {
	return tenancy.Config{Engine: tenancy.Citus, AdminRole: f.Admin.Role}
}

func (f *fake) client(t testing.TB, opts ...testdb.Option) *gorm.DB {
	t.Helper()
	db, err := f.open(t, f.App.DSN, f.config(), 1, opts...)
	require.NoError(t, err)
	return db
}

// seed gives each tenant a project with tasks.
func seed(t testing.TB, db *gorm.DB) {
	t.Helper()
	for _, tenant := range []string{acme, globex} {
		p := Project{Name: tenant + "'s", Tasks: []Task{{Title: "one"}, {Title: "two"}}}
		require.NoError(t, db.WithContext(as(tenant)).Create(&p).Error)
	}
}

// words says in short what was sent.
func words(all []message) []string {
	short := make([]string, 0, len(all))
	for _, m := range all {
		sql := strings.ToLower(m.sql)
		word := strings.Fields(sql + " -")[0]
		switch {
		case m.kind == 'S':
			word = "sync"
		case strings.HasPrefix(sql, "select") && setConfig.MatchString(sql):
			word = "check"
		case strings.HasPrefix(sql, "select") && strings.Contains(sql, "set_config('tenancy.transaction'"):
			word = "mark"
		case strings.HasPrefix(sql, "select") && strings.Contains(sql, "set_config('tenancy.audit'"):
			word = "said" // the reason of a bypass
		case strings.Contains(sql, "propagate_set_commands"):
			word = "propagate"
		case strings.HasPrefix(sql, "set local role"):
			word = "role"
		case setLocal.MatchString(m.sql):
			word = "tenant " + setLocal.FindStringSubmatch(m.sql)[1]
		}
		short = append(short, word)
	}
	return short
}

// one is what is sent for one statement of a tenant outside a transaction of the application.
func one(tenant, word string) []string {
	return []string{"begin", "check", "propagate", "tenant " + tenant, word, "sync", "commit"}
}

// within is what is sent for one in a transaction.
func within(tenant, word string) []string {
	return []string{"check", "propagate", "tenant " + tenant, word, "sync"}
}

// checkAll fails for what must never be sent, and for a statement on a tenant table that would reach workers with another tenant or more
// than one shard.
func checkAll(t testing.TB, all []message, tenant string) {
	t.Helper()
	for _, m := range all {
		require.NotContains(t, m.sql, ";", "several statements in one message")
		tables := 0
		for _, table := range []string{` "projects"`, ` "tasks"`} {
			if strings.Contains(m.sql, table) {
				require.Equal(t, tenant, m.tenant, m.sql)
				tables++
			}
		}
		if !strings.HasPrefix(m.sql, "INSERT") {
			require.GreaterOrEqual(t, strings.Count(m.sql, `."tenant_id" = $`), tables, "it would go to all shards: "+m.sql)
		}
	}
}

// operation is something that an application does, in one statement.
type operation struct {
	name, word string
	do         func(db *gorm.DB) error
	sql        []string // what the statement must have, where a minus is before it must not have
}

var operations = []operation{
	{"First", "select", func(db *gorm.DB) error { return db.First(&Project{}).Error }, nil},
	{"Find", "select", func(db *gorm.DB) error { return found(db.Limit(2).Find(&[]Task{}), 2) }, nil},
	{"Count", "select", func(db *gorm.DB) error { var n int64; return db.Model(&Task{}).Count(&n).Error }, nil},
	{"Joins", "select", func(db *gorm.DB) error { return found(db.Joins("Project").Limit(2).Find(&[]Task{}), 2) },
		[]string{`LEFT JOIN "projects"`, `"Project"."tenant_id" = $`}},
	{"Create", "insert", func(db *gorm.DB) error { return db.Create(&Task{Title: "new", ProjectID: projectOf(db)}).Error }, []string{`"tenant_id"`}},
	{"create many", "insert", func(db *gorm.DB) error {
		return db.Create(&[]Task{{Title: "a", ProjectID: projectOf(db)}, {Title: "b", ProjectID: projectOf(db)}}).Error
	}, nil},
	{"upsert", "insert", func(db *gorm.DB) error {
		return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, UpdateAll: true}).Create(&Project{Name: acme + "'s"}).Error
	}, []string{`ON CONFLICT ("tenant_id","name")`, `-SET "tenant_id"`, `-"tenant_id"="excluded"`}},
	{"Save", "update", func(db *gorm.DB) error {
		return found(db.Save(&Project{ID: projectOf(db), TenantID: acme, Name: "saved"}), 1)
	},
		[]string{`SET "name"=`, `-"tenant_id"=`}},
	{"Update", "update", func(db *gorm.DB) error {
		return db.Model(&Task{}).Where("title = ?", "one").Update("title", "three").Error
	}, nil},
	{"Updates of the tenant alone", "update", func(db *gorm.DB) error {
		return found(db.Model(&Task{}).Where("title = ?", "two").Update("tenant_id", acme), 1)
	}, []string{`SET "tenant_id"="tenant_id"`}},
	{"Delete", "delete", func(db *gorm.DB) error { return db.Where("title = ?", "three").Delete(&Task{}).Error }, nil},
}

func found(db *gorm.DB, rows int64) error {
	if db.Error == nil && db.RowsAffected != rows {
		return errors.New("another number of rows")
	}
	return db.Error
}

// projectOf returns the id of acme's project without a statement of the client.
func projectOf(*gorm.DB) int64 { return 1 }

func TestStatementIsOneFlight(t *testing.T) {
	onCoordinators(t, func(t *testing.T, f *fake) { isOneFlight(t, f, false) })
}

func TestPreparedStatementIsOneFlight(t *testing.T) {
	onCoordinators(t, func(t *testing.T, f *fake) { isOneFlight(t, f, true) })
}

func isOneFlight(t *testing.T, f *fake, prepare bool) {
	t.Helper()
	db := f.client(t, testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction, c.PrepareStmt = true, prepare }))
	seed(t, db)
	for _, op := range operations { // each statement is prepared once
		_ = db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error { return errors.Join(op.do(tx), errors.New("roll back")) })
	}
	for _, op := range operations {
		before := f.roundTrips()
		all := f.recorded(func() { require.NoError(t, op.do(db.WithContext(as(acme))), op.name) })
		short := slices.DeleteFunc(words(all), func(word string) bool { return word == "discard" }) // what lastval would tell
		require.Equal(t, one(acme, op.word), short, op.name)
		require.EqualValues(t, 1, f.roundTrips()-before, op.name)
		checkAll(t, all, acme)
		sql := all[len(all)-3].sql
		for _, part := range op.sql {
			if part, no := strings.CutPrefix(part, "-"); no {
				require.NotContains(t, sql, part, op.name)
			} else {
				require.Contains(t, sql, part, op.name)
			}
		}
	}
}

// What GORM wraps in a transaction by default takes as many round trips as on one server.
func TestRoundTripsAreThoseOfOneServer(t *testing.T) {
	var counts [2][]int64
	for n, engine := range []tenancy.Engine{tenancy.PostgreSQL, tenancy.Citus} {
		f := newFake(t, models...)
		cfg := f.config()
		cfg.Engine, cfg.DangerouslyAllowUnsafeRole = engine, true
		seed(t, f.client(t))
		f.plain.Store(engine == tenancy.PostgreSQL)
		db, err := f.open(t, f.App.DSN, cfg, 1)
		require.NoError(t, err)
		for range 2 {
			counts[n] = nil
			for _, op := range operations {
				before := f.roundTrips()
				err := op.do(db.WithContext(as(acme)))
				require.NoError(t, err, op.name)
				counts[n] = append(counts[n], f.roundTrips()-before)
			}
		}
	}
	require.Equal(t, counts[0], counts[1])
}

func TestRawStatementIsOneFlight(t *testing.T) { onCoordinators(t, testRawStatementIsOneFlight) }

func testRawStatementIsOneFlight(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	for range 2 {
		before := f.roundTrips()
		all := f.recorded(func() {
			require.NoError(t, db.WithContext(as(acme)).Exec(`UPDATE tasks SET title = 'x' WHERE tenant_id = 'acme'`).Error)
		})
		require.EqualValues(t, 1, f.roundTrips()-before)
		require.Equal(t, one(acme, "update"), words(all)[:7])
		for _, m := range all {
			require.NotContains(t, m.sql, ";", "the cleaning, too, is sent statement by statement")
		}
		var n int
		require.NoError(t, db.WithContext(as(acme)).Raw(`SELECT count(*) FROM tasks`).Scan(&n).Error)
		require.Equal(t, 2, n)
	}
	err := db.WithContext(as(acme)).Exec(`SELECT 1; SELECT 2`).Error
	require.ErrorContains(t, err, "several statements is refused")
	require.ErrorContains(t, err, "Citus")
}

func TestTransactionSetsTenantEachTime(t *testing.T) {
	onCoordinators(t, testTransactionSetsTenantEachTime)
}

func testTransactionSetsTenantEachTime(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	transaction := func() error {
		return db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.First(&Project{}).Error, tx.Find(&[]Task{}).Error,
				tx.Model(&Task{}).Where("title = ?", "one").Update("title", "one").Error)
		})
	}
	require.NoError(t, transaction())
	before := f.roundTrips()
	all := f.recorded(func() { require.NoError(t, transaction()) })
	require.EqualValues(t, 4, f.roundTrips()-before)
	want := append([]string{"begin"}, within(acme, "select")...)
	want = append(append(want, within(acme, "select")...), within(acme, "update")...)
	require.Equal(t, append(want, "commit"), words(all)[:len(want)+1])
	checkAll(t, all, acme)
}

func TestErrorEndsBlockWithoutRoundTrip(t *testing.T) {
	onCoordinators(t, testErrorEndsBlockWithoutRoundTrip)
}

func testErrorEndsBlockWithoutRoundTrip(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	fail := func() error { return db.WithContext(as(acme)).Create(&Project{ID: 1, Name: "again"}).Error }
	require.Error(t, fail())
	require.NoError(t, db.WithContext(as(globex)).First(&Project{}).Error)
	before := f.roundTrips()
	all := f.recorded(func() {
		require.Error(t, fail())
		require.NoError(t, db.WithContext(as(globex)).First(&Project{}).Error)
	})
	require.EqualValues(t, 2, f.roundTrips()-before)
	require.Equal(t, append(one(acme, "insert"), one(globex, "select")...), words(all))
}

// A deferred constraint fails at COMMIT, whose error is the statement's.
func TestErrorOfCommitIsTheStatements(t *testing.T) {
	f := newFake(t, models...)
	f.AsOwner(t, `ALTER TABLE tasks ADD CONSTRAINT title_once UNIQUE (tenant_id, title) DEFERRABLE INITIALLY DEFERRED`)
	db := f.client(t)
	seed(t, db)
	for _, create := range []func() error{
		func() error { return db.WithContext(as(acme)).Create(&Task{Title: "one", ProjectID: 1}).Error },
		func() error {
			return db.WithContext(as(acme)).Exec(`INSERT INTO tasks (title, project_id) VALUES ('one', 1)`).Error
		},
		func() error {
			var id int64
			return db.WithContext(as(acme)).Raw(`INSERT INTO tasks (title, project_id) VALUES ('one', 1) RETURNING id`).Scan(&id).Error
		},
	} {
		require.ErrorContains(t, create(), "title_once")
		require.NoError(t, found(db.WithContext(as(acme)).Find(&[]Task{}), 2))
	}
}

// On Citus set_config sets nothing on workers, but a SET LOCAL in SQL of the caller does. Without the engine a tenant saw the rows of another.
func TestSetLocalOfAnotherTenantIsOverwritten(t *testing.T) {
	f := newFake(t, models...)
	seed(t, f.client(t))
	leak := func(db *gorm.DB) (names []string) {
		_ = db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Exec(`SET LOCAL citus.propagate_set_commands = 'local'`).Error,
				tx.Exec(`SET LOCAL app.tenant_id = 'globex'`).Error, tx.Raw(`SELECT name FROM projects`).Scan(&names).Error)
		})
		return names
	}
	without, err := f.open(t, f.App.DSN, tenancy.Config{DangerouslyAllowUnsafeRole: true}, 1)
	require.NoError(t, err)
	require.Equal(t, []string{globex + "'s"}, leak(without), "the fake must show the leak, or it proves nothing")
	var none []Project
	require.NoError(t, without.WithContext(as(acme)).Find(&none).Error)
	require.Empty(t, none, "and that set_config does not reach workers")

	db := f.client(t)
	all := f.recorded(func() { require.Equal(t, []string{acme + "'s"}, leak(db)) })
	for _, m := range all {
		if strings.Contains(m.sql, "FROM projects") {
			require.Equal(t, acme, m.tenant)
		}
	}
}

func TestRoleOfSQLIsRefusedAfterwards(t *testing.T) {
	onCoordinators(t, testRoleOfSQLIsRefusedAfterwards)
}

func testRoleOfSQLIsRefusedAfterwards(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	for _, set := range []string{`SET LOCAL ROLE ` + f.Admin.Role, `SELECT set_config('role', '` + f.Admin.Role + `', true)`} {
		err := db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Exec(set).Error)
			return tx.Raw(`SELECT name FROM projects`).Scan(&[]string{}).Error
		})
		require.ErrorContains(t, err, "another role")
	}
	// What a statement in a function has set, and unset, on workers is set again.
	for range 2 {
		var all []message
		require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec(`SET LOCAL ROLE NONE`).Error; err != nil {
				return err
			}
			var err error
			all = f.recorded(func() { err = tx.Raw(`SELECT name FROM projects`).Scan(&[]string{}).Error })
			return err
		}))
		require.Subset(t, words(all), []string{"check", "propagate", "tenant acme", "role", "select", "sync"})
	}
}

func TestSessionIsCheckedAndCleaned(t *testing.T) {
	f := newFake(t, models...)
	db := f.client(t)
	seed(t, db)
	// A temporary table that hides a tenant's is gone before the next statement.
	require.NoError(t, db.WithContext(as(acme)).Exec(`CREATE TEMPORARY TABLE projects (id bigint, tenant_id text, name text)`).Error)
	require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Project{}), 1))
	// So is a search_path that the guard has not noticed, of a client without it on the same connection.
	inner, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	_, err = inner.ExecContext(t.Context(), `SET search_path = pg_catalog`)
	require.NoError(t, err)
	require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Project{}), 1))
}

func TestBypassTakesItsRole(t *testing.T) { onCoordinators(t, testBypassTakesItsRole) }

func testBypassTakesItsRole(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	for _, opts := range [][]tenancy.BypassOption{nil, {tenancy.BypassReadOnly()}} {
		admin := tenancy.Bypass(db, "test", opts...)
		var all []message
		for range 2 {
			all = f.recorded(func() { require.NoError(t, found(admin.Find(&[]Project{}), 2)) })
		}
		require.Equal(t, []string{"begin", "check", "propagate", "tenant ", "role", "select", "sync", "commit"},
			slices.DeleteFunc(words(all), func(word string) bool { return word == "said" }))
	}
	require.Error(t, tenancy.Bypass(db, "test", tenancy.BypassReadOnly()).Exec(`DELETE FROM tasks`).Error)
}

func TestEngineMustFitDatabase(t *testing.T) {
	f := newFake(t, models...)
	_, err := f.open(t, f.App.DSN, tenancy.Config{}, 1)
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
	require.ErrorContains(t, err, "set Engine to tenancy.Citus")

	plain := testdb.New(t, models...)
	_, err = testdb.OpenGuarded(t, plain.App.DSN, tenancy.Config{Engine: tenancy.Citus})
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
	require.ErrorContains(t, err, "leave Engine unset")
}

func TestSimpleProtocolIsRefused(t *testing.T) {
	f := newFake(t, models...)
	_, err := f.open(t, f.App.DSN, f.config(), 1, testdb.Mode(pgx.QueryExecModeSimpleProtocol))
	require.ErrorContains(t, err, "simple_protocol")
	require.ErrorContains(t, err, "Citus")
}

func TestOtherModesWork(t *testing.T) { onCoordinators(t, testOtherModesWork) }

func testOtherModesWork(t *testing.T, f *fake) {
	seed(t, f.client(t))
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
	} {
		db := f.client(t, testdb.Mode(mode))
		all := f.recorded(func() {
			require.NoError(t, found(db.WithContext(as(acme)).Where("name <> ?", "").Find(&[]Project{}), 1))
			require.NoError(t, found(db.WithContext(as(acme)).Raw(`SELECT * FROM projects WHERE name <> ?`, "").Scan(&[]Project{}), 1))
			require.NoError(t, db.WithContext(tenancy.WithoutTenant(context.Background())).Find(&[]Country{}).Error)
		})
		for _, m := range all {
			require.NotContains(t, m.sql, ";")
		}
	}
}

// The admin client's rows may be of any tenant. What it saves is bound to the tenant of the struct, and does not set the column.
func TestAdminSaveLeavesTenantOut(t *testing.T) {
	f := newDistributed(t, models...)
	db := f.client(t)
	seed(t, db)
	saveAsAdmin(t, tenancy.Bypass(db, "test"))
	update := func(do func(db *gorm.DB) *gorm.DB) (sql string) {
		for _, m := range f.recorded(func() { require.NoError(t, do(tenancy.Bypass(db, "test")).Error) }) {
			if strings.HasPrefix(m.sql, "UPDATE") {
				sql = m.sql
			}
		}
		return sql
	}
	tenants := func(p Project, value any) string {
		return update(func(db *gorm.DB) *gorm.DB { return db.Model(&p).Updates(value) })
	}
	require.NotContains(t, update(func(db *gorm.DB) *gorm.DB { return db.Save(&Project{ID: 1, TenantID: acme, Name: "x"}) }), `"tenant_id"=`)
	require.NotContains(t, tenants(Project{ID: 1, TenantID: acme}, map[string]any{"tenant_id": acme, "name": "x"}), `"tenant_id"=`)
	require.Contains(t, tenants(Project{ID: 1, TenantID: acme}, map[string]any{"tenant_id": acme}), `SET "tenant_id"="tenant_id"`)
	// Citus refuses what would move rows, or might.
	require.Contains(t, tenants(Project{ID: 100, TenantID: acme}, map[string]any{"tenant_id": globex}), `SET "tenant_id"=$1`)
	require.Contains(t, update(func(db *gorm.DB) *gorm.DB {
		return db.Model(&Project{}).Where("name = ?", "none").Update("tenant_id", globex)
	}), `SET "tenant_id"=$1`)
}

// saveAsAdmin saves rows of both tenants, which have the same keys.
func saveAsAdmin(t *testing.T, admin *gorm.DB) {
	t.Helper()
	const id = 7000
	names := func() (names []string) {
		require.NoError(t, admin.Model(&Project{}).Where("id = ?", id).Order("tenant_id").Pluck("tenant_id || ' ' || name", &names).Error)
		return names
	}
	for _, tenant := range []string{acme, globex} {
		require.NoError(t, admin.Create(&Project{ID: id, TenantID: tenant, Name: "old"}).Error)
	}
	require.NoError(t, found(admin.Save(&Project{ID: id, TenantID: acme, Name: "new"}), 1))
	require.Equal(t, []string{"acme new", "globex old"}, names())
	require.ErrorIs(t, admin.Save(&Project{ID: id, Name: "whose"}).Error, tenancy.ErrNoTenant)
	require.NoError(t, found(admin.Save(&Project{ID: id, TenantID: "third", Name: "its own"}), 1))
	require.Equal(t, []string{"acme new", "globex old", "third its own"}, names(), "a row of the tenant that is named, and of no other")
	require.NoError(t, found(admin.Model(&[]Project{{ID: id, TenantID: acme}, {ID: id, TenantID: globex}}).Update("name", "both"), 2))
	require.NoError(t, found(admin.Delete(&[]Project{{ID: id, TenantID: acme}, {ID: id, TenantID: globex}, {ID: id, TenantID: "third"}}), 3))
	require.Empty(t, names())
}
