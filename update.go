package tenancy

import (
	"maps"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// checkAssignments refuses an update that would move rows to another tenant, and fills in the tenant if Save would write an
// unset column.
func (s *statement) checkAssignments() error {
	if s.tenant.name == "" {
		return nil
	}
	f := filler{statement: *s}
	if s.isObserved() {
		f.omitUnset()
		return nil
	}
	set, _ := s.Clauses["SET"].Expression.(clause.Set)
	if slices.ContainsFunc(set, func(a clause.Assignment) bool { return s.tenant.is(a.Column.Name) }) {
		if err := f.prepare(); err != nil {
			return err
		}
		if err := f.assignments(set); err != nil {
			return err
		}
	}
	dest := reflect.ValueOf(s.Dest)
	for dest.Kind() == reflect.Pointer {
		dest = dest.Elem()
	}
	if !dest.IsValid() {
		return nil
	}
	switch dest.Kind() {
	case reflect.Struct:
		return f.updateStruct(dest)
	case reflect.Map:
		if row, ok := dest.Interface().(map[string]any); ok {
			return f.updateMap(row)
		}
	}
	return nil
}

func (f *filler) updateMap(row map[string]any) error {
	for key, value := range row {
		if !f.tenant.is(key) {
			continue
		}
		if value == nil && len(row) > 1 && allNil(row) {
			// GORM removes an association by setting its whole foreign key to NULL. If the key is composite, as it should be,
			// the tenant column is a part of it and must stay.
			row = maps.Clone(row)
			delete(row, key)
			f.Dest = row
			continue
		}
		if err := f.prepare(); err != nil {
			return err
		}
		if err := f.check(value); err != nil {
			return err
		}
	}
	return nil
}

func allNil(row map[string]any) bool {
	for _, value := range row {
		if value != nil {
			return false
		}
	}
	return true
}

func (f *filler) updateStruct(row reflect.Value) error {
	field := f.fieldIn(row.Type())
	if field == nil {
		return nil
	}
	value, zero := field.ValueOf(f.Context, row)
	unset := zero || isUnset(value)
	switch selected, written := f.selects(field); {
	case unset && !selected, !written:
		return nil // GORM leaves it out
	}
	if err := f.prepare(); err != nil {
		return err
	}
	if !unset {
		return f.check(value)
	}
	if f.id == "" {
		return errNoTenantForRow
	}
	if !row.CanAddr() {
		row = addressable(row)
		f.Dest = row.Addr().Interface()
	}
	return f.set(field, row)
}

// fieldIn returns the field of the tenant column in a struct that an update takes its values from, which need not be the model.
func (f *filler) fieldIn(t reflect.Type) *schema.Field {
	if f.Schema == nil {
		return nil // GORM refuses it
	}
	if t == f.Schema.ModelType {
		return f.tenant.field
	}
	other := gorm.Statement{DB: f.DB}
	if err := other.Parse(reflect.New(t).Interface()); err != nil {
		return nil // GORM refuses it
	}
	return other.Schema.LookUpField(f.tenant.name)
}

// selects reports whether an update names the field in Select, and whether it writes the field if it is not zero.
func (f *filler) selects(field *schema.Field) (selected, written bool) {
	if len(f.Selects)+len(f.Omits) == 0 {
		return false, field.Updatable
	}
	columns, restricted := f.SelectAndOmitColumns(false, true)
	selected, named := columns[field.DBName]
	return selected, selected || !named && !restricted
}
