package guard_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	celsius float64
	weekday string
	point   struct{ X, Y int }
	cents   int64
)

// Value makes cents a driver.Valuer, through a pointer too.
func (c cents) Value() (driver.Value, error) {
	if c < 0 {
		return nil, errors.New("no negative cents")
	}
	return fmt.Sprintf("%d.%02d", c/100, c%100), nil
}

// arguments are Go values for a parameter of a PostgreSQL type.
func arguments() []struct {
	pgType string
	value  any
} {
	at := time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.FixedZone("", 2*3600))
	one, text, price := 1, "x", cents(1234)
	return []struct {
		pgType string
		value  any
	}{
		{"int", nil}, {"int", 1}, {"int", int8(1)}, {"int", uint16(1)}, {"bigint", uint64(1)}, {"int", &one},
		{"int", (*int)(nil)}, {"int", "7"}, {"int", sql.NullInt64{}}, {"int", sql.NullInt32{Int32: 3, Valid: true}},
		{"float8", 1.5}, {"float8", float32(1.5)}, {"float8", celsius(36.6)}, {"numeric", "1.50"}, {"numeric", price},
		{"numeric", &price}, {"numeric", (*cents)(nil)}, {"numeric", cents(-1)}, {"numeric", json.Number("12.5")},
		{"numeric", pgtype.Numeric{Int: big.NewInt(15), Exp: -1, Valid: true}}, {"bool", true}, {"bool", "t"},
		{"text", ""}, {"text", "Ünïcödé ☃ 'q' \\ $1"}, {"text", &text}, {"text", weekday("mo")}, {"text", []byte("bytes")},
		{"text", 5}, {"text", sql.NullString{String: "x", Valid: true}}, {"text", pgtype.Text{String: "x", Valid: true}},
		{"bytea", []byte{0, 1, 255}}, {"bytea", []byte{}}, {"bytea", []byte(nil)}, {"bytea", sql.RawBytes("x")},
		{"timestamptz", at}, {"timestamp", at}, {"date", at}, {"timestamptz", &at}, {"timestamptz", (*time.Time)(nil)},
		{"time", "12:34:56"}, {"timestamptz", "2024-01-01 00:00+00"}, {"timestamptz", sql.NullTime{Time: at, Valid: true}},
		{"interval", "1 day"}, {"interval", 90 * time.Second}, {"interval", pgtype.Interval{Days: 3, Valid: true}},
		{"uuid", [16]byte{1, 2}}, {"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{"jsonb", map[string]any{"a": 1, "b": []string{"x"}}}, {"jsonb", `{"a":1}`}, {"jsonb", []byte(`[1]`)},
		{"jsonb", json.RawMessage(`{"a":null}`)}, {"jsonb", point{1, 2}}, {"jsonb", &point{1, 2}}, {"json", []int{1, 2}},
		{"jsonb", (*point)(nil)}, {"inet", netip.MustParsePrefix("10.0.0.0/8")}, {"inet", netip.MustParseAddr("::1")},
		{"int[]", []int{1, 2}}, {"int[]", []int32{}}, {"int[]", []int(nil)}, {"text[]", []string{"a", `"{,}\`, ""}},
		{"text[]", []*string{&text, nil}}, {"int[]", "{1,2}"}, {"int[]", [][]int{{1, 2}, {3, 4}}}, {"uuid[]", [][16]byte{{1}}},
		{"text[]", pgtype.FlatArray[string]{"a"}}, {"timestamptz[]", []time.Time{at}},
		{"int4range", pgtype.Range[pgtype.Int4]{
			Lower: pgtype.Int4{Int32: 1, Valid: true}, Upper: pgtype.Int4{Int32: 5, Valid: true},
			LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true,
		}},
		{"int4range", "[1,3)"}, {"point", pgtype.Point{P: pgtype.Vec2{X: 1, Y: 2}, Valid: true}}, {"mood", "sad"},
		{"mood", weekday("happy")}, {"mood[]", "{sad}"}, {"mood", "none"}, {"positive", 3}, {"positive", -3}, {"pair", "(1,x)"},
		{"money", "1.50"}, {"xml", "<a/>"}, {"bit(3)", "101"}, {"tsvector", "a b"}, {"oid", uint32(7)}, {"pg_lsn", "0/1"},
	}
}

// TestArgumentsArriveAsThroughPGX stores Go values through the guard and through pgx's stdlib, and finds the same stored, or the same
// error.
func TestArgumentsArriveAsThroughPGX(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, ownTypes)
	types := make(map[string]string) // to table
	for _, a := range arguments() {
		if _, ok := types[a.pgType]; !ok {
			types[a.pgType] = fmt.Sprintf("stored_%d", len(types))
			d.AsOwner(t, fmt.Sprintf(`CREATE TABLE %s (v %s); GRANT ALL ON %[1]s TO %[3]s`, types[a.pgType], a.pgType, d.App.Role))
		}
	}
	eachWay(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		for _, a := range arguments() {
			store := func(db queryer) string {
				table := types[a.pgType]
				_, err := way.exec(ctx, t, db, "INSERT INTO "+table+" VALUES ($1)", a.value)
				rows, queryErr := way.query(ctx, t, db, "INSERT INTO "+table+" VALUES ($1) RETURNING v", a.value)
				got := describe(err) + "\n" + dump(rows, queryErr)([]string{"any"})
				all, err := texts(db.QueryContext(ctx, "DELETE FROM "+table+" RETURNING v::text"))
				return fmt.Sprintf("%s\n%q %v", got, all, err)
			}
			requireSame(t, store(stock), store(p), fmt.Sprintf("%s: %T %[2]v", a.pgType, a.value))
		}
		p.requireFree(t)
	})
}

// TestArgumentsOfSeveralTypes has parameters of many types in one statement, used out of order and twice.
func TestArgumentsOfSeveralTypes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		const query = `SELECT $3::text, $1::int, $2::bool, $1::int, $4::bytea, $5::timestamptz, '$1', "$2" FROM (SELECT 1 AS "$2") x`
		args := []any{-7, true, "it's $1 -- /* ", []byte{0}, time.Unix(0, 0)}
		want := dump(way.query(ctx, t, stock, query, args...))([]string{"any"})
		require.NotContains(t, want, "failed")
		requireSame(t, want, dump(way.query(ctx, t, p, query, args...))([]string{"any"}), query)
	})
}

// rewriter replaces the statement.
type rewriter struct {
	sql  string
	args []any
	err  error
}

func (r rewriter) RewriteQuery(context.Context, *pgx.Conn, string, []any) (string, []any, error) {
	return r.sql, r.args, r.err
}

// TestOptions sends what pgx allows in front of the arguments. GORM's migrator sends the mode.
func TestOptions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	binaryText := pgx.QueryResultFormatsByOID{pgtype.TextOID: pgx.BinaryFormatCode, pgtype.Int4OID: pgx.BinaryFormatCode}
	calls := []struct {
		name string
		sql  string
		args []any
	}{
		{"named", `SELECT @b::text, @a::int`, []any{pgx.NamedArgs{"a": 1, "b": "x"}}},
		{"strict named, missing", `SELECT @a::int, @b::int`, []any{pgx.StrictNamedArgs{"a": 1}}},
		{"rewritten", `nonsense`, []any{rewriter{sql: `SELECT $1::int`, args: []any{7}}}},
		{"rewritten to no arguments", `nonsense`, []any{rewriter{sql: `SELECT 1`}, 5}},
		{"rewrite fails", `SELECT 1`, []any{rewriter{err: errors.New("no")}}},
		{"formats", `SELECT 1, 'a'::text`, []any{pgx.QueryResultFormats{1, 0}}},
		{"formats by OID", `SELECT 1, 'a'::text, 1.5::numeric`, []any{binaryText}},
		{"mode and named", `SELECT @a::int`, []any{pgx.QueryExecModeDescribeExec, pgx.NamedArgs{"a": 1}}},
	}
	for _, mode := range testdb.Modes {
		name := mode.String()
		calls = append(calls, []struct {
			name string
			sql  string
			args []any
		}{
			{name, `SELECT 1 AS a, ARRAY[1, 2], 'x'::varchar(3)`, []any{mode}},
			{name + " with arguments", `SELECT $1::int, $2::text`, []any{mode, 7, "it's"}},
			{name + " fails", `SELECT nothing, $1::int`, []any{mode, 7}},
			{name + " rewritten", `SELECT @a::int`, []any{mode, pgx.NamedArgs{"a": 1}}},
		}...)
	}
	eachPool(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		for _, c := range calls {
			want := dump(way.query(ctx, t, stock, c.sql, c.args...))([]string{"any"})
			got := dump(way.query(ctx, t, p, c.sql, c.args...))([]string{"any"})
			requireSame(t, want, got, "query "+c.name)
			if c.name == "formats" || c.name == "formats by OID" {
				continue // no options of Exec
			}
			_, stockErr := way.exec(ctx, t, stock, c.sql, c.args...)
			_, err := way.exec(ctx, t, p, c.sql, c.args...)
			requireSameError(t, stockErr, err, "exec "+c.name)
		}
		for _, mode := range testdb.Modes {
			got, err := texts(p.QueryContext(ctx, `SELECT body FROM notes WHERE body <> $1 ORDER BY 1`, mode, "a2"))
			require.NoError(t, err)
			require.Equal(t, []string{"a1"}, got, mode)
		}
		p.requireFree(t)
	})
}
