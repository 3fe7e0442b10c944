package guard

import (
	"database/sql/driver"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// The conversions of pgx's stdlib, which does not export them. A test compares the two for every type.

// stdlibResultFormats are the types that come in binary format. All others come as text, which is what database/sql can give to
// a Scanner.
var stdlibResultFormats = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID:        pgtype.BinaryFormatCode,
	pgtype.ByteaOID:       pgtype.BinaryFormatCode,
	pgtype.CIDOID:         pgtype.BinaryFormatCode,
	pgtype.DateOID:        pgtype.BinaryFormatCode,
	pgtype.Float4OID:      pgtype.BinaryFormatCode,
	pgtype.Float8OID:      pgtype.BinaryFormatCode,
	pgtype.Int2OID:        pgtype.BinaryFormatCode,
	pgtype.Int4OID:        pgtype.BinaryFormatCode,
	pgtype.Int8OID:        pgtype.BinaryFormatCode,
	pgtype.OIDOID:         pgtype.BinaryFormatCode,
	pgtype.TimestampOID:   pgtype.BinaryFormatCode,
	pgtype.TimestamptzOID: pgtype.BinaryFormatCode,
	pgtype.XIDOID:         pgtype.BinaryFormatCode,
}

func stdlibFormats(fields []pgconn.FieldDescription) []int16 {
	return formatsBy(stdlibResultFormats, fields)
}

func formatsBy(byOID pgx.QueryResultFormatsByOID, fields []pgconn.FieldDescription) []int16 {
	formats := make([]int16, len(fields))
	for i := range fields {
		formats[i] = byOID[fields[i].DataTypeOID]
	}
	return formats
}

// valueFunc turns a column's bytes into a value of database/sql.
type valueFunc func(src []byte) (driver.Value, error)

// newValueFunc returns how a column of this type and format is read.
func newValueFunc(m *pgtype.Map, oid uint32, format int16) valueFunc {
	switch oid {
	case pgtype.BoolOID:
		return scanInto(m, oid, format, func(v bool) driver.Value { return v })
	case pgtype.ByteaOID, pgtype.JSONOID, pgtype.JSONBOID, pgtype.XMLOID:
		return scanInto(m, oid, format, func(v []byte) driver.Value { return v })
	case pgtype.Int2OID:
		return scanInto(m, oid, format, func(v int16) driver.Value { return int64(v) })
	case pgtype.Int4OID:
		return scanInto(m, oid, format, func(v int32) driver.Value { return int64(v) })
	case pgtype.Int8OID:
		return scanInto(m, oid, format, func(v int64) driver.Value { return v })
	case pgtype.Float4OID:
		return scanInto(m, oid, format, func(v float32) driver.Value { return float64(v) })
	case pgtype.Float8OID:
		return scanInto(m, oid, format, func(v float64) driver.Value { return v })
	case pgtype.CIDOID, pgtype.OIDOID, pgtype.XIDOID:
		return scanValuer[pgtype.Uint32](m, oid, format)
	case pgtype.DateOID:
		return scanValuer[pgtype.Date](m, oid, format)
	case pgtype.TimestampOID:
		return scanValuer[pgtype.Timestamp](m, oid, format)
	case pgtype.TimestamptzOID:
		return scanValuer[pgtype.Timestamptz](m, oid, format)
	default:
		return scanInto(m, oid, format, func(v string) driver.Value { return v })
	}
}

// scanInto scans into one variable that serves all rows, and converts its value.
func scanInto[T any](m *pgtype.Map, oid uint32, format int16, value func(T) driver.Value) valueFunc {
	var d T
	plan := m.PlanScan(oid, format, &d)
	return func(src []byte) (driver.Value, error) {
		if err := plan.Scan(src, &d); err != nil {
			return nil, err
		}
		return value(d), nil
	}
}

// scanValuer is scanInto for pgx's types that convert themselves.
func scanValuer[T driver.Valuer](m *pgtype.Map, oid uint32, format int16) valueFunc {
	var d T
	plan := m.PlanScan(oid, format, &d)
	return func(src []byte) (driver.Value, error) {
		if err := plan.Scan(src, &d); err != nil {
			return nil, err
		}
		return d.Value()
	}
}

var (
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeLength           = (*rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
)

// ColumnTypeDatabaseTypeName returns PostgreSQL's name of the type in upper case, and its OID if pgx does not know it.
func (r *rows) ColumnTypeDatabaseTypeName(index int) string {
	oid := r.result.FieldDescriptions()[index].DataTypeOID
	if t, ok := r.typeMap.TypeForOID(oid); ok {
		return strings.ToUpper(t.Name)
	}
	return strconv.FormatInt(int64(oid), 10)
}

// varHeaderSize is what PostgreSQL adds to the length and precision in a type modifier.
const varHeaderSize = 4

// ColumnTypeLength returns the length of a type of variable length, and math.MaxInt64 if it has no limit.
func (r *rows) ColumnTypeLength(index int) (length int64, ok bool) {
	fd := r.result.FieldDescriptions()[index]
	switch fd.DataTypeOID {
	case pgtype.TextOID, pgtype.ByteaOID:
		return math.MaxInt64, true
	case pgtype.VarcharOID, pgtype.BPCharOID:
		return int64(fd.TypeModifier - varHeaderSize), true
	case pgtype.VarbitOID:
		return int64(fd.TypeModifier), true
	default:
		return 0, false
	}
}

// ColumnTypePrecisionScale returns precision and scale of a numeric column.
func (r *rows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	fd := r.result.FieldDescriptions()[index]
	if fd.DataTypeOID != pgtype.NumericOID {
		return 0, 0, false
	}
	mod := fd.TypeModifier - varHeaderSize
	return int64((mod >> 16) & 0xffff), int64(mod & 0xffff), true
}

// ColumnTypeScanType returns the Go type that a column is best scanned into.
func (r *rows) ColumnTypeScanType(index int) reflect.Type {
	switch r.result.FieldDescriptions()[index].DataTypeOID {
	case pgtype.Float8OID, pgtype.NumericOID:
		return reflect.TypeFor[float64]()
	case pgtype.Float4OID:
		return reflect.TypeFor[float32]()
	case pgtype.Int8OID:
		return reflect.TypeFor[int64]()
	case pgtype.Int4OID:
		return reflect.TypeFor[int32]()
	case pgtype.Int2OID:
		return reflect.TypeFor[int16]()
	case pgtype.BoolOID:
		return reflect.TypeFor[bool]()
	case pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		return reflect.TypeFor[time.Time]()
	case pgtype.ByteaOID:
		return reflect.TypeFor[[]byte]()
	default:
		return reflect.TypeFor[string]()
	}
}
