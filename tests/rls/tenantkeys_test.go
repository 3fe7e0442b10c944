package rls_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// keyed is the usual isolation with TenantKeys.
func (d database) keyed() rls.Isolation {
	i := d.Isolation()
	i.TenantKeys = true
	return i
}

// keys are the primary keys and unique indexes of the user's tables, as PostgreSQL writes them.
func (d database) keys(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, `SELECT concat_ws(' ', indrelid::regclass, CASE WHEN indisprimary THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, c.relname,
			substring(pg_get_indexdef(indexrelid) FROM '[(].*'))
		FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE indisunique AND nspname = 'public' ORDER BY 1`)
}

var shopTenantKeys = []string{
	"countries PRIMARY KEY countries_pkey (id)",
	"lines PRIMARY KEY lines_pkey (tenant_id, order_id, number)",
	"orders PRIMARY KEY orders_pkey (tenant_id, id)",
	"profiles PRIMARY KEY profiles_pkey (tenant_id, id)",
	"shoppers PRIMARY KEY shoppers_pkey (tenant_id, id)",
	"shoppers UNIQUE uni_shoppers_code (tenant_id, code)",
	"wares PRIMARY KEY wares_pkey (tenant_id, id)",
	"wishes PRIMARY KEY wishes_pkey (tenant_id, shopper_id, ware_tenant_id, ware_id)",
}

func TestTenantKeysBeginPrimaryKeys(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, d database){
		"empty database": func(*testing.T, database) {},
		"tables that GORM made": func(t *testing.T, d database) {
			require.NoError(t, d.OwnerDB.AutoMigrate(shop...))
		},
		"isolated tables": func(t *testing.T, d database) {
			d.migrate(t, shop...)
		},
		"isolated tables with rows": func(t *testing.T, d database) {
			d.migrate(t, shop...)
			d.AsSuperuser(t, "INSERT INTO shoppers (tenant_id, id, code) VALUES ('acme', 1, 'a'), ('globex', 2, 'a')",
				"INSERT INTO orders (tenant_id, id, shopper_id) VALUES ('acme', 1, 1)")
		},
		"the script": func(t *testing.T, d database) {
			up, _, err := d.keyed().SQL(offline(t, &gorm.Config{}), shop...)
			require.NoError(t, err)
			d.script(t, up)
			before := d.dump(t)
			d.script(t, up)
			require.Equal(t, before, d.dump(t), "the script again")
		},
		"the script on isolated tables": func(t *testing.T, d database) {
			d.migrate(t, shop...)
			up, _, err := d.keyed().SQL(offline(t, &gorm.Config{}), shop...)
			require.NoError(t, err)
			d.script(t, up)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			before(t, d)
			planned, err := d.keyed().Plan(t.Context(), d.OwnerDB, shop...)
			require.NoError(t, err)
			changes := d.migrateWith(t, d.keyed(), shop...)
			require.Equal(t, len(changes) == 0, len(planned.Steps) == 0, planned)
			if name != "the script on isolated tables" { // it cannot know that foreign keys use another index
				require.Equal(t, shopTenantKeys, d.keys(t))
			}
			require.Equal(t, d.shopKeys(t), d.foreignKeys(t))

			before := d.snapshot(t)
			require.Empty(t, d.migrateWith(t, d.keyed(), shop...), "again")
			require.Empty(t, d.migrate(t, shop...), "without TenantKeys nothing goes back")
			for name, client := range autoClients {
				if !client.plain {
					require.NoError(t, client.open(t, d, &gorm.Config{}, "").AutoMigrate(shop...), name)
				}
			}
			require.Equal(t, before, d.snapshot(t))

			report, err := d.keyed().Check(t.Context(), d.OwnerDB, check.ModelsOnly(shop...))
			require.NoError(t, err)
			require.Empty(t, report.Findings)
		})
	}
}

// TestTenantKeysOfLargeTablesComeInSteps compares what is made beside writers with what one transaction makes.
func TestTenantKeysOfLargeTablesComeInSteps(t *testing.T) {
	for name, isolated := range map[string]bool{"tables without isolation": false, "isolated tables": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			small, large := newDatabase(t), newDatabase(t)
			for _, d := range []database{small, large} {
				d.oldDepots(t)
				if isolated {
					d.migrateWith(t, d.depots(), depots...)
				}
			}
			keyed := func(d database) rls.Isolation {
				i := d.depots()
				i.TenantKeys = true
				return i
			}
			tx := small.OwnerDB.Begin()
			_, err := keyed(small).Migrate(t.Context(), tx, depots...)
			require.NoError(t, err)
			require.NoError(t, tx.Commit().Error)

			planned, err := keyed(large).Plan(t.Context(), large.OwnerDB, depots...)
			require.NoError(t, err)
			require.Equal(t, !isolated, planned.InSteps)
			swaps := 0
			for _, step := range planned.Steps {
				if strings.Contains(step.SQL, "PRIMARY KEY") {
					require.False(t, step.Reads, "the swap reads no row: %s", step.SQL)
					require.Equal(t, "rest", step.Stage)
					swaps++
				}
			}
			require.Equal(t, 3, swaps, planned)
			changes := large.migrateWith(t, keyed(large), depots...)
			require.Equal(t, !isolated, strings.Contains(strings.Join(changes, "\n"), "public.parcels: make unique \"tenant_id\", \"id\", concurrently"), changes)
			require.Contains(t, changes, "public.parcels: make tenant_id a part of the primary key")
			require.Equal(t, small.dump(t), large.dump(t))
			require.Equal(t, small.contents(t), large.contents(t))
			require.Contains(t, large.keys(t), "parcels PRIMARY KEY parcels_pkey (tenant_id, id)")
			require.Len(t, large.keys(t), 4, "a primary key each, and uni_depots_code")

			before := large.snapshot(t)
			require.Empty(t, large.migrateWith(t, keyed(large), depots...), "a second run")
			require.Equal(t, before, large.snapshot(t))
			require.Empty(t, large.locks(t))
		})
	}
}

// TestTenantKeysComeUnderWriters has an application with the plugin save rows by their id alone throughout the change.
func TestTenantKeysComeUnderWriters(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.oldDepots(t)
	d.migrateWith(t, d.depots(), depots...)
	pool, err := pgxpool.New(t.Context(), d.App.DSN)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	var (
		stop, started = make(chan struct{}), make(chan struct{}, 4)
		failed        = make(chan error, 4)
		wait          sync.WaitGroup
	)
	for n := range 4 {
		wait.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := keyedWrite(context.Background(), pool, n); err != nil {
					failed <- err
					return
				}
				if round == 1 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		select {
		case <-started:
		case err := <-failed:
			require.NoError(t, err)
		}
	}
	i := d.depots()
	i.TenantKeys = true
	d.migrateWith(t, i, depots...)
	close(stop)
	wait.Wait()
	select {
	case err := <-failed:
		require.NoError(t, err, "a writer")
	default:
	}
	require.Contains(t, d.keys(t), "labels PRIMARY KEY labels_pkey (tenant_id, id)")
}

// keyedWrite inserts a row and changes another by its id alone.
func keyedWrite(ctx context.Context, pool *pgxpool.Pool, n int) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"SELECT set_config('app.tenant_id', 'acme', true)",
			"INSERT INTO labels (parcel_id, text) SELECT id, 'new' FROM parcels LIMIT 1",
			fmt.Sprintf("UPDATE labels SET text = 'z' WHERE id = (SELECT max(id) FROM labels WHERE id %% 4 = %d)", n),
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestTenantKeysStopBareAutoMigrate has AutoMigrate without the plugin try to take NOT NULL from the tenant column.
func TestTenantKeysStopBareAutoMigrate(t *testing.T) {
	d := newDatabase(t)
	d.migrateWith(t, d.keyed(), &keyedNote{})
	before := d.snapshot(t)
	require.Equal(t, "42P16", sqlState(d.OwnerDB.AutoMigrate(&keyedNote{})))
	require.Equal(t, before, d.snapshot(t))
}

// TestTenantKeysRefuseReferencesToTheIDAlone names what keeps a primary key from changing, and changes nothing.
func TestTenantKeysRefuseReferencesToTheIDAlone(t *testing.T) {
	t.Run("of a shared model", func(t *testing.T) {
		d := newDatabase(t)
		_, err := d.keyed().Migrate(t.Context(), d.OwnerDB, &keyedNote{}, &keyedNews{})
		require.ErrorContains(t, err, `table public.keyed_news refers to the tenant table public.keyed_notes by "id" alone`)
		require.False(t, d.OwnerDB.Migrator().HasTable(&keyedNote{}))
		_, _, err = d.keyed().SQL(offline(t, &gorm.Config{}), &keyedNote{}, &keyedNews{})
		require.ErrorContains(t, err, `by "id" alone`)
		d.migrate(t, &keyedNote{}, &keyedNews{})
	})
	t.Run("of a table without a model", func(t *testing.T) {
		d := newDatabase(t)
		d.migrate(t, &keyedNote{})
		d.AsOwner(t, "CREATE TABLE pins (note_id bigint CONSTRAINT pins_note REFERENCES keyed_notes (id))")
		before := d.snapshot(t)
		_, err := d.keyed().Migrate(t.Context(), d.OwnerDB, &keyedNote{})
		require.ErrorContains(t, err, "constraint pins_note on table pins depends on index keyed_notes_pkey")
		require.Equal(t, before, d.snapshot(t))
		d.AsOwner(t, "DROP TABLE pins")
		d.migrateWith(t, d.keyed(), &keyedNote{})
	})
}

type (
	keyedNote struct {
		ID       int64
		TenantID string
	}
	keyedNews struct {
		ID     int64
		NoteID int64
		Note   keyedNote
	}
)

func (keyedNews) TenantShared() {}
