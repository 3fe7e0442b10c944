package compat

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"
	gormadapter "github.com/casbin/gorm-adapter/v3"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// casbinRule is the table of casbin's adapter, with the tenant: Migrate makes its unique index one within a tenant.
type casbinRule struct {
	ID       uint   `gorm:"primaryKey;autoIncrement"`
	TenantID string `gorm:"not null"`
	Ptype    string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V0       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V1       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V2       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V3       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V4       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V5       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
}

func (casbinRule) TableName() string { return "casbin_rule" }

const casbinModel = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act`

// savingAdapter replaces what the adapter does in SavePolicy: TRUNCATE, which would remove the rules of all tenants.
type savingAdapter struct{ *gormadapter.Adapter }

func (a savingAdapter) SavePolicy(m model.Model) error {
	return a.GetDb().Transaction(func(tx *gorm.DB) error {
		if err := tx.Where("true").Delete(&gormadapter.CasbinRule{}).Error; err != nil {
			return err
		}
		adapter, err := gormadapter.NewFilteredAdapterByDB(tx, "", "casbin_rule")
		if err != nil {
			return err
		}
		for _, section := range []string{"p", "g"} {
			for ptype, rules := range m[section] {
				if len(rules.Policy) == 0 {
					continue
				}
				if err := adapter.AddPolicies(section, ptype, rules.Policy); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// TestCasbin: the enforcer of each tenant sees and changes that tenant's rules, though the adapter sends its statements under
// context.Background().
func TestCasbin(t *testing.T) { testdb.InBothForms(t, casbinForTenants) }

func casbinForTenants(t *testing.T) {
	d := &database{Database: testdb.New(t)}
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &casbinRule{})
	require.NoError(t, err)
	admin := testdb.OpenPlain(t, d.Admin.DSN)
	for _, a := range arrangements[:2] {
		t.Run(a.String(), func(t *testing.T) {
			require.NoError(t, admin.Exec("DELETE FROM casbin_rule").Error)
			testCasbin(t, a.open(t, d.App.DSN, d.Config()), admin)
		})
	}
	report, err := d.Isolation().Check(t.Context(), d.OwnerDB, check.Models(&casbinRule{}))
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

// enforcement is the tenants' enforcers, and a client that sees all rules.
type enforcement struct {
	enforcers map[string]*casbin.Enforcer
	admin     *gorm.DB
}

var casbinTenants = []string{"acme", "globex"}

func newEnforcement(t *testing.T, db, admin *gorm.DB) *enforcement {
	t.Helper()
	e := &enforcement{map[string]*casbin.Enforcer{}, admin}
	for _, tenant := range casbinTenants {
		adapter, err := gormadapter.NewAdapterByDB(tenancy.DangerouslyBind(tenancy.WithTenant(t.Context(), tenant), db))
		require.NoError(t, err)
		m, err := model.NewModelFromString(casbinModel)
		require.NoError(t, err)
		e.enforcers[tenant], err = casbin.NewEnforcer(m, savingAdapter{adapter})
		require.NoError(t, err)
	}
	return e
}

func (e *enforcement) may(t *testing.T, tenant, who, what string) bool {
	t.Helper()
	require.NoError(t, e.enforcers[tenant].LoadPolicy())
	ok, err := e.enforcers[tenant].Enforce(who, what, "read")
	require.NoError(t, err)
	return ok
}

func (e *enforcement) rules(t *testing.T, tenant string) (rules []string) {
	t.Helper()
	require.NoError(t, e.admin.Raw(`SELECT concat_ws(' ', ptype, v0, v1, nullif(v2, '')) FROM casbin_rule WHERE tenant_id = ?
		ORDER BY 1`, tenant).Scan(&rules).Error)
	return rules
}

func testCasbin(t *testing.T, db, admin *gorm.DB) {
	t.Helper()
	_, err := gormadapter.NewFilteredAdapterByDB(db, "", "casbin_rule")
	require.NoError(t, err)
	unbound, err := gormadapter.NewAdapterByDB(db)
	require.ErrorIs(t, err, tenancy.ErrNoTenant, "without a tenant the adapter gets nothing")
	require.Nil(t, unbound)

	e := newEnforcement(t, db, admin)
	e.add(t)
	before := e.rules(t, "globex")
	e.change(t)
	require.Equal(t, before, e.rules(t, "globex"))
	e.refuse(t)
	require.Equal(t, before, e.rules(t, "globex"))
}

// add gives both casbinTenants the same rules, and one that only one has.
func (e *enforcement) add(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for _, tenant := range casbinTenants {
		wg.Go(func() {
			enforcer := e.enforcers[tenant]
			_, err := enforcer.AddPolicies([][]string{{"editor", "pages", "read"}, {"editor", tenant + "'s books", "read"}})
			if err == nil {
				_, err = enforcer.AddGroupingPolicy("ann", "editor")
			}
			if err == nil {
				_, err = enforcer.AddPolicy("bob", "pages", "read")
			}
			if err != nil {
				t.Errorf("%s: %v", tenant, err)
			}
		})
	}
	wg.Wait()
	for i, tenant := range casbinTenants {
		other := casbinTenants[1-i]
		require.True(t, e.may(t, tenant, "ann", "pages"))
		require.True(t, e.may(t, tenant, "ann", tenant+"'s books"))
		require.False(t, e.may(t, tenant, "ann", other+"'s books"))
		require.Len(t, e.rules(t, tenant), 4, "its index is unique within a tenant")
	}
}

// change changes acme's rules, and leaves globex's as they are.
func (e *enforcement) change(t *testing.T) {
	t.Helper()
	before := e.rules(t, "globex")
	acme := e.enforcers["acme"]
	_, err := acme.RemovePolicy("editor", "pages", "read")
	require.NoError(t, err)
	_, err = acme.UpdatePolicy([]string{"bob", "pages", "read"}, []string{"bob", "news", "read"})
	require.NoError(t, err)
	_, err = acme.RemoveFilteredPolicy(1, "globex's books")
	require.NoError(t, err)
	require.False(t, e.may(t, "acme", "ann", "pages"))
	require.True(t, e.may(t, "acme", "bob", "news"))
	require.True(t, e.may(t, "globex", "ann", "pages"))
	require.Equal(t, before, e.rules(t, "globex"))

	acme.ClearPolicy()
	acme.EnableAutoSave(false)
	_, err = acme.AddPolicy("eve", "pages", "read")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, acme.SavePolicy())
		require.Equal(t, []string{"p eve pages read"}, e.rules(t, "acme"))
		require.Equal(t, before, e.rules(t, "globex"))
	}
	require.True(t, e.may(t, "globex", "ann", "globex's books"))
	require.False(t, e.may(t, "globex", "eve", "pages"))
	acme.EnableAutoSave(true)
}

// refuse tries what the adapter offers and the application has no right to.
func (e *enforcement) refuse(t *testing.T) {
	t.Helper()
	acme, before := e.enforcers["acme"], e.rules(t, "globex")
	// The adapter's own SavePolicy is TRUNCATE: the application has no right to it.
	adapter := acme.GetAdapter().(savingAdapter).Adapter
	var refused *pgconn.PgError
	require.ErrorAs(t, adapter.SavePolicy(acme.GetModel()), &refused)
	require.Equal(t, "42501", refused.Code)
	require.Equal(t, before, e.rules(t, "globex"))
	require.Equal(t, []string{"p eve pages read"}, e.rules(t, "acme"))

	// What the adapter offers for a context of the caller's is refused for another tenant.
	foreign := tenancy.WithTenant(t.Context(), "globex")
	require.ErrorIs(t, adapter.AddPolicyCtx(foreign, "p", "p", []string{"eve", "books", "read"}), tenancy.ErrTenantMismatch)
	require.ErrorIs(t, adapter.LoadPolicyCtx(foreign, acme.GetModel()), tenancy.ErrTenantMismatch)
	_, err := adapter.BeginTransaction(foreign)
	require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
	tx, err := adapter.BeginTransaction(context.Background())
	require.NoError(t, err)
	require.NoError(t, tx.GetAdapter().AddPolicy("p", "p", []string{"zoe", "pages", "read"}))
	require.NoError(t, tx.Commit())
	require.True(t, slices.Contains(e.rules(t, "acme"), "p zoe pages read"))
	require.Equal(t, before, e.rules(t, "globex"))
}
