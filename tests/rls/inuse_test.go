package rls_test

import (
	"context"
	"fmt"
	stdlog "log"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// The tables of the tests of large tables are older than isolation; those of parcels and labels have no column for the tenant.
type (
	depot struct {
		ID       int64
		Code     string `gorm:"unique"`
		Owner    string
		Parcels  []parcel
		TenantID string
	}
	parcel struct {
		ID      int64
		DepotID int64
		Body    string
		Labels  []label `gorm:"constraint:OnDelete:CASCADE"`
	}
	label struct {
		ID       int64
		ParcelID int64
		Text     string `gorm:"index"`
	}
)

var depots = []any{&depot{}, &parcel{}, &label{}}

// oldDepots makes the tables with rows: two megabytes and more of parcels and of labels.
func (d database) oldDepots(t *testing.T) {
	t.Helper()
	d.AsOwner(t,
		"CREATE TABLE depots (id bigserial PRIMARY KEY, code text CONSTRAINT uni_depots_code UNIQUE, owner text)",
		"CREATE TABLE parcels (id bigserial PRIMARY KEY, depot_id bigint CONSTRAINT fk_depots_parcels REFERENCES depots, body text)",
		"CREATE TABLE labels (id bigserial PRIMARY KEY, parcel_id bigint CONSTRAINT fk_parcels_labels REFERENCES parcels ON DELETE CASCADE, text text)",
		"INSERT INTO depots (code, owner) SELECT n, CASE WHEN n % 2 = 0 THEN 'acme' ELSE 'globex' END FROM generate_series(1, 50) n",
		"INSERT INTO parcels (depot_id, body) SELECT 1 + n % 50, repeat('x', 60) FROM generate_series(1, 20000) n",
		"INSERT INTO labels (parcel_id, text) SELECT 1 + n % 20000, repeat('y', 60) FROM generate_series(1, 20000) n",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON depots, parcels, labels TO "+d.App.Role,
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+d.App.Role)
}

// depots is the usual isolation, which knows the tenants of depots.
func (d database) depots() rls.Isolation {
	i := d.Isolation()
	i.Fills = []rls.Fill{{Model: &depot{}, Tenant: "owner"}}
	return i
}

// contents are the rows of the tables, summed up.
func (d database) contents(t *testing.T) []string {
	t.Helper()
	var sums []string
	for _, table := range []string{"depots", "parcels", "labels"} {
		sums = append(sums, collect(t, d.admin(t), fmt.Sprintf(
			"SELECT concat_ws(' ', '%[1]s', tenant_id, count(*), md5(string_agg((to_jsonb(r) - 'ctid')::text, ',' ORDER BY id))) FROM %[1]s r GROUP BY tenant_id ORDER BY 1", table))...)
	}
	return sums
}

func TestMigrateLargeTablesInSteps(t *testing.T) {
	t.Parallel()
	small, large := newDatabase(t), newDatabase(t)
	small.oldDepots(t)
	large.oldDepots(t)
	// Within a transaction of the caller's all is done at once.
	tx := small.OwnerDB.Begin()
	_, err := small.depots().Migrate(t.Context(), tx, depots...)
	require.NoError(t, err)
	require.NoError(t, tx.Commit().Error)

	var done []string
	i := large.depots()
	i.Progress = func(p rls.Progress) {
		require.LessOrEqual(t, p.Done, p.Total)
		if p.Done == p.Total && p.Total > 0 && !slices.Contains(done, p.Table) {
			done = append(done, p.Table)
		}
	}
	changes := large.migrateWith(t, i, depots...)
	require.Contains(t, changes, "public.parcels: make unique tenant_id, id, concurrently")
	require.Equal(t, []string{"public.depots", "public.parcels", "public.labels"}, done)
	require.Equal(t, small.dump(t), large.dump(t))
	require.Equal(t, small.contents(t), large.contents(t))

	before := large.snapshot(t)
	require.Empty(t, large.migrateWith(t, i, depots...), "a second run")
	require.Equal(t, before, large.snapshot(t))
	require.Empty(t, large.locks(t))
}

// TestMigrateUnderWriters has an old version of the application write throughout. Its writes may fail only because they have no tenant.
func TestMigrateUnderWriters(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.oldDepots(t)
	config, err := pgxpool.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	config.MaxConns = 6
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	var (
		stop    = make(chan struct{})
		wait    sync.WaitGroup
		written atomic.Int64
		refused atomic.Int64
		others  sync.Map
		started = make(chan struct{}, 6)
	)
	for n := range 6 {
		wait.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				err := oldWrite(context.Background(), pool, n, round)
				switch code := sqlState(err); {
				case err == nil:
					written.Add(1)
				case code == insufficientPrivilege || code == "23514" || code == "23502" || code == "23503" && refused.Load() > 0:
					refused.Add(1)
				default:
					others.Store(err.Error(), true)
				}
				if round == 3 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 6 {
		<-started
	}
	_, err = d.depots().Migrate(t.Context(), d.OwnerDB, depots...)
	close(stop)
	wait.Wait()
	require.NoError(t, err)
	others.Range(func(text, _ any) bool {
		require.Fail(t, "a write failed", "%v", text)
		return true
	})
	require.Positive(t, written.Load())
	rows := collect(t, d.admin(t), "SELECT count(*) FROM parcels WHERE body LIKE 'old %'")
	require.Equal(t, []string{fmt.Sprint(written.Load())}, rows, "each row that was written is there, once")
	require.Empty(t, collect(t, d.admin(t), `SELECT 'x' FROM parcels JOIN depots d ON d.id = depot_id WHERE parcels.tenant_id <> d.tenant_id OR d.tenant_id <> d.owner`))
	require.Empty(t, d.migrateWith(t, d.depots(), depots...))
}

// oldWrite is a transaction of an application that knows of no tenants. It changes rows in an order of its own.
func oldWrite(ctx context.Context, pool *pgxpool.Pool, n, round int) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for _, statement := range []string{
		fmt.Sprintf("UPDATE labels SET text = text WHERE id = %d", 1+(n*3000+round*37)%20000),
		fmt.Sprintf("UPDATE depots SET code = code WHERE id = %d", 1+(n+round)%50),
		fmt.Sprintf("INSERT INTO parcels (depot_id, body) VALUES (%d, 'old %d-%d')", 1+(n+round)%50, n, round),
		fmt.Sprintf("UPDATE parcels SET body = body WHERE id = %d", 1+(n*3000+round*53)%20000),
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

func sqlState(err error) string {
	if pg, ok := err.(interface{ SQLState() string }); ok {
		return pg.SQLState()
	}
	return ""
}

// TestMigrateWaitsShortlyForLocks: who waits in PostgreSQL for a lock of a table keeps from it all who come later.
func TestMigrateWaitsShortlyForLocks(t *testing.T) {
	t.Parallel()
	for name, large := range map[string]bool{"small": false, "large": true} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			if large {
				d.oldDepots(t)
			} else {
				require.NoError(t, d.OwnerDB.AutoMigrate(depots...))
			}
			pool, err := testdb.OpenPlain(t, d.Owner.DSN).DB()
			require.NoError(t, err)
			reader, err := pool.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = reader.Rollback() })
			_, err = reader.Exec("SELECT FROM parcels")
			require.NoError(t, err)

			i := d.depots()
			i.LockTimeout, i.GiveUpAfter = 20*time.Millisecond, time.Millisecond
			before := d.dump(t)
			_, err = i.Migrate(t.Context(), d.OwnerDB, depots...)
			require.ErrorContains(t, err, "other sessions hold locks, tried for 1ms")
			if !large {
				require.Equal(t, before, d.dump(t))
			}

			i.GiveUpAfter = time.Minute
			migrated := make(chan error, 1)
			go func() {
				_, err := i.Migrate(context.Background(), d.OwnerDB, depots...)
				migrated <- err
			}()
			d.await(t, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'parcels'::regclass")
			_, err = pool.Exec("SELECT FROM parcels") // behind the migration, which gives way
			require.NoError(t, err)
			require.NoError(t, reader.Rollback())
			require.NoError(t, <-migrated)
			require.Empty(t, d.migrateWith(t, d.depots(), depots...))
		})
	}
}

// TestMigrateLogsNoErrorForWhatIsTriedAgain: that a lock is not free is expected. It is an error when the migration gives up.
func TestMigrateLogsNoErrorForWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, large := range map[string]bool{"small": false, "large": true} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			if large {
				d.oldDepots(t)
			} else {
				require.NoError(t, d.OwnerDB.AutoMigrate(depots...))
			}
			d.AsOwner(t, "ALTER TABLE parcels DROP COLUMN body") // so that GORM adds it
			pool := testdb.OpenSQL(t, d.Owner.DSN)
			reader, err := pool.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = reader.Rollback() })
			_, err = reader.Exec("SELECT FROM parcels")
			require.NoError(t, err)

			var log strings.Builder
			client := d.OwnerDB.Session(&gorm.Session{Logger: logger.New(stdlog.New(&log, "", 0), logger.Config{LogLevel: logger.Error})})
			i := d.depots()
			i.LockTimeout, i.GiveUpAfter = 20*time.Millisecond, time.Millisecond
			_, err = i.Migrate(t.Context(), client, depots...)
			require.ErrorContains(t, err, "other sessions hold locks, tried for 1ms")
			require.Equal(t, 1, strings.Count(log.String(), "canceling statement due to lock timeout"), log.String())
			require.Contains(t, log.String(), `ALTER TABLE "parcels" ADD "body"`)

			log.Reset()
			var infos strings.Builder
			client = client.Session(&gorm.Session{Logger: splitLogger{client.Logger, &infos}})
			i.GiveUpAfter = time.Minute
			migrated := make(chan error, 1)
			go func() {
				_, err := i.Migrate(context.Background(), client, depots...)
				migrated <- err
			}()
			for range 2 { // tries
				d.await(t, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'parcels'::regclass")
				d.await(t, "SELECT WHERE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'parcels'::regclass)")
			}
			require.NoError(t, reader.Rollback())
			require.NoError(t, <-migrated)
			require.Empty(t, log.String())
			require.Contains(t, infos.String(), "tries again, because a lock was not free")
		})
	}
}

// splitLogger notes what is logged at the level Info.
type splitLogger struct {
	logger.Interface
	infos *strings.Builder
}

func (l splitLogger) Info(_ context.Context, format string, values ...any) {
	fmt.Fprintf(l.infos, format+"\n", values...)
}

// TestMigrateLeavesOldVersionRunningWhenItFails: rows without a tenant are written again when no migration is under way.
func TestMigrateLeavesOldVersionRunningWhenItFails(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.oldDepots(t)
	d.AsOwner(t, "UPDATE depots SET owner = NULL WHERE id = 7")
	_, err := d.depots().Migrate(t.Context(), d.OwnerDB, depots...)
	require.ErrorContains(t, err, "has rows without a tenant")
	require.NotContains(t, strings.Join(d.dump(t), "\n"), "tenancy_require")
	d.AsOwner(t, "INSERT INTO parcels (depot_id, body) VALUES (1, 'old')", "UPDATE depots SET owner = 'acme' WHERE id = 7")
	d.migrateWith(t, d.depots(), depots...)
	require.Equal(t, []string{"1"}, collect(t, d.admin(t), "SELECT count(*) FROM parcels WHERE body = 'old' AND tenant_id = 'globex'"))
}

func TestMigrateKeepsSchema(t *testing.T) {
	type parcel struct {
		ID       int64
		TenantID string
		Body     string `gorm:"unique;index"`
	}
	old := func(t *testing.T) database {
		d := newDatabase(t)
		d.AsOwner(t, "CREATE TABLE parcels (id bigserial PRIMARY KEY, body varchar(80) DEFAULT 'empty')", "CREATE INDEX by_body ON parcels (body)")
		return d
	}
	columns := "SELECT concat_ws(' ', column_name, data_type, column_default) FROM information_schema.columns WHERE table_name = 'parcels' AND column_name = 'body'"
	indexes := "SELECT indexname FROM pg_indexes WHERE tablename = 'parcels' ORDER BY 1"

	d := old(t)
	d.migrate(t, &parcel{})
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	require.Equal(t, []string{"body text"}, collect(t, pool, columns), "AutoMigrate takes the default away")
	require.Equal(t, []string{"by_body", "idx_parcels_body", "parcels_pkey", "uni_parcels_body", "uni_parcels_tenant_id_id"}, collect(t, pool, indexes))

	for _, concurrent := range []bool{false, true} {
		d = old(t)
		pool, err = d.OwnerDB.DB()
		require.NoError(t, err)
		i := d.Isolation()
		i.KeepSchema, i.ConcurrentIndexes = true, concurrent
		d.migrateWith(t, i, &parcel{})
		require.Equal(t, []string{"body character varying 'empty'::character varying"}, collect(t, pool, columns))
		require.Equal(t, []string{"by_body", "parcels_pkey", "uni_parcels_tenant_id_id"}, collect(t, pool, indexes))
		d.as(t, "acme", "INSERT INTO parcels DEFAULT VALUES")
		require.Equal(t, []string{"empty"}, d.sees(t, "acme", "SELECT body FROM parcels"))
		require.Empty(t, d.sees(t, "globex", "SELECT body FROM parcels"))
		require.Empty(t, d.migrateWith(t, i, &parcel{}), "a second run")
	}
	i := d.Isolation()
	i.KeepSchema = true
	_, err = i.Migrate(t.Context(), d.OwnerDB, &parcel{}, &note{})
	require.ErrorContains(t, err, `table "notes" does not exist`)
}
