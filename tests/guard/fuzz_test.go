package guard_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// fuzzed is the database of newDatabase, with a guarded pool of one connection for each mode of pgx, and an unguarded one
// of tenant a.
type fuzzed struct {
	guarded map[pgx.QueryExecMode]*sql.DB
	plain   map[pgx.QueryExecMode]*sql.DB
	admin   *sql.DB
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	d := newDatabase(f)
	w := &fuzzed{guarded: map[pgx.QueryExecMode]*sql.DB{}, plain: map[pgx.QueryExecMode]*sql.DB{}}
	connect := func(login pgserver.Login, mode pgx.QueryExecMode, settings ...string) *pgx.ConnConfig {
		cfg, err := pgx.ParseConfig(login.DSN)
		require.NoError(f, err)
		cfg.DefaultQueryExecMode = mode
		cfg.RuntimeParams["statement_timeout"] = "1s"
		for _, s := range settings {
			cfg.RuntimeParams[setting] = s
		}
		return cfg
	}
	keep := func(db *sql.DB) *sql.DB {
		f.Cleanup(func() { _ = db.Close() })
		db.SetMaxOpenConns(1)
		return db
	}
	w.admin = keep(stdlib.OpenDB(*connect(d.Admin, pgx.QueryExecModeExec)))
	for _, mode := range testdb.Modes {
		w.guarded[mode] = keep(guard.Open(stdlib.GetConnector(*connect(d.App, mode)), guard.Config{Setting: setting}))
		w.plain[mode] = keep(stdlib.OpenDB(*connect(d.App, mode, "a")))
	}
	return w
}

// afterwards requires that tenant b sees its rows, and nothing else, on the connection that was used. What raw SQL may do
// to its session, such as hiding the schema, makes an error, after which the connection is replaced.
func (w *fuzzed) afterwards(t *testing.T, db *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tenant(t, "b"), waitTime)
	defer cancel()
	seen, err := texts(db.QueryContext(ctx, `SELECT tenant_id || ':' || body FROM public.notes ORDER BY body`))
	if err != nil {
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		replace(t, db)
		seen, err = texts(db.QueryContext(ctx, `SELECT tenant_id || ':' || body FROM public.notes ORDER BY body`))
	}
	require.NoError(t, err)
	require.Equal(t, []string{"b:b1"}, seen)
}

// replace throws a pool's connection away.
func replace(t *testing.T, db *sql.DB) {
	t.Helper()
	db.SetMaxIdleConns(0)
	require.Eventually(t, func() bool { return db.Stats().OpenConnections == 0 }, waitTime, time.Millisecond)
	db.SetMaxIdleConns(1)
}

// FuzzTenantOnTheWire: PostgreSQL gets the very id that the context names, in every mode, or nothing.
func FuzzTenantOnTheWire(f *testing.F) {
	w := newFuzzed(f)
	for _, id := range []string{
		"", "a", "b'", "'b", `\`, `\'`, `'\`, `b\\''`, `'; RESET ROLE; --`, "$1", "$$", "/*", "--\n", "\x00", "a\x00b", "\xff", "größe", "\u2028", "\ufeff",
		"E'b'", "a\r\nb", " b ", "%s", strings.Repeat("'", 1024), strings.Repeat("x", 1025), strings.Repeat(`\`, 1<<20),
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		ctx := guard.WithTenant(context.Background(), id)
		usable := id != "" && len(id) <= 1024 && utf8.ValidString(id) && !strings.Contains(id, "\x00")
		for mode, db := range w.guarded {
			for _, args := range [][]any{nil, {1}} {
				query := `SELECT current_setting('app.tenant_id')`
				if len(args) > 0 {
					query += ` WHERE $1::int = 1`
				}
				got, err := texts(db.QueryContext(ctx, query, args...))
				if !usable {
					require.ErrorIs(t, err, guard.ErrNoTenant, mode)
					continue
				}
				require.NoError(t, err, mode)
				require.Equal(t, []string{id}, got, mode)
				seen, err := texts(db.QueryContext(ctx, `SELECT tenant_id FROM notes`))
				require.NoError(t, err)
				for _, owner := range seen {
					require.Equal(t, id, owner)
				}
			}
			w.afterwards(t, db)
		}
	})
}

// FuzzSQL: whatever a statement's text is, the next one is its own tenant's, and PostgreSQL finds the same fault with it,
// at the same place, as without the guard.
func FuzzSQL(f *testing.F) {
	w := newFuzzed(f)
	for n, query := range []string{
		"", ";", "SELECT 1", "SELECT 1; SELECT 2", "SELECT body FROM notes -- ", "SELECT body FROM notes /* ", "/* /* */ */ SELECT 1", "--", "-- \n SELECT 1",
		"SELECT $$x$$", "SELECT $a$ $$ $b$ $a$", "SELECT $a$ unfinished", "SELECT 'unfinished", `SELECT "unfinished`, `SELECT E'\'`, "SELECT U&'\\0041'",
		"SELEC 1", "SELECT x", "SELECT ü, x", "SELECT 1 FROM", "/* ü */ SELECT nothing", "SELECT '' FROM nowhere;", "SELECT $1", "SELECT ?", "SELECT @x",
		"BEGIN", "COMMIT", "ROLLBACK", "COMMIT; SELECT 1", "BEGIN; SELECT 1", "SAVEPOINT s", "SET app.tenant_id = 'a'", "SET LOCAL app.tenant_id = 'a'",
		"SET ROLE none", "RESET ALL", "DISCARD ALL", "DEALLOCATE ALL", "SET client_encoding = 'LATIN1'", "SET standard_conforming_strings = off",
		"SET search_path = nowhere", "SET row_security = off", "PREPARE p AS SELECT 1", "DECLARE c CURSOR FOR SELECT 1", "LISTEN x", "COPY notes TO STDOUT",
		"COPY notes FROM STDIN", "DO $$ BEGIN NULL; END $$", "VALUES (1), (2)", "TABLE notes", "EXPLAIN SELECT 1", "SELECT 1\x00", "\xff", "INSERT INTO notes (body) VALUES ('x')",
		"DELETE FROM notes WHERE body = 'b1'", "UPDATE notes SET tenant_id = 'b'", "CREATE TEMPORARY TABLE notes (body text)", "LOCK TABLE notes",
	} {
		f.Add(query, false, byte(n))
		f.Add(query, true, byte(n+2))
	}
	f.Fuzz(func(t *testing.T, query string, rows bool, way byte) {
		if strings.Contains(query, "set_config") || strings.Contains(strings.ToLower(query), "pg_temp") {
			return // SQL that names another tenant by itself, or puts tables of its own in the place of ours
		}
		run := func(ctx context.Context, db *sql.DB) error {
			ctx, cancel := context.WithTimeout(ctx, waitTime)
			defer cancel()
			if rows {
				_, err := texts(db.QueryContext(ctx, query))
				return err
			}
			_, err := db.ExecContext(ctx, query)
			return err
		}
		mode := testdb.Modes[int(way)%len(testdb.Modes)]
		db := w.guarded[mode]
		var stock, guarded *pgconn.PgError
		if got := run(tenant(t, "a"), db); errors.As(got, &guarded) && guarded.Code == "42601" { // a syntax error
			want := run(context.Background(), w.plain[mode])
			if errors.As(want, &stock) && stock.Code == guarded.Code && stock.Position > 0 {
				require.Equal(t, describe(want), describe(got), "%s", mode)
			}
			replace(t, w.plain[mode])
		}
		w.afterwards(t, db)
		replace(t, db)
		_, err := w.admin.Exec(`DELETE FROM notes WHERE tenant_id = 'a' AND body NOT IN ('a1', 'a2');
			INSERT INTO notes (tenant_id, body) VALUES ('a', 'a1'), ('a', 'a2') ON CONFLICT DO NOTHING`)
		require.NoError(t, err)
	})
}

// FuzzOptions: pgx's options among the arguments mean what they mean without the guard.
func FuzzOptions(f *testing.F) {
	w := newFuzzed(f)
	f.Add([]byte{}, "x")
	for option := range byte(10) {
		f.Add([]byte{option}, "x'")
		f.Add([]byte{option, 9 - option}, `\`)
		f.Add([]byte{option, option, 7}, "\x00")
	}
	f.Fuzz(func(t *testing.T, options []byte, value string) {
		args, named := []any{}, false
		for _, o := range options[:min(len(options), 8)] {
			switch o % 10 {
			case 0, 1, 2, 3, 4:
				args = append(args, testdb.Modes[o%10])
			case 5:
				args = append(args, pgx.QueryResultFormats{pgx.TextFormatCode})
			case 6:
				args = append(args, pgx.QueryResultFormatsByOID{pgtype.Int4OID: pgx.TextFormatCode})
			case 7:
				args, named = append(args, pgx.NamedArgs{"v": value, "n": 7}), true
			case 8:
				args = append(args, pgx.QueryResultFormatsByOID{pgtype.TextOID: pgx.BinaryFormatCode})
			case 9:
				args, named = append(args, pgx.StrictNamedArgs{"v": value, "n": 7}), true
			}
		}
		query := `SELECT $1::text || $2::int`
		if named {
			query = `SELECT @v::text || @n::int`
		} else {
			args = append(args, value, 7)
		}
		for mode, db := range w.guarded {
			want, stockErr := texts(w.plain[mode].QueryContext(context.Background(), query, args...))
			got, err := texts(db.QueryContext(tenant(t, "a"), query, args...))
			require.Equal(t, stockErr == nil, err == nil, "%v: %v, %v", mode, stockErr, err)
			require.Equal(t, want, got, "%v", mode)
			w.afterwards(t, db)
		}
	})
}
