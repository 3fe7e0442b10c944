package tenancy

import (
	"reflect"
	"runtime"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// A plugin that replaces GORM's own callback for reading may answer a statement from memory, by its SQL and arguments, as
// github.com/go-gorm/caches does. PostgreSQL is not asked then, and what tells tenants apart is the tenant condition alone.

// gormCallbacks are GORM's callbacks for reading, by the kind of statement.
var gormCallbacks = map[string]uintptr{
	"query": reflect.ValueOf(callbacks.Query).Pointer(),
	"row":   reflect.ValueOf(callbacks.RowQuery).Pointer(),
}

// checkReplaced refuses a read that another plugin's callback, in GORM's place, could answer with what is not the tenant's: one
// without a tenant condition, and one that PostgreSQL would not be asked for another tenant's transaction.
func (s *statement) checkReplaced() error {
	read := s.DB.Callback().Query().Get("gorm:query")
	if s.op == "row" {
		read = s.DB.Callback().Row().Get("gorm:row")
	}
	pointer := reflect.ValueOf(read).Pointer()
	if pointer == gormCallbacks[s.op] || pointer == 0 {
		return nil
	}
	by := packageOf(runtime.FuncForPC(pointer).Name())
	switch {
	case slices.Contains(s.plugin.config.DangerouslyTrustCallbacks, by):
		return nil
	case s.bypass == nil && inTransaction(s.ConnPool):
		if _, err := guard.TransactionTenant(s.Context, unprepared(s.ConnPool)); err != nil {
			return err
		}
	}
	if s.namesTenant() {
		return nil
	}
	return wrapf(ErrForeignCallback, "the package %s has replaced the callback gorm:%s, and may answer from memory what it has read "+
		"for another tenant: the statement has no tenant condition (shared table, raw SQL without tenancy.Condition, Bypass, WithoutTenant or "+
		"Config.OmitTenantCondition). Send it with a *gorm.DB without that plugin, or name the package in Config.DangerouslyTrustCallbacks",
		by, s.op)
}

// namesTenant reports whether the SQL names the statement's tenant, so that it is not the same for two tenants.
func (s *statement) namesTenant() bool {
	if s.SQL.Len() == 0 {
		return s.hasCondition()
	}
	id, _ := guard.Tenant(s.Context)
	named, ok := s.Settings.Load(conditionKey)
	return ok && id != "" && named == id
}

// conditionKey is where a statement keeps the tenant that tenancy.Condition has written into its SQL.
const conditionKey = "tenancy:condition"

// packageOf returns the path of the package in a function's name, such as "github.com/go-gorm/caches/v4" in
// "github.com/go-gorm/caches/v4.(*Caches).query-fm".
func packageOf(function string) string {
	start := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[start:], '.'); dot >= 0 {
		return function[:start+dot]
	}
	return function
}

// checkPlugins refuses a *gorm.DB whose other plugins cannot be guarded.
func checkPlugins(db *gorm.DB) error {
	if _, ok := db.Plugins["gorm:sharding"]; ok {
		return wrapf(ErrForeignCallback, "gorm.io/sharding sends each statement through a pool of its own, which hides from the guard what it "+
			"sends: use PostgreSQL's partitions, or a *gorm.DB for each shard with a plugin of its own")
	}
	return nil
}
