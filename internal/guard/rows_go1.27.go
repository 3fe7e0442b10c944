//go:build go1.27

package guard

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

var _ driver.RowsColumnScanner = (*rows)(nil)

// NextRow goes to the next row. It returns io.EOF after the last, once PostgreSQL has committed.
func (r *rows) NextRow() error {
	if r.primed {
		r.primed = false
		return nil
	}
	return r.conn.use(r.advance)
}

// ScanColumn scans a column of the row into dest as pgx's stdlib does: into scalars and a sql.Scanner by the conversions of
// database/sql, into everything else, such as slices and the types of pgtype, by pgx.
func (r *rows) ScanColumn(scanCtx driver.ScanContext, index int, dest any) error {
	if dest == nil {
		return errors.New("destination not a pointer")
	}
	target := reflect.ValueOf(dest)
	if target.Kind() == reflect.Pointer && target.IsNil() {
		return errors.New("destination pointer is nil")
	}
	if !scansBySQL(target.Type()) {
		return r.conn.use(func(*pgx.Conn) error {
			field := r.result.FieldDescriptions()[index]
			return r.typeMap.Scan(field.DataTypeOID, field.Format, r.result.RawValues()[index], dest)
		})
	}
	var value driver.Value
	if raw := r.result.RawValues()[index]; raw != nil {
		var err error
		if value, err = r.values[index](raw); err != nil {
			return err
		}
	}
	// A Scanner is code of the application: it must not hold the connection, and its panic must not leak it.
	return sql.ConvertAssign(scanCtx, dest, value)
}

// scansBySQLCache keeps the result of scansBySQL by reflect.Type.
var scansBySQLCache sync.Map

// scansBySQL reports whether database/sql converts into a destination: a scalar, bytes, a time, a sql.Scanner, or a pointer to
// one of them.
func scansBySQL(t reflect.Type) bool {
	if known, ok := scansBySQLCache.Load(t); ok {
		return known.(bool)
	}
	by := decideScansBySQL(t)
	scansBySQLCache.Store(t, by)
	return by
}

func decideScansBySQL(t reflect.Type) bool {
	seen := make(map[reflect.Type]bool) // a defined pointer type can point to itself
	for {
		if t.Implements(reflect.TypeFor[sql.Scanner]()) {
			return true
		}
		if t.Implements(reflect.TypeFor[pgtype.ArraySetter]()) || t.Implements(reflect.TypeFor[pgtype.BytesScanner]()) {
			return false // bytes that are not meant as []byte
		}
		if t.Kind() != reflect.Pointer {
			break
		}
		if seen[t] {
			return false
		}
		seen[t] = true
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64, reflect.String, reflect.Interface:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8
	case reflect.Struct:
		return t.ConvertibleTo(reflect.TypeFor[time.Time]())
	default:
		return false
	}
}
