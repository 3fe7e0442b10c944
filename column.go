package tenancy

import (
	"database/sql"
	"database/sql/driver"
	"reflect"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// SharedModel is the model of a table that every tenant reads and none writes, although it has the tenant column or refers to a
// tenant table. The plugin neither fills in nor checks its tenant column, and does not ask whether its table is isolated. The method
// must be the model's own: one that comes from an embedded struct does not count, here and in the next two, and rls refuses it.
type SharedModel interface {
	TenantShared()
}

// OwnRowsModel is the model of a table that is read before the tenant is known, and in which each tenant writes its own rows:
// memberships, domains, API keys, and the table of tenants itself. The tenant column says which tenant owns a row; it is filled
// in and checked as in any other model. In a model without that column the primary key says it. All tenants read all rows. With
// rls.Isolation.LookupRole only that role does, and each tenant reads its own rows.
type OwnRowsModel interface {
	TenantOwnRows()
}

// WritableModel is the model of a table that every tenant reads and writes. Nothing isolates it.
type WritableModel interface {
	DangerouslyTenantWritable()
}

var (
	scanner   = reflect.TypeFor[sql.Scanner]()
	uuidBytes = reflect.TypeFor[[16]byte]()
)

// tenantColumn is the tenant column of a statement's table.
type tenantColumn struct {
	name  string        // "" if the statement's table is known not to be a tenant table
	field *schema.Field // nil for a table without a model: db.Table("x")
}

// columnOf returns the tenant column of a statement's table.
func (p *Plugin) columnOf(stmt *gorm.Statement, op string) tenantColumn {
	if stmt.Schema == nil {
		if stmt.Table == "" {
			return tenantColumn{}
		}
		return tenantColumn{name: p.config.Column}
	}
	field := p.fieldOf(stmt.Schema)
	if field == nil && (op == "create" || op == "update" || op == "delete") {
		field = p.ownRowsField(stmt.Schema)
	}
	if field == nil {
		return tenantColumn{}
	}
	return tenantColumn{name: field.DBName, field: field}
}

// fieldOf returns the field of the tenant column, and nil for the model of a shared table.
func (p *Plugin) fieldOf(s *schema.Schema) *schema.Field {
	if field := s.FieldsByDBName[p.config.Column]; field != nil && !policy.IsShared(s) {
		return field
	}
	return nil
}

// ownRowsField returns the field that says which tenant owns a row of an OwnRowsModel, and nil for other models.
func (p *Plugin) ownRowsField(s *schema.Schema) *schema.Field {
	if field := s.FieldsByDBName[p.config.Column]; field != nil && policy.SharingOf(s) == policy.SharedOwn {
		return field
	}
	return nil
}

// is reports whether a name that was given to GORM means the tenant column: the name of the column, qualified or quoted, or of
// the field. PostgreSQL folds names that are not quoted to lower case, so the comparison ignores case.
func (c tenantColumn) is(name string) bool {
	if c.name == "" {
		return false
	}
	if c.field != nil && name == c.field.Name {
		return true
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[i+1:]
	}
	return strings.EqualFold(strings.Trim(name, `"`), c.name)
}

// value returns the tenant's id as a value that the field's Set takes and the column can store. It returns false if there is
// none, such as for "acme" and an int64.
func (c tenantColumn) value(id string) (any, bool) {
	if c.field == nil {
		return id, true // pgx sends text for a column of any type
	}
	t := c.field.IndirectFieldType
	if t.Implements(scanner) || reflect.PointerTo(t).Implements(scanner) {
		if u, ok := parseUUID(id); ok && t.ConvertibleTo(uuidBytes) {
			id = formatUUID(u) // some UUID types accept no other form
		}
		return id, true
	}
	switch t.Kind() {
	case reflect.String:
		return id, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(id, 10, t.Bits())
		return n, err == nil && strconv.FormatInt(n, 10) == id
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(id, 10, t.Bits())
		return n, err == nil && strconv.FormatUint(n, 10) == id
	case reflect.Array:
		if t.ConvertibleTo(uuidBytes) {
			return parseUUID(id)
		}
	case reflect.Slice:
		return []byte(id), t.Elem().Kind() == reflect.Uint8
	}
	return nil, false
}

// accepts reports whether the column can store the id, and the id is written as PostgreSQL writes it. Otherwise a cache or a map
// by tenant id would know one tenant under two ids.
func (c tenantColumn) accepts(id string) bool {
	if c.field == nil {
		return true
	}
	if c.field.IndirectFieldType.Kind() == reflect.String {
		u, ok := parseUUID(id)
		return !strings.EqualFold(string(c.field.DataType), "uuid") || ok && formatUUID(u) == id
	}
	value, ok := c.value(id)
	if !ok {
		return false
	}
	written, ok := text(value)
	return !ok || written == id
}

func (c tenantColumn) errInvalid() error {
	return wrapf(ErrInvalidTenant, "column %s is %s in Go: write the tenant's id as PostgreSQL writes a value of that type", c.name, c.field.FieldType)
}

// holds reports whether a value of the column's field is this tenant's id.
func (c tenantColumn) holds(value any, id string) bool {
	have, ok := text(value)
	if !ok || have == "" {
		return false
	}
	if have == id {
		return true
	}
	// PostgreSQL accepts a UUID in several forms and returns one; text in a text column is compared as it is.
	if c.field == nil || c.field.IndirectFieldType.Kind() == reflect.String && !strings.EqualFold(string(c.field.DataType), "uuid") {
		return false
	}
	a, okA := parseUUID(have)
	b, okB := parseUUID(id)
	return okA && okB && a == b
}

// isUnset reports whether a value is nil, the zero value of its type, or one that is stored as NULL or as the empty string.
func isUnset(value any) bool {
	if value == nil || reflect.ValueOf(value).IsZero() {
		return true
	}
	have, ok := text(value)
	return ok && have == ""
}

// text writes a value as PostgreSQL does for text, integers and UUIDs. It returns false for anything else, because only the
// driver knows how that is stored.
func text(value any) (string, bool) {
	switch v := value.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case []byte:
		return string(v), true
	case driver.Valuer:
		if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
			return "", true
		}
		stored, err := v.Value()
		if _, again := stored.(driver.Valuer); err != nil || again {
			return "", false
		}
		return text(stored)
	}
	v := reflect.ValueOf(value)
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return "", true
		}
		return text(v.Elem().Interface())
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.Type().ConvertibleTo(uuidBytes):
		return formatUUID(v.Convert(uuidBytes).Interface().([16]byte)), true
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return string(v.Bytes()), true
	default:
		return "", false
	}
}

// parseUUID reads a UUID in the forms that PostgreSQL accepts (https://www.postgresql.org/docs/current/datatype-uuid.html): 32
// digits in either case, with or without dashes and braces.
func parseUUID(s string) (u [16]byte, ok bool) {
	s = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}"), "-", "")
	if len(s) != 32 {
		return u, false
	}
	for i := range u {
		b, err := strconv.ParseUint(s[2*i:2*i+2], 16, 8)
		if err != nil {
			return u, false
		}
		u[i] = byte(b)
	}
	return u, true
}
