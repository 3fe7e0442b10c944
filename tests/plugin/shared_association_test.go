package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	Plan struct {
		ID   int64
		Name string
	}
	Subscriber struct {
		ID       int64
		TenantID string
		PlanID   int64
		Plan     *Plan
	}
)

// TestAssociationOfReadOnlyTable: GORM inserts what a row refers to, also where it exists, which takes a right that tenants lack.
func TestAssociationOfReadOnlyTable(t *testing.T) {
	d := testdb.New(t, &Plan{}, &Subscriber{})
	plan := Plan{Name: "free"}
	require.NoError(t, d.OwnerDB.Create(&plan).Error)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	require.ErrorContains(t, db.Create(&Subscriber{Plan: &plan}).Error, "42501")
	require.NoError(t, db.Create(&Subscriber{PlanID: plan.ID}).Error)
	require.NoError(t, db.Omit("Plan").Create(&Subscriber{PlanID: plan.ID, Plan: &plan}).Error)
	var found []Subscriber
	require.NoError(t, db.Preload("Plan").Find(&found).Error)
	require.Len(t, found, 2)
	require.Equal(t, "free", found[0].Plan.Name)
}
