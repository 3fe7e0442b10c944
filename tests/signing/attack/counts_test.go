package attack_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// counts are ways to learn how many rows PostgreSQL has passed over: those of other tenants with these. Policies decide about rows, and
// not about what PostgreSQL says of its work.
var counts = map[string][]string{
	"EXPLAIN by itself":         {`SET enable_indexscan = off`, `SET enable_bitmapscan = off`, `EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) SELECT * FROM accounts`},
	"EXPLAIN in a DO":           {`DO $$ DECLARE line text; BEGIN FOR line IN EXECUTE 'EXPLAIN SELECT * FROM accounts WHERE tenant_id = ''victim''' LOOP RAISE NOTICE '%', line; END LOOP; END $$`},
	"EXPLAIN by its estimates":  {`; /* nothing */ EXPLAIN SELECT * FROM accounts WHERE amount > 100`},
	"counters of the session":   {`SET enable_indexscan = off`, `SET enable_bitmapscan = off`, `SELECT count(*) FROM accounts`, `SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'accounts'`},
	"counters of all sessions":  {`SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'accounts'`},
	"rows of the last analysis": {`SELECT reltuples FROM pg_class WHERE relname = 'accounts'`},
	"size of the table":         {`SELECT pg_relation_size('accounts')`},
	"size of the database":      {`SELECT pg_database_size(current_database())`},
	"size of the disk":          {`SELECT pg_tablespace_size('pg_default')`},
	"versions by their place":   {`SELECT currtid2('accounts', '(0,1)')`},
}

// TestCountsCanBeClosed: what docs/injection.md has a superuser run takes the functions away that tell exact numbers, and leaves the
// application what its statements need.
func TestCountsCanBeClosed(t *testing.T) {
	a := newTarget(t, true)
	page, err := os.ReadFile("../../../docs/injection.md")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "## Counting the rows of others")
	require.True(t, found)
	_, after, found = strings.Cut(after, "```sql\n")
	require.True(t, found)
	remedy, _, found := strings.Cut(after, "```")
	require.True(t, found)

	closed := map[string]string{ // in a transaction, what answers afterwards
		"counters of the session": "42501", "counters of all sessions": "42501", "versions by their place": "42501", "size of the table": "42501", "size of the database": "42501", "size of the disk": "42501", "EXPLAIN in a DO": "42501", "EXPLAIN by itself": "client", "EXPLAIN by its estimates": "client",
	}
	for name, statements := range counts {
		if codes := a.run(t, transaction, statements).codes; !strings.HasPrefix(name, "EXPLAIN by") {
			require.Empty(t, codes, name)
		}
	}
	a.fill(t, remedy)
	for name, statements := range counts {
		got := a.run(t, transaction, statements)
		if code, is := closed[name]; is {
			require.NotZero(t, got.codes[code], "%s: %v", name, got.codes)
		}
	}
	a.db = a.pool(t, pgx.QueryExecModeCacheStatement, signer(time.Hour, false, key("k1", 1)))
	require.Empty(t, a.follow(t), "requests need none of it")
}
