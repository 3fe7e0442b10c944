package tenancy

import (
	"reflect"
	"runtime"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// A plugin that replaces GORM's own callback for reading may return a result from memory, found by the SQL and its arguments, as
// github.com/go-gorm/caches does. PostgreSQL is not asked then, so only the tenant condition tells tenants apart.

// gormCallbacks are GORM's callbacks for reading, by the kind of statement.
var gormCallbacks = map[string]uintptr{
	"query": reflect.ValueOf(callbacks.Query).Pointer(),
	"row":   reflect.ValueOf(callbacks.RowQuery).Pointer(),
}

// checkReplaced refuses a read that another plugin's callback, in place of GORM's, could serve with another tenant's rows: one
// without a tenant condition, and one in a transaction of another tenant.
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
	case slices.Contains(s.plugin.config.DangerouslyTrustCallbacks, by), s.isObserved():
		return nil
	case s.bypass == nil && gormtx.In(s.ConnPool):
		if _, err := guard.TransactionTenant(s.Context, unprepared(s.ConnPool)); err != nil {
			return err
		}
	}
	if s.namesTenant() {
		return nil
	}
	return wrapf(ErrForeignCallback, "the package %s has replaced the callback gorm:%s, and may return rows from memory that it has "+
		"read for another tenant, because the statement has no tenant condition (shared table, raw SQL without tenancy.Condition, Bypass, "+
		"WithoutTenant or Config.OmitTenantCondition): send it with a *gorm.DB without that plugin, or name the package in Config.DangerouslyTrustCallbacks",
		by, s.op)
}

// namesTenant reports whether the SQL names the statement's tenant, and so is not the same for two tenants.
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
		return wrapf(ErrForeignCallback, "gorm.io/sharding hides from the guard what it sends, because it uses pools of its own: "+
			"use PostgreSQL's partitions, or a *gorm.DB for each shard with a plugin of its own")
	}
	return nil
}
