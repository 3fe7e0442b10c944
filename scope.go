package tenancy

import (
	"context"
	"encoding"
	"encoding/hex"
	"reflect"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// ID is a type that can identify a tenant: text, an integer, or the 16 bytes of a UUID as in most UUID packages.
type ID interface {
	~string |
		~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 |
		~[16]byte
}

// WithTenant returns a context whose statements run for the tenant with this id. Integers are written in decimal, 16 bytes as a
// UUID in lower case with dashes, text as it is. A type that implements driver.Valuer is written as it is stored. An array that
// implements encoding.TextMarshaler, such as a ULID, is written as that says.
//
// A tenant has one id. Statements on a model whose tenant column is an integer or a UUID in Go are refused with ErrInvalidTenant
// if the id is not written as PostgreSQL writes it, such as "07" or a UUID in upper case.
//
// The zero value of every type ("", 0, the nil UUID) is no tenant, so that an unset id does not become one. Text that is longer
// than 1024 bytes, is not UTF-8 or holds a NUL, which PostgreSQL cannot store, is no tenant either. Under such an id statements
// are refused with ErrNoTenant, even if an outer context names a tenant.
func WithTenant[T ID](ctx context.Context, id T) context.Context {
	return guard.WithTenant(ctx, formatID(id))
}

// WithoutTenant returns a context whose statements run for no tenant. They can use shared tables, as far as
// these are not read only; of tenant tables PostgreSQL shows them no row, and lets them write none. With Config.LookupRole they run
// under that role: they read shared tables, and the columns that rls.Isolation.Lookups names, and write nothing.
func WithoutTenant(ctx context.Context) context.Context {
	return guard.WithoutTenant(ctx)
}

// TenantFromContext returns the id of the tenant that statements under ctx run for, as text. It returns false if there is none:
// ctx says nothing, its id cannot be used, or it is one of WithoutTenant.
func TenantFromContext(ctx context.Context) (string, bool) {
	id, _ := guard.Tenant(ctx)
	return id, id != ""
}

// formatID writes an id as text, and the zero value of its type as "". An id that says how it is stored, or an array that says
// how it is written, is written that way. An id that cannot be stored is "" as well.
func formatID[T ID](id T) string {
	if s, ok := any(id).(string); ok {
		return s
	}
	v := reflect.ValueOf(id)
	if v.IsZero() {
		return ""
	}
	if v.Kind() == reflect.Array {
		if m, ok := any(id).(encoding.TextMarshaler); ok {
			written, err := m.MarshalText()
			if err != nil {
				return ""
			}
			return string(written)
		}
	}
	stored, _ := text(id)
	return stored
}

// formatUUID writes a UUID as PostgreSQL does (https://www.postgresql.org/docs/current/datatype-uuid.html).
func formatUUID(u [16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
