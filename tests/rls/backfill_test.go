package rls_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// library is the models of a library; the tables of its tests are older than the tenant column.
type (
	shelf struct {
		ID       int64
		TenantID string `gorm:"not null;default:'nobody'"`
		Owner    string
		Books    []book
	}
	book struct {
		ID       int64
		TenantID string
		ShelfID  int64
		Title    string   `gorm:"unique"`
		Readers  []reader `gorm:"many2many:loans"`
	}
	reader struct {
		ID       int64
		TenantID string
	}
)

var oldLibrary = []string{
	"CREATE TABLE shelves (id bigserial PRIMARY KEY, owner text)",
	"CREATE TABLE books (id bigserial PRIMARY KEY, shelf_id bigint CONSTRAINT fk_shelves_books REFERENCES shelves, title text)",
	"CREATE TABLE readers (id bigserial PRIMARY KEY, tenant_id text)",
	"CREATE TABLE loans (book_id bigint, reader_id bigint, PRIMARY KEY (book_id, reader_id))",
	"INSERT INTO shelves (owner) VALUES ('acme'), ('globex')",
	"INSERT INTO books (shelf_id, title) VALUES (1, 'Faust'), (2, 'Emma')",
	"INSERT INTO readers (tenant_id) VALUES ('acme'), ('globex')",
	"INSERT INTO loans VALUES (1, 1), (2, 2)",
}

// derive finds the tenant of a row in other rows.
var derive = map[string]string{
	`"public"."shelves"`: "UPDATE shelves SET tenant_id = owner",
	`"public"."books"`:   "UPDATE books SET tenant_id = (SELECT tenant_id FROM shelves WHERE shelves.id = shelf_id)",
}

func TestBackfill(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, d database) *gorm.DB{
		"plain": func(_ *testing.T, d database) *gorm.DB { return d.OwnerDB },
		"guarded": func(t *testing.T, d database) *gorm.DB {
			db := testdb.OpenPlain(t, d.Owner.DSN)
			require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
			return db
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsOwner(t, oldLibrary...)
			var filled []string
			i := d.Isolation()
			i.Backfill = func(_ context.Context, tx *gorm.DB, table string) error {
				filled = append(filled, table)
				return tx.Exec(derive[table]).Error
			}
			result, err := i.Migrate(t.Context(), open(t, d), &shelf{}, &book{})
			changes := result.Changes
			require.NoError(t, err)
			require.NotEmpty(t, changes)
			require.Equal(t, []string{`"public"."shelves"`, `"public"."books"`}, filled, "loans have the tenant of their books")
			require.Equal(t, []string{"Emma"}, d.sees(t, "globex", "SELECT title FROM books JOIN loans ON book_id = books.id"))

			filled = nil
			result, err = i.Migrate(t.Context(), open(t, d), &shelf{}, &book{})
			changes = result.Changes
			require.NoError(t, err)
			require.Empty(t, changes, "a second run")
			require.Empty(t, filled)
		})
	}
}

func TestBackfillSeesRowsBehindPolicies(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &note{})
	d.as(t, "acme", "INSERT INTO notes (body) VALUES ('x')")
	d.AsOwner(t, "ALTER TABLE notes ALTER tenant_id DROP NOT NULL", "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY",
		"INSERT INTO notes (tenant_id, body) VALUES (NULL, 'orphan')", "ALTER TABLE notes FORCE ROW LEVEL SECURITY")
	i := d.Isolation()
	i.Backfill = func(_ context.Context, tx *gorm.DB, table string) error {
		return tx.Exec("UPDATE " + table + " SET tenant_id = 'globex' WHERE tenant_id IS NULL").Error
	}
	require.Equal(t, []string{
		"public.notes: let the owner see all rows",
		"public.notes: require tenant_id",
		"public.notes: force row level security",
	}, d.migrateWith(t, i, &note{}))
	require.Equal(t, []string{"orphan"}, d.sees(t, "globex", bodies))
}

func TestBackfillThatFails(t *testing.T) {
	errNo := errors.New("no")
	for name, test := range map[string]struct {
		fill func(context.Context, *gorm.DB, string) error
		says string
	}{
		"error":     {func(context.Context, *gorm.DB, string) error { return errNo }, "tenancy: public.shelves: backfill tenant_id: no"},
		"rows left": {func(context.Context, *gorm.DB, string) error { return nil }, `table "public"."shelves" has rows without a tenant`},
		"wrong tenant": {func(_ context.Context, tx *gorm.DB, table string) error {
			return tx.Exec("UPDATE " + table + " SET tenant_id = id").Error
		}, `correct or delete what this query finds, and migrate again: SELECT * FROM "public"."loans" child WHERE`},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsOwner(t, oldLibrary...)
			if name == "wrong tenant" {
				d.AsOwner(t, "UPDATE books SET shelf_id = id", "ALTER TABLE loans ADD tenant_id text", "UPDATE loans SET tenant_id = 'x'")
			}
			i := d.Isolation()
			i.Backfill = test.fill
			_, err := i.Migrate(t.Context(), d.OwnerDB, &shelf{}, &book{})
			require.ErrorContains(t, err, test.says)
			if name == "error" {
				require.ErrorIs(t, err, errNo)
			}
			require.False(t, d.OwnerDB.Migrator().HasColumn(&shelf{}, "tenant_id"), "all is rolled back")
		})
	}
}
