package tenancy

import (
	"context"
	"encoding"
	"encoding/hex"
	"reflect"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// ID is what can identify a tenant: text, a whole number, or the 16 bytes of a UUID as in most UUID packages.
type ID interface {
	~string |
		~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 |
		~[16]byte
}

// WithTenant returns a context whose statements run for the tenant with this id. Integers are written in decimal, 16 bytes as a
// UUID in lower case with dashes, text as it is. A type that implements driver.Valuer is written as it is stored, and an array
// that implements encoding.TextMarshaler, such as a ULID, as that says.
//
// A tenant has one id: statements on a model whose tenant column is an integer or a UUID in Go are refused with ErrInvalidTenant
// where the id is written otherwise than PostgreSQL writes it, such as "07" or a UUID in upper case.
//
// The zero value of every type ("", 0, the nil UUID) is no tenant: an id that nobody has set must not become one.
// Under it, and under text that is longer than 1024 bytes, is not UTF-8 or holds a NUL, which PostgreSQL can't store,
// statements are refused with ErrNoTenant, even if an outer context names a tenant.
func WithTenant[T ID](ctx context.Context, id T) context.Context {
	return guard.WithTenant(ctx, formatID(id))
}

// WithoutTenant returns a context whose statements run for no tenant. They can read and write shared tables; of
// tenants' tables PostgreSQL shows them no row, and lets them write none.
func WithoutTenant(ctx context.Context) context.Context {
	return guard.WithoutTenant(ctx)
}

// TenantFromContext returns the id of the tenant that statements under ctx run for, as text. It returns false when
// there is none: nothing was said, the id can't be used, or WithoutTenant was.
func TenantFromContext(ctx context.Context) (string, bool) {
	id, _ := guard.Tenant(ctx)
	return id, id != ""
}

// formatID writes an id as text, and the zero value of its type as "". An id that says how it is stored, or an array that says
// how it is written, is taken at its word. What cannot be stored is "" as well.
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
