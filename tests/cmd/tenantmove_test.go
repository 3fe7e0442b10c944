package cmd_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestTenantMovesToAnotherServer(t *testing.T) {
	first := testdb.New(t, &Letter{}, &placement.Placement{})
	second := testdb.New(t, &Letter{}, &placement.Placement{})
	first.AsSuperuser(t, "INSERT INTO letters (id, tenant_id, text) SELECT i, CASE WHEN i > 5 THEN 'acme' ELSE 'globex' END, 'a secret' FROM generate_series(1, 12) i")
	second.AsOwner(t, "ALTER SEQUENCE letters_id_seq RESTART 1000000000")
	t.Setenv("FIRST_URL", first.Owner.DSN)
	t.Setenv("SECOND_URL", second.Owner.DSN)
	run := func(args ...string) result {
		r := command{args: append([]string{"tenant", "move", "--default", "first", "--server", "first=FIRST_URL", "--server", "second=SECOND_URL", "--ttl", "10ms"}, args...),
			url: first.Owner.DSN}.run(t)
		require.NotContains(t, r.out+r.errors, "secret")
		return r
	}
	run("--tenant", "acme").failed(t, "move needs --to, --back-out or --erase-old")
	run("--tenant", "acme", "--to", "third").failed(t, "the target is none of the servers")
	run("--tenant", "acme", "--back-out").failed(t, "no move is under way")
	run("--tenant", "acme", "--erase-old").failed(t, "no move has left rows")
	second.AsOwner(t, "ALTER TABLE letters ADD COLUMN more text")
	t.Setenv("EMPTY_URL", testdb.New(t).Owner.DSN)
	run("--tenant", "acme", "--to", "empty", "--server", "empty=EMPTY_URL").failed(t, "at the target: no table has the column")
	r := run("--tenant", "acme", "--to", "second")
	r.failed(t, "failed=true")
	require.Equal(t, 1, strings.Count(r.errors, "letters"), "the error is there once: %s", r.errors)
	second.AsOwner(t, "ALTER TABLE letters DROP COLUMN more")
	run("--tenant", "acme", "--to", "second", "--server", "third=NO_SUCH_URL").failed(t, "the variable NO_SUCH_URL is not set")
	r = run("--tenant", "acme", "--to", "second", "--server", "third=postgres://u:hidden@h/d")
	r.failed(t)
	require.NotContains(t, r.errors, "hidden")
	command{args: []string{"tenant", "count", "--tenant", "acme", "--to", "second"}, url: first.Owner.DSN}.run(t).failed(t, "are for move")

	r = run("--tenant", "acme", "--to", "second")
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, "Moved 7 rows from first to second. The tenant was locked out for ")
	require.Contains(t, r.out, "erase them with --erase-old")
	require.Contains(t, r.errors, "step=switch")
	require.NotContains(t, r.errors, "warning")
	r = run("--tenant", "acmee", "--to", "second")
	require.Zero(t, r.exit, "a tenant without rows can be moved: %s", r.errors)
	require.Contains(t, r.errors, "warning: the tenant has no rows: is --tenant right?")
	r = run("--tenant", "acme", "--erase-old", "--grace", "1ms", "--format", "json")
	require.Zero(t, r.exit, r.errors)
	var result struct {
		Erased struct{ Tables []struct{ Rows int } }
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &result))
	require.Equal(t, 7, result.Erased.Tables[0].Rows)

	r = run("--tenant", "globex", "--to", "second", "--erase-old", "--grace", "1ms", "--format", "json")
	require.Zero(t, r.exit, r.errors)
	var both struct {
		Move   placement.Report
		Erased struct{ Tables []struct{ Rows int } }
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &both))
	require.EqualValues(t, 5, both.Move.Rows)
	require.Positive(t, both.Move.Stop)
	require.Equal(t, 5, both.Erased.Tables[0].Rows)
	for d, want := range map[*testdb.Database]int64{first: 0, second: 12} {
		var n int64
		require.NoError(t, d.AdminDB.Model(&Letter{}).Count(&n).Error)
		require.Equal(t, want, n)
	}
}
