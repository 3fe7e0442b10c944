// Package roundtrip counts on the socket what GORM costs with the plugin and without.
package roundtrip

import (
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }
