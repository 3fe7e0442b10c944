package app

import (
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }
