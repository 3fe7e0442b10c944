package app

import (
	"fmt"
	"os"
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) == "" {
		pgserver.Main(m)
	}
	if err := serve(); err != nil { // a process that TestProcessesThatAreKilledLoseNothing has started
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
