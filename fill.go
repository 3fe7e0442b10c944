package tenancy

import (
	"reflect"
	"slices"
	"strconv"

	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// fill writes the tenant into every row of a create that leaves its tenant column unset, and refuses rows that name another
// tenant. The bypass client may name any tenant; a row that it leaves unset gets the tenant of the context.
//
// It accepts every form of GORM's Create: struct, map, and pointers, slices and arrays of them. The rows of associations and of
// join tables are creates of their own to GORM, and come here by themselves.
func (s *statement) fill(first bool) error {
	if s.tenant.name == "" {
		return nil
	}
	if s.isObserved() {
		s.Settings.Store(laterKey, true)
		return nil
	}
	f := filler{statement: *s, first: first && s.bypass != nil}
	if err := f.prepareRows(); err != nil {
		return err
	}
	var err error
	switch dest := s.Dest.(type) {
	case map[string]any:
		err = f.mapRow(dest)
	case *map[string]any:
		err = f.mapRow(*dest)
	case []map[string]any:
		err = f.mapRows(dest)
	case *[]map[string]any:
		err = f.mapRows(*dest)
	default:
		err = f.structs()
	}
	if err != nil {
		return err
	}
	switch {
	case f.later:
		f.Settings.Store(laterKey, true)
	case first:
		f.Settings.Delete(laterKey) // of an earlier use of the statement, which was refused
	}
	f.write()
	return f.conflict()
}

// filler is the state of one create or update.
type filler struct {
	statement
	id string // "" for a bypass without a tenant, and for a table without a model under WithoutTenant

	value any // the result of asValue, once it was called
	fits  bool
	first bool // a second check follows, after hooks and belongs-to associations
	later bool // writeValues writes the tenant, so that the caller's values stay as they are
}

func (f *filler) prepare() (err error) {
	if f.id, err = f.scope(); err != nil {
		return err
	}
	if f.id == "" {
		if f.bypass != nil || f.tenant.field == nil {
			return nil
		}
		return wrapf(ErrNoTenant, "a row of a tenant table cannot be written without a tenant: use WithTenant")
	}
	return nil
}

// prepareRows finds out what is the same for all rows.
func (f *filler) prepareRows() error {
	if err := f.prepare(); err != nil {
		return err
	}
	// If a field that an upsert returns is set before, GORM takes the row for one that existed.
	if _, upsert := f.Clauses["ON CONFLICT"]; upsert && f.tenant.field != nil {
		f.later = slices.Contains(f.Schema.FieldsWithDefaultDBValue, f.tenant.field)
	}
	return nil
}

func (f *filler) structs() error {
	rows := f.ReflectValue
	if f.tenant.field == nil || !rows.IsValid() {
		return nil // GORM refuses it
	}
	// A struct or an array that is passed by value cannot be written to, so GORM gets a copy.
	if k := rows.Kind(); (k == reflect.Struct || k == reflect.Array) && !rows.CanAddr() {
		rows = addressable(rows)
		f.Dest, f.ReflectValue = rows.Addr().Interface(), rows
	}
	if k := rows.Kind(); k != reflect.Slice && k != reflect.Array {
		return f.structRow(rows)
	}
	for i := range rows.Len() {
		if err := f.structRow(rows.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) structRow(row reflect.Value) error {
	for row.Kind() == reflect.Pointer || row.Kind() == reflect.Interface {
		row = row.Elem()
	}
	if !row.IsValid() || row.Type() != f.Schema.ModelType || !row.CanAddr() {
		return nil // nil, or another type than the model's: GORM refuses it
	}
	field := f.tenant.field
	unset, holds := f.quickCheck(field, row)
	if holds {
		return nil
	}
	if !unset {
		value, zero := field.ValueOf(f.Context, row)
		if !zero && !isUnset(value) {
			return f.check(value)
		}
	}
	switch {
	case f.id == "" && f.first:
		return nil // a hook or a belongs-to association of the admin client may still set it
	case f.id == "":
		return errNoTenantForRow
	case f.later:
		return nil
	default:
		return f.set(field, row)
	}
}

// quickCheck reports, without allocating, whether a row's tenant field is unset or holds the tenant. A create may have many
// rows. It returns false twice if a closer look is needed.
func (f *filler) quickCheck(field *schema.Field, row reflect.Value) (unset, holds bool) {
	if field.Serializer != nil || slices.Min(field.StructField.Index) < 0 { // in an embedded pointer, which may be nil
		return false, false
	}
	var buf [20]byte
	switch v := field.ReflectValueOf(f.Context, row); v.Type() {
	case reflect.TypeFor[string]():
		return v.Len() == 0, f.id != "" && v.String() == f.id
	case reflect.TypeFor[int64](), reflect.TypeFor[int]():
		return v.Int() == 0, f.id != "" && string(strconv.AppendInt(buf[:0], v.Int(), 10)) == f.id
	case reflect.TypeFor[uint64](), reflect.TypeFor[uint]():
		return v.Uint() == 0, f.id != "" && string(strconv.AppendUint(buf[:0], v.Uint(), 10)) == f.id
	default:
		return false, false
	}
}

// set writes the tenant into a row and reads it back: a field's own type may have changed it.
func (f *filler) set(field *schema.Field, row reflect.Value) error {
	id, ok := f.asValue()
	if !ok || field.Set(f.Context, row, id) != nil {
		return f.tenant.errInvalid()
	}
	if _, holds := f.quickCheck(field, row); holds {
		return nil
	}
	if value, _ := field.ValueOf(f.Context, row); !f.tenant.holds(value, f.id) {
		return f.tenant.errInvalid()
	}
	return nil
}

// asValue returns the id as the column's Go type takes it, and false if that type cannot hold it.
func (f *filler) asValue() (any, bool) {
	if f.value == nil {
		f.value, f.fits = f.tenant.value(f.id)
	}
	return f.value, f.fits
}

var errNoTenantForRow = wrapf(ErrNoTenant, "neither the row nor the context names a tenant: set the column, or use WithTenant")

func (f *filler) mapRows(rows []map[string]any) error {
	for _, row := range rows {
		if err := f.mapRow(row); err != nil {
			return err
		}
	}
	return nil
}

// mapRow does not change the row, which the caller may use again, also at the same time.
func (f *filler) mapRow(row map[string]any) error {
	named := false
	for key, value := range row {
		switch {
		case !f.tenant.is(key):
		case isUnset(value):
			f.later = true
		default:
			if err := f.check(value); err != nil {
				return err
			}
			named = true
		}
	}
	switch {
	case named:
	case f.tenant.field == nil && !f.later && !f.plugin.isTenantTable(&f.statement):
		// The table is not known to have the column. If it has, the column's default fills it in.
	case f.id == "" && f.first:
	case f.id == "":
		return errNoTenantForRow
	default:
		if _, ok := f.asValue(); !ok {
			return f.tenant.errInvalid()
		}
		f.later = true
	}
	return nil
}

// check refuses a value of the tenant column that is not the tenant's id, or that only the database can evaluate.
func (f *filler) check(value any) error {
	if f.bypass != nil || f.id != "" && f.tenant.holds(value, f.id) {
		return nil
	}
	return wrapf(ErrTenantMismatch, "column %s is set to another value than the context's tenant: leave it unset", f.tenant.name)
}

// write ensures that Select and Omit do not leave the tenant column out.
func (f *filler) write() {
	if f.tenant.field == nil && !f.plugin.isTenantTable(&f.statement) {
		return
	}
	if len(f.Selects) > 0 && !slices.ContainsFunc(f.Selects, f.tenant.is) {
		f.Selects = append(slices.Clone(f.Selects), f.tenant.name)
	}
	if slices.ContainsFunc(f.Omits, f.tenant.is) {
		f.Omits = slices.DeleteFunc(slices.Clone(f.Omits), f.tenant.is)
	}
}

// conflict checks what an upsert does to a row that exists.
func (f *filler) conflict() error {
	onConflict, _ := f.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	return f.assignments(onConflict.DoUpdates)
}

func (f *filler) assignments(set clause.Set) error {
	for _, a := range set {
		if !f.tenant.is(a.Column.Name) {
			continue
		}
		if f.tenant.isExcluded(a.Value) {
			continue // the value of the row to be inserted, which was checked
		}
		if err := f.check(a.Value); err != nil {
			return err
		}
	}
	return nil
}

// addressable returns a copy of v that can be written to.
func addressable(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}
