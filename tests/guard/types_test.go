package guard_test

import (
	"database/sql"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

// literals are values of every built-in type that can be written, and of types made for the test.
var literals = map[string][]string{
	// Numbers.
	"int2": {"0", "-32768", "32767"}, "int4": {"0", "-2147483648"}, "int8": {"0", "9223372036854775807"},
	"float4": {"0", "1.5", "NaN", "Infinity", "-Infinity", "1e-30"}, "float8": {"0", "1.5", "NaN", "-Infinity", "1e300"},
	"numeric":       {"0", "123456789012345678901234567890.123456789", "-1e-20", "NaN", "Infinity", "-Infinity"},
	"numeric(10,2)": {"0", "12345678.90"}, "money": {"0", "-12.34"}, "bool": {"t", "f"},
	// Text.
	"text": {"", "abc", "Ünïcödé ☃ 🐘", "a'b\\c\n$1"}, "varchar": {"", "abc"}, "varchar(7)": {"", "abc"},
	"bpchar": {"", "abc "}, "char(5)": {"", "ab"}, `"char"`: {"", "x"}, "name": {"", "abc"},
	"bytea": {"", `\x00ff10`},
	// Times.
	"date": {"2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"},
	"time": {"00:00", "24:00", "12:34:56.789012"}, "timetz": {"00:00+00", "12:34:56.789+05:30"},
	"timestamp":   {"2024-02-29 12:34:56.789012", "infinity", "-infinity", "0044-03-15 12:00 BC"},
	"timestamptz": {"2024-02-29 12:34:56.789012+02", "infinity", "-infinity", "0044-03-15 12:00+00 BC"},
	"interval":    {"0", "1 year 2 mons -3 days 04:05:06.789"},
	// Identifiers and documents.
	"uuid": {"00000000-0000-0000-0000-000000000000", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
	"json": {`null`, `{"a": [1, "x"]}`, `""`}, "jsonb": {`null`, `{"a": [1, "x"]}`, `[]`}, "jsonpath": {`$.a[*]`},
	"xml": {"", `<a b="c">d</a>`},
	// Networks and bits.
	"inet": {"10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"}, "cidr": {"10.0.0.0/8", "2001:db8::/32"},
	"macaddr": {"08:00:2b:01:02:03"}, "macaddr8": {"08:00:2b:01:02:03:04:05"},
	"bit(3)": {"101"}, "bit": {"1"}, "varbit": {"", "10101"}, "varbit(9)": {"", "10101"},
	// Geometry.
	"point": {"(1,2.5)"}, "line": {"{1,2,3}"}, "lseg": {"[(1,2),(3,4)]"}, "box": {"(3,4),(1,2)"},
	"path": {"[(1,2),(3,4)]", "((1,2),(3,4))"}, "polygon": {"((1,2),(3,4),(5,6))"}, "circle": {"<(1,2),3>"},
	// Ranges.
	"int4range": {"empty", "[1,5)", "(,)"}, "int8range": {"empty", "[1,)"}, "numrange": {"empty", "(1.5,2.5]"},
	"tsrange":   {"empty", "[2024-01-01,2024-01-02)"},
	"tstzrange": {"empty", "[2024-01-01 00:00+00,infinity)"}, "daterange": {"empty", "[2024-01-01,)"},
	"int4multirange": {"{}", "{[1,5),[7,9)}"}, "int8multirange": {"{}", "{[1,)}"}, "nummultirange": {"{}", "{(1.5,2.5]}"},
	"tsmultirange":   {"{}", "{[2024-01-01,2024-01-02)}"},
	"tstzmultirange": {"{}", "{[2024-01-01 00:00+00,)}"}, "datemultirange": {"{}", "{[2024-01-01,)}"},
	// Text search.
	"tsvector": {"", "a:1A fat:2,3"}, "tsquery": {"", "fat & !rat"},
	// System types.
	"oid": {"0", "4294967295"}, "xid": {"0", "4294967295"}, "cid": {"0", "7"}, "tid": {"(0,1)"}, "xid8": {"0", "9999999999"},
	"pg_lsn": {"0/0", "16/B374D848"}, "pg_snapshot": {"10:20:10,14"}, "txid_snapshot": {"10:20:10,14"},
	"regclass": {"pg_type", "-"}, "regtype": {"int4"}, "regproc": {"now"}, "regprocedure": {"abs(int4)"},
	"regoper": {"||/"}, "regoperator": {"+(int4,int4)"}, "regrole": {"pg_monitor"}, "regnamespace": {"pg_catalog"},
	"regconfig": {"english"}, "regdictionary": {"simple"}, "regcollation": {`"C"`}, "refcursor": {"", "c"},
	"oidvector": {"", "1 2"}, "int2vector": {"", "1 2"}, "aclitem": {"pg_monitor=r/pg_monitor"},
	// Of our own.
	"mood": {"sad", "happy"}, "positive": {"1", "7"}, "pair": {"(,)", `(1,"a b")`}, "moodrange": {"empty", "[sad,happy]"},
	"label": {"", "x"}, "labels": {"{}", "{a,b}"},
}

// unwritable are the built-in types whose values only PostgreSQL makes.
var unwritable = []string{
	"pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
	"pg_brin_minmax_multi_summary", "gtsvector", "cstring", "unknown",
}

const ownTypes = `
	CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE TYPE moodrange AS RANGE (subtype = mood);
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE DOMAIN label AS varchar(20);
	CREATE DOMAIN labels AS text[];
	CREATE TYPE pair AS (a int, b text);`

// TestTypeListComplete fails when PostgreSQL has a type that the list above does not know.
func TestTypeListComplete(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	names, err := texts(d.owner.Query(`SELECT typname FROM pg_type
		WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'`))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	var missing []string
	for _, name := range names {
		if name == "char" {
			name = `"char"` // char without the quotes is another type
		}
		if literals[name] == nil && !slices.Contains(unwritable, name) {
			missing = append(missing, name)
		}
	}
	require.Empty(t, missing)
}

// typeSQL gives a row for each literal and one of NULL, with an array of the value next to it.
func typeSQL(name string) string {
	var sql strings.Builder
	sql.WriteString("SELECT v")
	if name != "labels" && name != "oidvector" && name != "int2vector" {
		sql.WriteString(", ARRAY[v, NULL] AS several, (ARRAY[v])[2:] AS none, ARRAY[ARRAY[v]] AS nested")
	}
	sql.WriteString(" FROM (VALUES ")
	for i, literal := range literals[name] {
		fmt.Fprintf(&sql, "(%d, '%s'::%s), ", i, strings.ReplaceAll(literal, "'", "''"), name)
	}
	fmt.Fprintf(&sql, "(%d, NULL)) AS x (i, v) ORDER BY i", len(literals[name]))
	return sql.String()
}

// TestTypesReadAsThroughPGX reads every type through the guard and through pgx's stdlib, and finds no difference.
func TestTypesReadAsThroughPGX(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, ownTypes)
	eachWay(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		into := destinationNames
		if way.direct {
			into = []string{"any"} // what database/sql does with a value has been seen
		}
		for name := range literals {
			query := typeSQL(name)
			want := dump(way.query(ctx, t, stock, query))(into)
			require.NotContains(t, want, "query failed", name)
			requireSame(t, want, dump(way.query(ctx, t, p, query))(into), name)
		}
		// No rows: the columns are known all the same.
		for _, query := range []string{
			`SELECT 1 AS a, 'x'::varchar(3) AS b, 1.5::numeric(5, 2) AS c WHERE false`, `SELECT`, `SELECT FROM shared`,
			`SELECT 1 AS same, 2 AS same`, `SELECT 1 AS "Ünïcödé"`, `TABLE shared`, `SHOW timezone`, `VALUES (1, 'a')`,
			`EXPLAIN SELECT 1`, `INSERT INTO shared VALUES (1, 'x') RETURNING *`, `UPDATE shared SET id = 2`,
			`DELETE FROM shared`, ``, `;`, `-- nothing`,
		} {
			want := dump(way.query(ctx, t, stock, query))(into)
			requireSame(t, want, dump(way.query(ctx, t, p, query))(into), query)
		}
	})
}

// TestRowsScanDirectly scans without an adapter what pgx has scanned so since Go 1.27. Before, database/sql refuses it, of the
// guard as of pgx.
func TestRowsScanDirectly(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, ownTypes)
	scans := []struct {
		sql  string
		into destination
	}{
		{`SELECT ARRAY[1, 2]::int[]`, into[[]int64]()}, {`SELECT '{}'::int[]`, into[[]int64]()},
		{`SELECT NULL::int[]`, into[[]int64]()}, {`SELECT ARRAY[1, NULL]::int[]`, into[[]pgtype.Int8]()},
		{`SELECT ARRAY[1, NULL]::int[]`, into[[]int64]()}, {`SELECT ARRAY['a', '{,}']`, into[[]string]()},
		{`SELECT ARRAY[now() - now()]`, into[[]time.Duration]()}, {`SELECT '{"a": [1]}'::jsonb`, into[map[string]any]()},
		{`SELECT '[1,2]'::json`, into[[]int]()}, {`SELECT '10.0.0.0/8'::cidr`, into[netip.Prefix]()},
		{`SELECT '[1,5)'::int4range`, into[pgtype.Range[pgtype.Int4]]()}, {`SELECT '\x0001'::bytea`, into[pgtype.PreallocBytes]()},
		{`SELECT '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid`, into[[16]byte]()}, {`SELECT 1.5`, into[celsius]()},
		{`SELECT 'mo'`, into[weekday]()}, {`SELECT NULL::text`, into[weekday]()}, {`SELECT 1`, into[cents]()},
		{`SELECT '{"X": 1, "Y": 2}'::jsonb`, into[point]()}, {`SELECT 'no number'`, into[int]()},
		{`SELECT 'sad'::mood`, into[weekday]()}, {`SELECT ARRAY['sad']::mood[]`, into[[]string]()},
		{`SELECT now()`, into[chan int]()},
	}
	eachWay(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		for _, s := range scans {
			scan := func(q queryer) string {
				rows, err := way.query(ctx, t, q, s.sql)
				require.NoError(t, err)
				defer rows.Close()
				require.True(t, rows.Next())
				value, scanner := s.into()
				if err := rows.Scan(scanner); err != nil {
					return err.Error()
				}
				require.False(t, rows.Next())
				return show(value()) + describe(rows.Err())
			}
			requireSame(t, scan(stock), scan(p), s.sql)
		}
		p.requireFree(t)
	})
}

// dump returns a function that writes down all that database/sql tells about rows, scanned into these destinations.
func dump(rows *sql.Rows, err error) func(into []string) string {
	return func(into []string) string {
		if err != nil {
			return "query failed: " + describe(err)
		}
		defer rows.Close()
		var b strings.Builder
		dumpColumns(&b, rows)
		for rows.Next() {
			dumpRow(&b, rows, into)
		}
		fmt.Fprintf(&b, "end %s %s\n", describe(rows.Err()), describe(rows.Close()))
		return b.String()
	}
}

func dumpColumns(b *strings.Builder, rows *sql.Rows) {
	columns, err := rows.Columns()
	fmt.Fprintf(b, "columns %q %v\n", columns, err)
	types, err := rows.ColumnTypes()
	fmt.Fprintf(b, "types %v\n", err)
	for _, ct := range types {
		length, hasLength := ct.Length()
		precision, scale, hasPrecision := ct.DecimalSize()
		nullable, knowsNullable := ct.Nullable()
		fmt.Fprintln(b, ct.Name(), ct.DatabaseTypeName(), ct.ScanType(), length, hasLength, precision, scale, hasPrecision,
			nullable, knowsNullable)
	}
}

func dumpRow(b *strings.Builder, rows *sql.Rows, into []string) {
	b.WriteString("row\n")
	columns, _ := rows.Columns()
	dest := make([]any, len(columns))
	for i := range dest {
		dest[i] = new(any)
	}
	for _, name := range into {
		for i := range dest { // one column after the other, since the first error ends a Scan
			value, scanner := destinations[name]()
			dest[i] = scanner
			if err := rows.Scan(dest...); err != nil {
				fmt.Fprintf(b, "%s: %v\n", name, err)
			} else {
				fmt.Fprintf(b, "%s: %s\n", name, show(value()))
			}
			dest[i] = new(any)
		}
	}
	// Last, for these are only valid up to the next Scan.
	for i := range dest {
		dest[i] = new(sql.RawBytes)
	}
	fmt.Fprintln(b, "raw", rows.Scan(dest...))
	for _, raw := range dest {
		fmt.Fprintf(b, "%q\n", *raw.(*sql.RawBytes))
	}
}

// show tells apart what a driver must: types, NaN, locations.
func show(v any) string {
	if at, ok := v.(time.Time); ok {
		return at.Format(time.RFC3339Nano) + " " + at.Location().String()
	}
	return fmt.Sprintf("%T %+v", v, v)
}

// destination makes something to scan into, and says what came.
type destination func() (value func() any, scanner any)

func into[T any]() destination {
	return func() (func() any, any) {
		v := new(T)
		return func() any { return *v }, v
	}
}

// mapped scans by pgx's types, as users of database/sql do for those it does not know.
func mapped[T any]() destination {
	return func() (func() any, any) {
		v := new(T)
		return func() any { return *v }, typeMap.SQLScanner(v)
	}
}

var typeMap = pgtype.NewMap() // for one goroutine

var destinations = map[string]destination{
	"any": into[any](), "string": into[string](), "bytes": into[[]byte](), "bool": into[bool](), "int": into[int](), "int64": into[int64](),
	"uint32": into[uint32](), "float64": into[float64](), "time": into[time.Time](),
	"NullString": into[sql.NullString](), "NullInt64": into[sql.NullInt64](), "NullFloat64": into[sql.NullFloat64](),
	"NullBool": into[sql.NullBool](), "NullTime": into[sql.NullTime](), "Null": into[sql.Null[int32]](),
	"pg.Text": into[pgtype.Text](), "pg.Int4": into[pgtype.Int4](), "pg.Numeric": into[pgtype.Numeric](),
	"pg.Date": into[pgtype.Date](), "pg.Timestamptz": into[pgtype.Timestamptz](), "pg.UUID": into[pgtype.UUID](),
	"pg.Interval": into[pgtype.Interval](), "pg.Time": into[pgtype.Time](), "pg.Point": into[pgtype.Point](),
	"[]string": mapped[[]string](), "[]int8": mapped[[]pgtype.Int8](), "[]bool": mapped[[]bool](),
	"map": mapped[map[string]any](), "prefix": mapped[netip.Prefix](), "addr": mapped[netip.Addr](),
	"range": mapped[pgtype.Range[pgtype.Int4]](), "multirange": mapped[pgtype.Multirange[pgtype.Range[pgtype.Date]]](),
	"numeric": mapped[pgtype.Numeric](), "uuid": mapped[[16]byte](), "polygon": mapped[pgtype.Polygon](),
	"bits": mapped[pgtype.Bits](), "flat": mapped[pgtype.FlatArray[pgtype.Timestamp]](),
}

var destinationNames = slices.Sorted(maps.Keys(destinations))
