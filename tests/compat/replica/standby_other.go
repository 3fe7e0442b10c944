//go:build !linux

package replica

import (
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// newStandby is for Linux, where a child process can be made to end with its parent.
func newStandby(testing.TB, *pgserver.Server) (*Replica, error) { return nil, errNoStandby }
