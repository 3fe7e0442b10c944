package cmd_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestTenantIsIsolated(t *testing.T) {
	plain := testdb.New(t, &Letter{})
	d := testdb.NewPartitioned(t, rls.Partitioned{ByList: true, Hash: 2}, []any{&Letter{}}, &Letter{})
	d.AsSuperuser(t, "INSERT INTO letters (id, tenant_id, text) SELECT i, CASE WHEN i > 5 THEN 'acme' ELSE 'globex' END, 'a secret' FROM generate_series(1, 12) i")
	run := func(args ...string) result {
		r := command{args: append([]string{"tenant", "isolate"}, args...), url: d.Owner.DSN}.run(t)
		require.NotContains(t, r.out+r.errors, "secret")
		return r
	}
	run().failed(t, "isolate needs --tenant")
	run("--tenant", "acme", "--to", "second").failed(t, "are for move")
	command{args: []string{"tenant", "count", "--tenant", "acme", "--max-lock", "1s"}, url: d.Owner.DSN}.run(t).failed(t, "--max-lock and --allow-empty for isolate")
	command{args: []string{"tenant", "count", "--tenant", "acme", "--allow-empty"}, url: d.Owner.DSN}.run(t).failed(t, "--allow-empty for isolate")
	command{args: []string{"tenant", "isolate", "--tenant", "acme"}, url: plain.Owner.DSN}.run(t).failed(t, "no table is partitioned by LIST")
	run("--tenant", "acme", "--max-lock", "1ms").failed(t, "the table would be locked for too long", "allow more by --max-lock")
	run("--tenant", "acmee").failed(t, "the tenant has no rows", "is the id right?", "--allow-empty")
	r := run("--tenant", "acmee", "--allow-empty")
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, "moved no rows into public.letters_t_acmee")
	r = run("--tenant", "acme", "--back-out")
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, "Dropped 1 copy of rows.")

	r = run("--tenant", "acme")
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, "public.letters: moved 7 rows into public.letters_t_acme. The table was locked for ")
	require.Contains(t, r.errors, "step=switch table=public.letters")
	require.Contains(t, run("--tenant", "acme").out, "has a partition of its own already")
	r = run("--tenant", "globex", "--format", "json")
	require.Zero(t, r.exit, r.errors)
	var result struct{ Isolate lifecycle.IsolateReport }
	require.NoError(t, json.Unmarshal([]byte(r.out), &result))
	require.EqualValues(t, 5, result.Isolate.Tables[0].Rows)
	require.Contains(t, run("--tenant", "globex", "--back-out").out, "Dropped 0 copies of rows. Tables that have the partition keep it.")
}
