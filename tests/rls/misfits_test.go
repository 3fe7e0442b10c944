package rls_test

import (
	"context"
	"errors"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
)

// TestMigrateErrorsNameQueries runs the query of each error about rows as the owner, after the migration has failed.
func TestMigrateErrorsNameQueries(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  []string
		change func(*rls.Isolation)
		after  bool // the tables are isolated before they are spoiled
		finds  int
	}{
		"no tenant":              {spoil: []string{"UPDATE depots SET owner = NULL WHERE id IN (3, 4)"}, finds: 2},
		"no parent":              {spoil: []string{"ALTER TABLE parcels DROP CONSTRAINT fk_depots_parcels", "UPDATE parcels SET depot_id = 99 WHERE id IN (5, 6, 7)"}, finds: 3},
		"no parent at two steps": {spoil: []string{"ALTER TABLE labels DROP CONSTRAINT fk_parcels_labels", "UPDATE labels SET parcel_id = NULL WHERE id = 5"}, finds: 1},
		"no fill":                {change: func(i *rls.Isolation) { i.Fills = nil }, finds: 50},
		"other tenant's parent":  {spoil: []string{"ALTER TABLE labels ADD tenant_id text", "UPDATE labels SET tenant_id = 'umbrella' WHERE id < 5"}, finds: 4},
		"twice":                  {spoil: []string{"ALTER TABLE depots DROP CONSTRAINT uni_depots_code", "UPDATE depots SET code = 'same' WHERE id IN (2, 4, 5)"}, finds: 2},
		"no tenant, behind policies": {after: true, spoil: []string{"ALTER TABLE parcels ALTER tenant_id DROP NOT NULL", "ALTER TABLE parcels NO FORCE ROW LEVEL SECURITY",
			"ALTER TABLE labels DROP CONSTRAINT fk_parcels_labels", "ALTER TABLE parcels DROP CONSTRAINT fk_depots_parcels",
			"UPDATE parcels SET tenant_id = NULL, depot_id = NULL WHERE id < 9", "ALTER TABLE parcels FORCE ROW LEVEL SECURITY"}, finds: 8},
		"other tenant's parent, behind policies": {after: true, spoil: []string{"ALTER TABLE labels DROP CONSTRAINT fk_parcels_labels", "ALTER TABLE labels NO FORCE ROW LEVEL SECURITY",
			"UPDATE labels SET tenant_id = 'umbrella' WHERE id < 5", "ALTER TABLE labels FORCE ROW LEVEL SECURITY"}, finds: 4},
	} {
		for way, change := range map[string]func(*rls.Isolation){
			"in a transaction": func(*rls.Isolation) {},
			"in steps":         func(i *rls.Isolation) { i.ConcurrentIndexes = true },
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				d := newDatabase(t)
				d.oldDepots(t)
				i := d.depots()
				if test.after {
					d.migrateWith(t, i, depots...)
				}
				d.AsOwner(t, test.spoil...)
				change(&i)
				if test.change != nil {
					test.change(&i)
				}
				err := migrateAtOnce(t.Context(), d.OwnerDB, i)
				require.Error(t, err)
				require.NotContains(t, err.Error(), "umbrella")
				require.NotContains(t, err.Error(), "same'")
				query := regexp.MustCompile(`(BEGIN; .*)?SELECT .*$`).FindString(err.Error())
				require.Equal(t, test.finds, d.rows(t, query), "%s", err)
			})
		}
	}
}

// migrateAtOnce migrates in one transaction, although the tables are large, unless i wants it otherwise.
func migrateAtOnce(ctx context.Context, db *gorm.DB, i rls.Isolation) error {
	if i.ConcurrentIndexes {
		_, err := i.Migrate(ctx, db, depots...)
		return err
	}
	return db.Transaction(func(tx *gorm.DB) error {
		_, err := i.Migrate(ctx, tx, depots...)
		return err
	})
}

// rows returns how many rows a text of one query finds, as psql sends it.
func (d database) rows(t *testing.T, text string) int {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, d.Owner.DSN)
	require.NoError(t, err)
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, text).ReadAll()
	require.NoError(t, errors.Join(err), text)
	found := 0
	for _, result := range results {
		found += len(result.Rows)
	}
	return found
}
