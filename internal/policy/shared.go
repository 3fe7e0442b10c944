package policy

import (
	"reflect"

	"gorm.io/gorm/schema"
)

// SharedModel is a model whose table all tenants share, although it has the tenant column.
type SharedModel interface{ TenantShared() }

var sharedModel = reflect.TypeFor[SharedModel]()

// IsShared reports whether a model says that all tenants share its table.
func IsShared(s *schema.Schema) bool {
	return reflect.PointerTo(s.ModelType).Implements(sharedModel) // by a method of the pointer's or of the struct's own
}
