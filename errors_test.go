package tenancy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

func TestPanicErrorHidesItsValue(t *testing.T) {
	err := &tenancy.PanicError{In: "Config.OnRefuse", Value: "secret", Stack: []byte("secret")}
	require.EqualError(t, err, "tenancy: panic in Config.OnRefuse")
}

func TestErrorNamesOperationAndTable(t *testing.T) {
	err := &tenancy.Error{Op: "create", Table: "notes", Err: tenancy.ErrNoTenant}
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	require.EqualError(t, err, tenancy.ErrNoTenant.Error()+" (create on notes)")
	require.EqualError(t, &tenancy.Error{Op: "begin", Err: tenancy.ErrNoTenant}, tenancy.ErrNoTenant.Error()+" (begin)")
}
