package rls_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/schema"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// atlas returns a function that runs a script as the next file of a migration directory, by the engine of the command
// atlas migrate apply and in a transaction as there.
func (d database) atlas(t *testing.T) (apply func(script string) error) {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	dir, done := &migrate.MemDir{}, &revisions{}
	return func(script string) error {
		file := migrate.NewLocalFile(fmt.Sprintf("%d_tenants.sql", len(done.list)+1), []byte(script))
		require.NoError(t, dir.WriteFile(file.Name(), file.Bytes()))
		sum, err := dir.Checksum()
		require.NoError(t, err)
		require.NoError(t, migrate.WriteSumFile(dir, sum))

		execute := func(db schema.ExecQuerier) error {
			driver, err := postgres.Open(db)
			require.NoError(t, err)
			// It is as --allow-dirty, for a schema that is there before the first migration.
			executor, err := migrate.NewExecutor(driver, dir, done, migrate.WithAllowDirty(true))
			require.NoError(t, err)
			return executor.ExecuteN(t.Context(), 1)
		}
		if slices.Contains(file.Directive("txmode"), "none") {
			return execute(pool)
		}
		tx, err := pool.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		if err := execute(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// revisions are what has run. The command atlas keeps them in a schema of its own.
type revisions struct {
	migrate.NopRevisionReadWriter
	list []*migrate.Revision
}

func (r *revisions) ReadRevisions(context.Context) ([]*migrate.Revision, error) { return r.list, nil }

func (r *revisions) WriteRevision(_ context.Context, revision *migrate.Revision) error {
	if !slices.Contains(r.list, revision) { // which is written after each of its statements
		r.list = append(r.list, revision)
	}
	return nil
}

func TestScriptRunByAtlasAgain(t *testing.T) {
	t.Parallel()
	all := append([]any{&member{}, &user{}, &identity{}, quotedRow{}, unicodeRow{}, strangeRow{}}, shop...)
	migrated, scripted := newDatabase(t), newDatabase(t)
	migrated.migrate(t, all...)
	want := migrated.dump(t)

	up, _, err := scripted.Isolation().SQL(offline(t, &gorm.Config{}), all...)
	require.NoError(t, err)
	apply := scripted.atlas(t)
	for range 2 {
		require.NoError(t, apply(up))
		require.Equal(t, want, scripted.dump(t))
	}
	require.Empty(t, scripted.migrate(t, all...))
	require.NoError(t, apply(up), "after Migrate")
	require.Equal(t, want, scripted.dump(t))
}

func TestIndexScriptRunByAtlas(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	up, _, err := d.Isolation().SQL(offline(t, &gorm.Config{}), &identity{}, quotedRow{})
	require.NoError(t, err)
	indexes, err := d.Isolation().IndexSQL(offline(t, &gorm.Config{}), &identity{}, quotedRow{})
	require.NoError(t, err)
	apply := d.atlas(t)
	require.NoError(t, apply(up))
	want := d.dump(t)
	d.AsOwner(t, "DROP INDEX idx_identities_tenant_id")
	require.NotEqual(t, want, d.dump(t))

	require.NoError(t, apply("-- atlas:txmode none\n"+indexes))
	require.Equal(t, want, d.dump(t))
	requireCode(t, apply(indexes), "25001") // as it is, in a transaction
}
