package private

import (
	"reflect"
	"sync"
)

// CacheStore returns where a *gorm.Config keeps GORM's prepared statements, and nil if it has none or that is not known. To ask
// GORM itself would make one, and start a goroutine that never ends.
func CacheStore(config any) *sync.Map {
	f := reflect.ValueOf(config).Elem().FieldByName("cacheStore")
	if !f.IsValid() || f.Type() != reflect.TypeFor[*sync.Map]() || f.IsNil() {
		return nil
	}
	return (*sync.Map)(f.UnsafePointer())
}

// Callbacks are the callbacks of one of GORM's processors in the order in which it calls them, now and later. They can be compared,
// and not called. The zero value is of an unknown processor.
type Callbacks struct{ fns reflect.Value }

// CallbacksOf returns the callbacks of a processor, where DB is gorm.DB. GORM has no method that lists them. The processor must have
// exactly the fields of GORM's, because one field more could hold callbacks, too.
func CallbacksOf[DB any](processor any) Callbacks {
	v := reflect.ValueOf(processor)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return Callbacks{}
	}
	t := v.Type().Elem()
	fields := map[string]reflect.Type{
		"db": reflect.TypeFor[*DB](), "Clauses": reflect.TypeFor[[]string](), "fns": reflect.TypeFor[[]func(*DB)](),
		"callbacks": nil, // of an unexported type
	}
	if t.NumField() != len(fields) {
		return Callbacks{}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		want, known := fields[f.Name]
		if !known || want != nil && f.Type != want {
			return Callbacks{}
		}
	}
	return Callbacks{v.Elem().FieldByName("fns")}
}

// Known reports whether the processor is GORM's as it was checked.
func (c Callbacks) Known() bool { return c.fns.IsValid() }

// Len returns the number of callbacks.
func (c Callbacks) Len() int { return c.fns.Len() }

// Code returns the address of the code of the i-th callback, as reflect.Value.Pointer does.
func (c Callbacks) Code(i int) uintptr { return c.fns.Index(i).Pointer() }
