package tenancy

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/private"
)

// A chain whose processor is not known does not count as GORM's alone.
func TestChainOfUnknownProcessor(t *testing.T) {
	require.False(t, (&chain{op: "create"}).isGORMs())
	require.False(t, (&chain{op: "create", fns: private.CallbacksOf[gorm.DB](new(int))}).isGORMs())
}

// TestReferenceHasGORMsCallbacks: without them no statement would go alone.
func TestReferenceHasGORMsCallbacks(t *testing.T) {
	for op, names := range chainNames {
		for _, name := range names {
			if name[:5] == "gorm:" {
				require.NotNil(t, referenceOf(op).Get(name), name)
			}
		}
	}
}
