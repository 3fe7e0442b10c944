package rls

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Fill says which tenant the rows of a model's table belong to that are older than the tenant column.
type Fill struct {
	// Model is one of those that are migrated.
	Model any

	// Tenant is an expression in SQL of the tenant of a row, of the type of the tenant column, such as "customer_id" or
	// "(SELECT o.tenant_id FROM orders o WHERE o.id = order_id)". It is not for values from outside the program.
	Tenant string
}

// fills returns the expressions of Fills by table.
func (i Isolation) fills(db *gorm.DB, set *model.Set) (map[string]string, error) {
	expressions := map[string]string{}
	for _, f := range i.Fills {
		table, err := set.TableOf(db, f.Model, nil)
		if err != nil {
			return nil, fmt.Errorf("Fills: %w", err)
		}
		if f.Tenant == "" {
			return nil, fmt.Errorf("Fills: model %T has no expression Tenant", f.Model)
		}
		expressions[table] = f.Tenant
	}
	return expressions, nil
}
