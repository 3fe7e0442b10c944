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
		pool, err := d.owner.DB()
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
					d.run(t, "CREATE SCHEMA billing", closed)
				}
				up, down, err := scripted.isolation().SQL(offline(t, &gorm.Config{}), models...)
				require.NoError(t, err)
				runUp, runDown := open(t, scripted, up, down)
				empty := scripted.withoutTool(t)

				migrated.migrate(t, models...)
				require.NoError(t, runUp())
				require.Equal(t, migrated.dump(t), scripted.withoutTool(t))
				require.Empty(t, scripted.migrate(t, models...), "Migrate after the script")

				require.NoError(t, runDown())
				scripted.run(t, closed) // which up grants, and down leaves
				require.Equal(t, empty, scripted.withoutTool(t))
				require.NoError(t, runUp(), "up after down")
				require.Equal(t, migrated.dump(t), scripted.withoutTool(t))
			})
		}
	}
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
