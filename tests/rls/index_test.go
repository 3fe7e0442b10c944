package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIndexLeadsWithTheTenantColumn(t *testing.T) {
	const added = "public.logs: index tenant_id"
	d := newDatabase(t)
	for name, test := range map[string]struct {
		by   string // makes the table, before the migration
		made bool   // whether the migration must make an index
	}{
		"none":             {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date)", true},
		"primary key":      {"CREATE TABLE logs (id bigint, tenant_id text, at date, PRIMARY KEY (tenant_id, id))", false},
		"key's second":     {"CREATE TABLE logs (id bigint, tenant_id text, at date, PRIMARY KEY (id, tenant_id))", true},
		"unique":           {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date, UNIQUE (tenant_id, at))", false},
		"composite index":  {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs (tenant_id, at DESC)", false},
		"with expression":  {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs (tenant_id, (at + 1))", false},
		"trailing":         {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs (at, tenant_id)", true},
		"of an expression": {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs (lower(tenant_id))", true},
		"included":         {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs (at) INCLUDE (tenant_id)", true},
		"partial":          {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs (tenant_id) WHERE at > '2020-01-01'", true},
		"BRIN":             {"CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, at date); CREATE INDEX ON logs USING brin (tenant_id)", true},
	} {
		t.Run(name, func(t *testing.T) {
			type log struct {
				ID       int64
				TenantID string
			}
			d.run(t, "DROP TABLE IF EXISTS logs", test.by)
			if test.made {
				require.Contains(t, d.migrate(t, &log{}), added)
			} else {
				require.NotContains(t, d.migrate(t, &log{}), added)
			}
			require.Empty(t, d.migrate(t, &log{}), "a second run")
		})
	}
}

func TestIndexOfTheModelIsKept(t *testing.T) {
	type log struct {
		ID       int64
		TenantID string `gorm:"index"`
	}
	d := newDatabase(t)
	require.NotContains(t, d.migrate(t, &log{}), "public.logs: index tenant_id")
}
