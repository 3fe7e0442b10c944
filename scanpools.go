package tenancy

import (
	"reflect"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// GORM scans a column into a value from a sync.Pool that all models of a process share. It copies the value into the model even
// if the scan has failed, for example when a context ends in the middle of a row (scanIntoStruct in gorm's scan.go). Then the
// model holds what the value held before, perhaps another tenant's, beside the error. So the plugin ensures that values from the
// pool are empty.

// scanPools are the schemas that are done, and the types for which a schema was looked up.
type scanPools struct {
	known sync.Map // by *schema.Schema and reflect.Type
	mu    sync.Mutex
}

// statement replaces the value pools of what the rows of a statement are scanned into.
func (f *scanPools) statement(stmt *gorm.Statement) {
	if stmt.Schema == nil {
		return
	}
	f.schema(stmt.Schema)
	if !stmt.ReflectValue.IsValid() {
		return
	}
	t := stmt.ReflectValue.Type()
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == stmt.Schema.ModelType {
		return
	}
	if _, known := f.known.Load(t); known {
		return
	}
	// GORM uses the columns of the model and the fields of this struct.
	other := gorm.Statement{DB: stmt.DB}
	if other.Parse(reflect.New(t).Interface()) == nil {
		f.schema(other.Schema)
	}
	f.known.Store(t, nil)
}

func (f *scanPools) schema(s *schema.Schema) {
	if _, known := f.known.Load(s); known {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[*schema.Schema]bool{}
	f.reach(s, seen)
	for s := range seen { // after all are done, because a join scans several
		f.known.Store(s, nil)
	}
}

// reach replaces the value pools of a schema and of all schemas related to it.
func (f *scanPools) reach(s *schema.Schema, seen map[*schema.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	if _, known := f.known.Load(s); known {
		return
	}
	seen[s] = true
	for _, field := range s.Fields {
		switch pool := field.NewValuePool.(type) {
		case nil, freshPool, newPool:
		case *sync.Pool:
			if field.Serializer != nil {
				field.NewValuePool = newPool{pool}
			} else {
				field.NewValuePool = freshPool{pool}
			}
		}
	}
	for _, relation := range s.Relationships.Relations {
		f.reach(relation.FieldSchema, seen)
		f.reach(relation.JoinTable, seen)
	}
}

// newPool is for values that cannot be emptied: it makes a new one each time.
type newPool struct{ pool *sync.Pool }

func (p newPool) Get() any { return p.pool.New() }
func (p newPool) Put(any)  {}

// freshPool is for pointers to pointers, as GORM scans all other fields. It empties a value when it is taken out, because users
// without the plugin put values back, too.
type freshPool struct{ schema.FieldNewValuePool }

func (p freshPool) Get() any {
	value := p.FieldNewValuePool.Get()
	switch v := value.(type) {
	case **string:
		*v = nil
	case **int64:
		*v = nil
	case **int:
		*v = nil
	case **uint:
		*v = nil
	case **bool:
		*v = nil
	case **float64:
		*v = nil
	case **time.Time:
		*v = nil
	default:
		reflect.ValueOf(value).Elem().SetZero()
	}
	return value
}
