package rls_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// concurrent is the usual isolation with indexes made concurrently.
func (d database) concurrent() rls.Isolation {
	i := d.Isolation()
	i.ConcurrentIndexes = true
	return i
}

// measurement is partitioned by its year, and so has a primary key that does without the tenant.
type measurement struct {
	ID       int64  `gorm:"primaryKey;autoIncrement:false"`
	Year     int    `gorm:"primaryKey;autoIncrement:false"`
	TenantID string `gorm:"size:20"`
	City     string `gorm:"index"`
}

// olden are tables of the time before Migrate, and what gives their rows a tenant.
var olden = map[string]struct {
	models   []any
	make     func(t *testing.T, d database)
	backfill func(ctx context.Context, tx *gorm.DB, table string) error
}{
	"of GORM": {models: []any{&member{}}, make: func(t *testing.T, d database) {
		require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
	}},
	"without indexes": {models: []any{&member{}}, make: func(t *testing.T, d database) {
		d.AsOwner(t, "CREATE TABLE members (id bigserial PRIMARY KEY, tenant_id text, email text, login text)")
	}},
	"made by hand": {models: []any{&member{}}, make: func(t *testing.T, d database) {
		require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
		d.AsOwner(t, "DROP INDEX members_name", "ALTER TABLE members ADD CONSTRAINT members_name UNIQUE (last, first)",
			"ALTER TABLE members DROP CONSTRAINT uni_members_email", "CREATE UNIQUE INDEX uni_members_email ON members (email)")
	}},
	"with relations": {models: shop, make: func(t *testing.T, d database) {
		require.NoError(t, d.OwnerDB.AutoMigrate(shop...))
	}},
	"in part": {models: shop, make: func(t *testing.T, d database) {
		require.NoError(t, d.OwnerDB.AutoMigrate(shop[0]))
	}},
	"without tenant": {models: []any{&shelf{}, &book{}}, make: func(t *testing.T, d database) {
		d.AsOwner(t, oldLibrary...)
	}, backfill: func(_ context.Context, tx *gorm.DB, table string) error { return tx.Exec(derive[table]).Error }},
	"of other schemas and names": {models: []any{&invoice{}, quotedRow{}, capitalRow{}, unicodeRow{}, longRow{}, strangeRow{}},
		make: func(t *testing.T, d database) {
			d.AsOwner(t, "CREATE SCHEMA billing")
			require.NoError(t, d.OwnerDB.AutoMigrate(&invoice{}, capitalRow{}, unicodeRow{}))
		}},
	"partitioned": {models: []any{&event{}, &note{}}, make: func(t *testing.T, d database) { d.AsOwner(t, partitioned...) }},
	"partitioned, without indexes": {models: []any{&measurement{}}, make: func(t *testing.T, d database) {
		d.AsOwner(t, `CREATE TABLE measurements (id bigint, year bigint, tenant_id varchar(20), city text, PRIMARY KEY (id, year))
			PARTITION BY RANGE (year)`, "CREATE TABLE measurements_2024 PARTITION OF measurements FOR VALUES FROM (2024) TO (2025)")
	}},
	"of another type": {models: []any{&note{}}, make: func(t *testing.T, d database) {
		d.AsOwner(t, "CREATE TABLE notes (id bigserial PRIMARY KEY, tenant_id jsonb, body text)")
	}},
	"of many kinds": {models: models, make: func(t *testing.T, d database) {
		require.NoError(t, d.OwnerDB.AutoMigrate(models...))
	}},
	"none": {models: []any{&member{}, &shelf{}}, make: func(*testing.T, database) {}},
}

func TestConcurrentIndexesMakeWhatMigrateMakes(t *testing.T) {
	for name, test := range olden {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ordinary, concurrent := newDatabase(t), newDatabase(t)
			test.make(t, ordinary)
			test.make(t, concurrent)
			pool, err := concurrent.OwnerDB.DB()
			require.NoError(t, err)
			pool.SetMaxOpenConns(1)
			i, c := ordinary.Isolation(), concurrent.concurrent()
			i.Backfill, c.Backfill = test.backfill, test.backfill
			ordinary.migrateWith(t, i, test.models...)
			concurrent.migrateWith(t, c, test.models...)
			require.Equal(t, ordinary.dump(t), concurrent.dump(t))

			before := concurrent.snapshot(t)
			require.Empty(t, concurrent.migrateWith(t, c, test.models...), "a second run")
			require.Equal(t, before, concurrent.snapshot(t))
			require.Empty(t, concurrent.locks(t))
		})
	}
}

// locks are the advisory locks that are left.
func (d database) locks(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, "SELECT locktype FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
}

func TestConcurrentIndexesLetOthersWrite(t *testing.T) {
	for name, guarded := range map[string]bool{"plain": false, "guarded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
			pool, err := d.OwnerDB.DB()
			require.NoError(t, err)
			db := testdb.OpenPlain(t, d.Owner.DSN)
			inner, err := db.DB()
			require.NoError(t, err)
			inner.SetMaxOpenConns(1)
			if guarded {
				require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
			}

			// For as long as this transaction writes, no index can be made ready.
			long, err := pool.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = long.Rollback() })
			_, err = long.Exec("INSERT INTO members (tenant_id, email) VALUES ('acme', 'ann')")
			require.NoError(t, err)

			migrated := make(chan error, 1)
			go func() {
				_, err := d.concurrent().Migrate(context.Background(), db, &member{})
				migrated <- err
			}()
			d.await(t, "SELECT FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'")
			for range 3 {
				write, err := pool.BeginTx(t.Context(), nil)
				require.NoError(t, err)
				_, err = write.Exec("SET LOCAL lock_timeout = '1s'")
				require.NoError(t, err)
				_, err = write.Exec("INSERT INTO members (tenant_id, email) VALUES ('globex', gen_random_uuid())")
				require.NoError(t, err)
				require.NoError(t, write.Commit())
			}
			select {
			case err := <-migrated:
				require.Fail(t, "it has not waited", "%v", err)
			default:
			}
			require.NoError(t, long.Commit())
			require.NoError(t, <-migrated)
			require.Equal(t, memberKeys, d.indexes(t, "members"))
		})
	}
}

func TestConcurrentIndexesOnEveryPool(t *testing.T) {
	for name, config := range map[string]*gorm.Config{
		"prepared":          {PrepareStmt: true},
		"translated errors": {TranslateError: true, SkipDefaultTransaction: true},
	} {
		for mode, parameter := range map[string]string{"cached": "", "exec": "&default_query_exec_mode=exec", "simple": "&default_query_exec_mode=simple_protocol"} {
			for _, guarded := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, guarded %v", name, mode, guarded), func(t *testing.T) {
					t.Parallel()
					d := newDatabase(t)
					d.AsOwner(t, "CREATE TABLE notes (id bigserial PRIMARY KEY, tenant_id text, body text)")
					db := testdb.OpenPlain(t, d.Owner.DSN+parameter, testdb.Configured(*config))
					if guarded {
						require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
					}
					result, err := d.concurrent().Migrate(t.Context(), db, &note{})
					changes := result.Changes
					require.NoError(t, err)
					require.Contains(t, what(changes), "public.notes: make unique tenant_id, id, concurrently")
					result, err = d.concurrent().Migrate(t.Context(), db, &note{})
					changes = result.Changes
					require.NoError(t, err)
					require.Empty(t, changes)
				})
			}
		}
	}
}

// await waits until a query finds something.
func (d database) await(t *testing.T, query string) {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var found bool
		err := pool.QueryRow("SELECT EXISTS (" + query + ")").Scan(&found)
		return err == nil && found
	}, 10*time.Second, 5*time.Millisecond)
}

// The same without it: the writer waits.
func TestMigrateKeepsOthersFromWriting(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	migration := d.OwnerDB.Begin()
	t.Cleanup(func() { migration.Rollback() })
	_, err = d.Isolation().Migrate(t.Context(), migration, &member{})
	require.NoError(t, err)
	write, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = write.Rollback() })
	_, err = write.Exec("SET LOCAL lock_timeout = '10ms'")
	require.NoError(t, err)
	_, err = write.Exec("INSERT INTO members (tenant_id) VALUES ('globex')")
	requireCode(t, err, "55P03")
}

// Replicas start at once, some with and some without: PostgreSQL must not find them waiting for each other.
func TestConcurrentIndexesOfTenAtOnce(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	all := []any{&member{}, &counter{}}
	require.NoError(t, d.OwnerDB.AutoMigrate(all...))
	var (
		wait    sync.WaitGroup
		results = make([]error, 10)
	)
	for n := range results {
		db := testdb.OpenPlain(t, d.Owner.DSN)
		if n%2 == 1 {
			require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
		}
		i := d.concurrent()
		i.ConcurrentIndexes = n%5 != 4
		wait.Go(func() { _, results[n] = i.Migrate(context.Background(), db, all...) })
	}
	wait.Wait()
	for _, err := range results {
		require.NoError(t, err)
	}
	require.Equal(t, memberKeys, d.indexes(t, "members"))
	require.Empty(t, d.migrate(t, all...))
	require.Empty(t, d.locks(t))
}

// While one makes indexes, others wait without a snapshot, which it would have to wait for.
func TestConcurrentIndexesDoNotWaitForOtherMigrations(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	holder, err := pool.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.Close() })
	_, err = holder.ExecContext(t.Context(), "SELECT pg_advisory_lock(x'74656e616e6379'::bigint)")
	require.NoError(t, err)

	var wait sync.WaitGroup
	results := make([]error, 4)
	for n := range results {
		db := testdb.OpenPlain(t, d.Owner.DSN)
		i := d.Isolation()
		i.ConcurrentIndexes = n%2 == 0
		wait.Go(func() { _, results[n] = i.Migrate(context.Background(), db, &member{}) })
	}
	d.await(t, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ~* 'pg_try_advisory|^begin|^commit' AND pid <> pg_backend_pid() OFFSET 3")
	_, err = holder.ExecContext(t.Context(), "SET lock_timeout = '5s'")
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), "CREATE INDEX CONCURRENTLY ON members (city)")
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()")
	require.NoError(t, err)
	wait.Wait()
	for _, err := range results {
		require.NoError(t, err)
	}
}

// A failed attempt leaves an index that nothing can use, and that still costs each write.
func TestConcurrentIndexesMakeUnfinishedOnesAgain(t *testing.T) {
	spoil := func(t *testing.T, d database, statements ...string) {
		require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
		d.AsOwner(t, "DROP INDEX idx_members_city", "INSERT INTO members (tenant_id, city) VALUES ('acme', 'x'), ('acme', 'x')")
		pool, err := d.OwnerDB.DB()
		require.NoError(t, err)
		for _, statement := range statements {
			_, err := pool.ExecContext(t.Context(), statement)
			requireCode(t, err, "23505")
		}
		d.AsOwner(t, "DELETE FROM members")
	}
	const (
		key      = "CREATE UNIQUE INDEX CONCURRENTLY uni_members_tenant_id_id ON members (tenant_id)"
		prepared = "CREATE UNIQUE INDEX CONCURRENTLY tenancy_idx_members_login ON members (tenant_id, (login IS NULL))"
		tagged   = "CREATE UNIQUE INDEX CONCURRENTLY idx_members_city ON members (city)"
	)
	t.Run("concurrently", func(t *testing.T) {
		d := newDatabase(t)
		spoil(t, d, key, prepared, tagged)
		changes := d.migrateWith(t, d.concurrent(), &member{})
		require.Contains(t, changes, "public.members: drop unfinished index uni_members_tenant_id_id, concurrently")
		require.Contains(t, changes, "public.members: drop unfinished index tenancy_idx_members_login, concurrently")
		require.Equal(t, memberKeys, d.indexes(t, "members"))
	})
	t.Run("in the transaction", func(t *testing.T) {
		d := newDatabase(t)
		spoil(t, d, key, prepared)
		changes := d.migrate(t, &member{})
		require.Contains(t, changes, "public.members: drop unfinished index uni_members_tenant_id_id")
		require.Contains(t, changes, "public.members: drop unfinished index tenancy_idx_members_login")
		require.Equal(t, memberKeys, d.indexes(t, "members"))
	})
}

// An index that somebody is making right now looks the same as one that was left behind.
func TestConcurrentIndexesUnderWayAreNotDropped(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&note{}))
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	long, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = long.Rollback() })
	_, err = long.Exec("INSERT INTO notes (tenant_id) VALUES ('acme')")
	require.NoError(t, err)
	made := make(chan error, 1)
	go func() {
		_, err := pool.Exec("CREATE UNIQUE INDEX CONCURRENTLY uni_notes_tenant_id_id ON notes (tenant_id, id)")
		made <- err
	}()
	d.await(t, "SELECT FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'")
	impatient := testdb.OpenPlain(t, d.Owner.DSN+"&lock_timeout=50")
	_, err = d.concurrent().Migrate(t.Context(), impatient, &note{})
	require.ErrorContains(t, err, "public.notes: make unique tenant_id, id, concurrently: ")
	requireCode(t, err, "55P03")
	require.NoError(t, long.Commit())
	require.NoError(t, <-made)
	require.NotContains(t, d.migrate(t, &note{}), "public.notes: make unique tenant_id, id")
}

func TestConcurrentIndexesOfWrongRows(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE members (id bigserial PRIMARY KEY, tenant_id text, email text)",
		"INSERT INTO members (tenant_id, email) VALUES ('acme', 'secret'), ('acme', 'secret'), ('globex', 'ann')")
	_, err := d.concurrent().Migrate(t.Context(), d.OwnerDB, &member{})
	require.ErrorContains(t, err, "public.members: make uni_members_email unique within a tenant, concurrently: ")
	requireCode(t, err, "23505")
	require.NotContains(t, err.Error(), "secret")

	d.AsOwner(t, "UPDATE members SET email = id")
	d.migrateWith(t, d.concurrent(), &member{})
	require.Equal(t, memberKeys, d.indexes(t, "members"))
}

func TestConcurrentIndexesStayWhenTheRestFails(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE notes (id bigserial PRIMARY KEY, body text)", "INSERT INTO notes (body) VALUES ('of acme')")
	result, err := d.concurrent().Migrate(t.Context(), d.OwnerDB, &note{})
	changes := result.Changes
	require.ErrorContains(t, err, "has rows without a tenant")
	require.Equal(t, []string{"public.notes: make unique tenant_id, id, concurrently"}, what(changes))
	require.Equal(t, `CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "uni_notes_tenant_id_id" ON "public"."notes" ("tenant_id", "id")`,
		changes[0].SQL)

	d.AsOwner(t, "UPDATE notes SET tenant_id = 'acme'")
	require.NotContains(t, d.migrateWith(t, d.concurrent(), &note{}), what(changes)[0], "it is there")
	require.Equal(t, []string{"of acme"}, d.sees(t, "acme", bodies))
}

func TestConcurrentIndexesOfRowsWithoutTenant(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, oldLibrary...)
	pool, err := testdb.OpenPlain(t, d.Owner.DSN+"&lock_timeout=1000").DB()
	require.NoError(t, err)
	var late sync.Once
	i := d.concurrent()
	i.Backfill = func(_ context.Context, tx *gorm.DB, table string) error {
		err := tx.Exec(derive[table]).Error
		if table == `"public"."shelves"` {
			// A row of the old application, which knows of no tenant, comes when the others have theirs.
			late.Do(func() { _, err = pool.Exec("INSERT INTO shelves (owner) VALUES ('acme')") })
		}
		return err
	}
	_, err = i.Migrate(t.Context(), d.OwnerDB, &shelf{}, &book{})
	require.NoError(t, err)
	require.Equal(t, []string{"2"}, d.sees(t, "acme", "SELECT count(*) FROM shelves"))
}

func TestConcurrentIndexesRefusals(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
	err := d.OwnerDB.Transaction(func(tx *gorm.DB) error {
		_, err := d.concurrent().Migrate(t.Context(), tx, &member{})
		return err
	})
	require.ErrorContains(t, err, "tenancy: no index can be made concurrently within a transaction")

	d.AsSuperuser(t, "GRANT "+d.Owner.Role+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "REVOKE "+d.Owner.Role+" FROM "+d.App.Role) })
	db := testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{AppRole: d.Owner.Role})))
	_, err = d.concurrent().Migrate(t.Context(), db, &member{})
	require.ErrorContains(t, err, "pass a *gorm.DB of the owner's that takes no role")
	require.Empty(t, d.locks(t))

	ctx, cancel := context.WithCancel(t.Context())
	holder := d.hold(t)
	go func() {
		d.await(t, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_try_advisory%' AND pid <> pg_backend_pid()")
		cancel()
	}()
	_, err = d.concurrent().Migrate(ctx, d.OwnerDB, &member{})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, holder.Close())
}

// hold takes the lock of migrations.
func (d database) hold(t *testing.T) *sql.DB {
	t.Helper()
	pool, err := sql.Open("pgx", d.Owner.DSN)
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	_, err = pool.ExecContext(t.Context(), "SELECT pg_advisory_lock(x'74656e616e6379'::bigint)")
	require.NoError(t, err)
	return pool
}
