package tenancy

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// TestCallbacksOfUnknownProcessor: what does not look like GORM's processor is not read, and no chain of it is GORM's.
func TestCallbacksOfUnknownProcessor(t *testing.T) {
	require.True(t, callbacksOf(referenceOf("create")).IsValid(), "GORM's own")
	for name, p := range map[string]any{
		"nil":       nil,
		"nil of it": (*struct{ fns []func(*gorm.DB) })(nil),
		"no struct": new(int),
		"a value":   struct{ fns []func(*gorm.DB) }{},
		"a field more": &struct {
			db                   *gorm.DB
			Clauses              []string
			fns, more, callbacks []func(*gorm.DB)
		}{},
		"a field less": &struct {
			fns []func(*gorm.DB)
		}{},
		"another name": &struct {
			db                *gorm.DB
			Clauses           []string
			handlers, replace []func(*gorm.DB)
		}{},
		"another type": &struct {
			db        *gorm.DB
			Clauses   []string
			fns       []func(*gorm.DB) error
			callbacks []func(*gorm.DB)
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			fns := callbacksOf(p)
			require.False(t, fns.IsValid())
			require.False(t, (&chain{op: "create", fns: fns}).isGORMs())
		})
	}
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
