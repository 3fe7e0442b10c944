package decoy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp/internal/decoy"
)

func TestDecoyHasTheFormOfRealIDs(t *testing.T) {
	var d decoy.Decoy
	_, learned := d.ID()
	require.False(t, learned)
	for real, want := range map[string]string{
		"7":                                    "0",
		"0190a3c2-7b1e-7c3d-9f00-0123456789ab": "00000000-0000-0000-0000-000000000000",
		"acme":                                 "-",
		"0190a3c2-7b1e-7c3d-9f00-0123456789a":  "-",
		"0190a3c207b1e-7c3d-9f00-0123456789ab": "-",
		"g190a3c2-7b1e-7c3d-9f00-0123456789ab": "-",
	} {
		d.Learn(real)
		id, learned := d.ID()
		require.True(t, learned)
		require.Equal(t, want, id, real)
	}
}
