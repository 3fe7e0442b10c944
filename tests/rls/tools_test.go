package rls_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/pgx/v5" // the database "pgx5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// tools run a script as a migration, up or down.
var tools = map[string]func(t *testing.T, d database, up, down string) (runUp, runDown func() error){
	"goose": func(t *testing.T, d database, up, down string) (runUp, runDown func() error) {
		pool, err := d.OwnerDB.DB()
		require.NoError(t, err)
		provider, err := goose.NewProvider(goose.DialectPostgres, pool, fstest.MapFS{
			"1_tenants.sql": {Data: []byte("-- +goose Up\n" + up + "\n-- +goose Down\n" + down)},
		})
		require.NoError(t, err)
		return func() error {
				_, err := provider.Up(t.Context())
				return err
			}, func() error {
				_, err := provider.Down(t.Context())
				return err
			}
	},
	"golang-migrate": func(t *testing.T, d database, up, down string) (runUp, runDown func() error) {
		source, err := iofs.New(fstest.MapFS{
			"1_tenants.up.sql":   {Data: []byte(up)},
			"1_tenants.down.sql": {Data: []byte(down)},
		}, ".")
		require.NoError(t, err)
		m, err := migrate.NewWithSourceInstance("iofs", source, "pgx5"+strings.TrimPrefix(d.Owner.DSN, "postgres"))
		require.NoError(t, err)
		t.Cleanup(func() {
			source, db := m.Close()
			require.NoError(t, source)
			require.NoError(t, db)
		})
		return m.Up, m.Down
	},
	"Atlas": func(t *testing.T, d database, up, down string) (runUp, runDown func() error) {
		apply := d.atlas(t) // whose files only go up: down is the next migration, and up again the one after
		return func() error { return apply(up) }, func() error { return apply(down) }
	},
}

func TestScriptAsAMigration(t *testing.T) {
	scripts := map[string][]any{
		"everything": append([]any{&member{}, &user{}, &identity{}, &uuidRow{}, &invoice{}}, append(shop, models...)...),
		"odd names":  {quotedRow{}, reservedRow{}, capitalRow{}, unicodeRow{}, longRow{}, strangeRow{}},
	}
	for tool, open := range tools {
		for name, models := range scripts {
			t.Run(tool+", "+name, func(t *testing.T) {
				t.Parallel()
				migrated, scripted := newDatabase(t), newDatabase(t)
				closed := "REVOKE ALL ON SCHEMA billing FROM " + scripted.App.Role + ", " + scripted.Admin.Role
				for _, d := range []database{migrated, scripted} {
					d.AsOwner(t, "CREATE SCHEMA billing", closed)
				}
				up, down, err := scripted.Isolation().SQL(offline(t, &gorm.Config{}), models...)
				require.NoError(t, err)
				runUp, runDown := open(t, scripted, up, down)
				empty := scripted.withoutTool(t)

				migrated.migrate(t, models...)
				require.NoError(t, runUp())
				require.Equal(t, migrated.dump(t), scripted.withoutTool(t))
				require.Empty(t, scripted.migrate(t, models...), "Migrate after the script")

				require.NoError(t, runDown())
				scripted.AsOwner(t, closed) // which up grants, and down leaves
				require.Equal(t, empty, scripted.withoutTool(t))
				require.NoError(t, runUp(), "up after down")
				require.Equal(t, migrated.dump(t), scripted.withoutTool(t))
			})
		}
	}
}

// Models that have grown get their indexes first, by a migration without a transaction.
func TestIndexScriptAsAMigration(t *testing.T) {
	t.Parallel()
	grown := append([]any{&member{}, &identity{}, quotedRow{}, unicodeRow{}}, shop...)
	migrated, scripted := newDatabase(t), newDatabase(t)
	migrated.migrate(t, grown...)
	want := migrated.dump(t)

	up, down, err := scripted.Isolation().SQL(offline(t, &gorm.Config{}), grown...)
	require.NoError(t, err)
	indexes, err := scripted.Isolation().IndexSQL(offline(t, &gorm.Config{}), grown...)
	require.NoError(t, err)
	require.Equal(t, strings.Count(indexes, "CREATE "), strings.Count(indexes, " INDEX CONCURRENTLY IF NOT EXISTS "))
	scripted.script(t, up)
	pool, err := scripted.OwnerDB.DB()
	require.NoError(t, err)
	for _, drop := range collect(t, pool, `
		(SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
			WHERE contype IN ('f', 'u') AND connamespace = 'public'::regnamespace ORDER BY contype)
		UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
			WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
				AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)`) {
		scripted.AsOwner(t, drop)
	}

	provider, err := goose.NewProvider(goose.DialectPostgres, pool, fstest.MapFS{
		"1_indexes.sql": {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\n" + indexes)},
		"2_tenants.sql": {Data: []byte("-- +goose Up\n" + up + "\n-- +goose Down\n" + down)},
	})
	require.NoError(t, err)
	_, err = provider.UpByOne(t.Context())
	require.NoError(t, err)
	unique := func(lines []string) (found []string) {
		for _, line := range lines {
			if strings.HasPrefix(line, "index") || strings.Contains(line, " UNIQUE (") {
				found = append(found, line)
			}
		}
		return found
	}
	require.Equal(t, unique(want), unique(scripted.withoutTool(t)), "all indexes are there")
	scripted.psql(t, indexes) // a second run
	_, err = provider.Up(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, scripted.withoutTool(t))
	require.Empty(t, scripted.migrate(t, grown...))
}

// withoutTool is the catalog without the tables in which the tools keep their versions.
func (d database) withoutTool(t *testing.T) []string {
	t.Helper()
	var rest []string
	for _, line := range d.dump(t) {
		if !strings.Contains(line, "goose_db_version") && !strings.Contains(line, "schema_migrations") {
			rest = append(rest, line)
		}
	}
	return rest
}
