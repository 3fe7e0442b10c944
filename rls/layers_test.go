package rls_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImportsRunOneWay: each package may import those before it in the list, and no other of this module.
func TestImportsRunOneWay(t *testing.T) {
	const module = "github.com/gormtenancy/tenancy/"
	layers := []string{"internal/gormtx", "internal/sqltext", "internal/clock", "internal/tenantlock", "internal/signing", "internal/policy", "rls/internal/audit", "rls/internal/catalog", "rls/internal/locks", "rls/internal/model", "rls/internal/plan", "rls/internal/visible", "rls/check", "rls", "rls/lifecycle"}
	allowed := map[string]bool{module + "internal/guard": true} // which knows none of them but those up to signing
	for _, layer := range layers {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, module+layer).Output()
		require.NoError(t, err)
		for _, path := range strings.Fields(string(out)) {
			if strings.HasPrefix(path, module) {
				require.True(t, allowed[path], "%s imports %s", layer, path)
			}
		}
		allowed[module+layer] = true
	}
}
