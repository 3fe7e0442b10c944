package rls_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMigrateIndexesTheTenantColumn(t *testing.T) {
	const added = "public.logs: index tenant_id"
	d := newDatabase(t)
	for name, test := range map[string]struct {
		by   string // makes the table, before the migration
		made bool   // whether the migration must make an index
	}{
		// The tables have no primary key, because the unique index for foreign keys would do.
		"none":             {"CREATE TABLE logs (id bigint, tenant_id text, at date)", true},
		"primary key":      {"CREATE TABLE logs (id bigint, tenant_id text, at date, PRIMARY KEY (tenant_id, id))", false},
		"key's second":     {"CREATE TABLE logs (id bigint, tenant_id text, at date, PRIMARY KEY (id, tenant_id))", true},
		"unique":           {"CREATE TABLE logs (id bigint, tenant_id text, at date, UNIQUE (tenant_id, at))", false},
		"composite index":  {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs (tenant_id, at DESC)", false},
		"with expression":  {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs (tenant_id, (at + 1))", false},
		"trailing":         {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs (at, tenant_id)", true},
		"of an expression": {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs (lower(tenant_id))", true},
		"included":         {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs (at) INCLUDE (tenant_id)", true},
		"partial":          {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs (tenant_id) WHERE at > '2020-01-01'", true},
		"BRIN":             {"CREATE TABLE logs (id bigint, tenant_id text, at date); CREATE INDEX ON logs USING brin (tenant_id)", true},
	} {
		t.Run(name, func(t *testing.T) {
			type log struct {
				ID       int64
				TenantID string
			}
			d.AsOwner(t, "DROP TABLE IF EXISTS logs", test.by)
			if test.made {
				require.Contains(t, d.migrate(t, &log{}), added)
			} else {
				require.NotContains(t, d.migrate(t, &log{}), added)
			}
			require.Empty(t, d.migrate(t, &log{}), "a second run")
		})
	}
}

func TestMigrateKeepsTheIndexOfTheModel(t *testing.T) {
	type log struct {
		ID       int64
		TenantID string `gorm:"index"`
	}
	d := newDatabase(t)
	require.NotContains(t, d.migrate(t, &log{}), "public.logs: index tenant_id")
}

func TestMigrateMakesKeysForForeignKeys(t *testing.T) {
	const none, index = "", "public.logs: index tenant_id"
	d := newDatabase(t)
	for name, test := range map[string]struct {
		by   string // makes the table, before the migration
		made string // what the migration must do
	}{
		"primary key":           {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text)", "public.logs: make unique tenant_id, id"},
		"composite primary key": {"CREATE TABLE logs (id bigint, at date, tenant_id text, PRIMARY KEY (at, id))", "public.logs: make unique tenant_id, at, id"},
		"with the tenant":       {"CREATE TABLE logs (id bigint, tenant_id text, PRIMARY KEY (tenant_id, id))", none},
		"tenant last":           {"CREATE TABLE logs (id bigint, tenant_id text, PRIMARY KEY (id, tenant_id))", index},
		"tenant is the key":     {"CREATE TABLE logs (id bigint, tenant_id text PRIMARY KEY)", none},
		"no primary key":        {"CREATE TABLE logs (id bigint, tenant_id text)", index},
		"unique already":        {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, UNIQUE (id, tenant_id))", index},
		"unique index already":  {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text); CREATE UNIQUE INDEX ON logs (tenant_id, id)", none},
		"partial index":         {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text); CREATE UNIQUE INDEX ON logs (tenant_id, id) WHERE id > 0", "public.logs: make unique tenant_id, id"},
		"not unique":            {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text); CREATE INDEX ON logs (tenant_id, id)", none},
		"goes on":               {"CREATE TABLE logs (id bigint PRIMARY KEY, at date, tenant_id text); CREATE INDEX ON logs (tenant_id, id DESC, at)", none},
		"another order":         {"CREATE TABLE logs (id bigint PRIMARY KEY, at date, tenant_id text); CREATE INDEX ON logs (tenant_id, at, id)", "public.logs: make unique tenant_id, id"},
		"tenant alone":          {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text); CREATE INDEX ON logs (tenant_id)", "public.logs: make unique tenant_id, id"},
		"deferrable":            {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, UNIQUE (tenant_id, id) DEFERRABLE)", none},
		"odd column":            {`CREATE TABLE logs ("na""me" bigint PRIMARY KEY, id int, tenant_id text)`, `public.logs: make unique tenant_id, na"me`},
	} {
		t.Run(name, func(t *testing.T) {
			type log struct {
				ID       int64
				TenantID string
			}
			d.AsOwner(t, "DROP TABLE IF EXISTS logs", test.by)
			var made string
			for _, change := range d.migrate(t, &log{}) {
				if strings.Contains(change, ": make unique") || strings.Contains(change, ": index") {
					require.Empty(t, made, change)
					made = change
				}
			}
			require.Equal(t, test.made, made)
			require.Empty(t, d.migrate(t, &log{}), "a second run")
		})
	}
}

func TestMigrateMakesKeysForForeignKeysBesideAnIndex(t *testing.T) {
	type log struct {
		ID       int64
		TenantID string
	}
	type line struct {
		ID       int64
		TenantID string
		LogID    int64
		Log      log
	}
	const made = "public.logs: make unique tenant_id, id"
	d := newDatabase(t)
	for name, by := range map[string]string{
		"not unique": "CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text); CREATE INDEX ON logs (tenant_id, id)",
		"deferrable": "CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, UNIQUE (tenant_id, id) DEFERRABLE)",
	} {
		t.Run(name, func(t *testing.T) {
			d.AsOwner(t, "DROP TABLE IF EXISTS lines, logs", by)
			require.NotContains(t, d.migrate(t, &log{}), made, "nothing refers to it")
			require.Contains(t, d.migrate(t, &log{}, &line{}), made)
			require.Empty(t, d.migrate(t, &log{}, &line{}), "a second run")
		})
	}
}

func TestMigrateMakesNoKeyBesideAnIndexOfTheModel(t *testing.T) {
	type log struct {
		ID       int64  `gorm:"index:of_tenant,priority:2"`
		TenantID string `gorm:"index:of_tenant,priority:1"`
	}
	const made = "public.logs: make unique tenant_id, id"
	d := newDatabase(t)
	require.NotContains(t, d.migrate(t, &log{}), made)
	require.Empty(t, d.migrate(t, &log{}), "a second run")
	d.AsOwner(t, "DROP TABLE logs")
	script, _, err := d.Isolation().SQL(d.OwnerDB, &log{})
	require.NoError(t, err)
	require.NotContains(t, script, "uni_logs")
	script, err = d.Isolation().IndexSQL(d.OwnerDB, &log{})
	require.NoError(t, err)
	require.NotContains(t, script, "uni_logs")
	d.AsOwner(t, "CREATE TABLE logs (id bigserial PRIMARY KEY, tenant_id text)")
	changes := d.migrateWith(t, d.concurrent(), &log{})
	require.NotContains(t, strings.Join(changes, "\n"), "make unique")
}
