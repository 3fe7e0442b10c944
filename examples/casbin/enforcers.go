package main

import (
	"context"
	"sync"

	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"
	gormadapter "github.com/casbin/gorm-adapter/v3"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

const permissions = `
[request_definition]
r = user, object, action
[policy_definition]
p = user, object, action
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.user == p.user && r.object == p.object && r.action == p.action`

// enforcers has one enforcer for each tenant. An enforcer keeps its rules in memory, so tenants must not share one.
type enforcers struct {
	db *gorm.DB

	mu   sync.Mutex
	made map[string]*casbin.SyncedEnforcer
}

// of returns the enforcer of the request's tenant. Their number is bounded, because unknown names get no tenant.
func (e *enforcers) of(ctx context.Context) (*casbin.SyncedEnforcer, error) {
	tenant, ok := tenancy.TenantFromContext(ctx)
	if !ok {
		return nil, tenancy.ErrNoTenant
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.made[tenant]; known != nil {
		return known, nil
	}
	enforcer, err := newEnforcer(ctx, e.db)
	if err != nil {
		return nil, err
	}
	if e.made == nil {
		e.made = map[string]*casbin.SyncedEnforcer{}
	}
	e.made[tenant] = enforcer
	return enforcer, nil
}

// newEnforcer loads the rules of the tenant in ctx. The adapter sends its statements with context.Background(), so it gets
// a client that is bound to the tenant and outlives the request.
func newEnforcer(ctx context.Context, db *gorm.DB) (*casbin.SyncedEnforcer, error) {
	library, err := gormadapter.NewAdapterByDB(tenancy.DangerouslyBind(ctx, db))
	if err != nil {
		return nil, err
	}
	m, err := model.NewModelFromString(permissions)
	if err != nil {
		return nil, err
	}
	return casbin.NewSyncedEnforcer(m, adapter{library})
}

// adapter replaces SavePolicy of the library's adapter. That one sends TRUNCATE, which would remove the rules of all tenants
// and which the application may not run.
type adapter struct{ *gormadapter.Adapter }

// SavePolicy replaces the tenant's rules.
func (a adapter) SavePolicy(m model.Model) error {
	return a.GetDb().Transaction(func(tx *gorm.DB) error {
		if err := tx.Where("true").Delete(&gormadapter.CasbinRule{}).Error; err != nil {
			return err
		}
		within, err := gormadapter.NewFilteredAdapterByDB(tx, "", Rule{}.TableName())
		if err != nil {
			return err
		}
		for ptype, rules := range m["p"] {
			if len(rules.Policy) == 0 {
				continue
			}
			if err := within.AddPolicies("p", ptype, rules.Policy); err != nil {
				return err
			}
		}
		return nil
	})
}
