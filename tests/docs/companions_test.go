package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompanionsHaveTests: each of the twelve has a row that names a test. TestNamedTestsExist looks for the tests, and TestLinksLeadSomewhere for what
// stands for them.
func TestCompanionsHaveTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "companions.md"))
	require.NoError(t, err)
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\| ([a-z-]+) \\| ([^|]+) \\| ([^|]+) \\| \\[`Test([^|]+) \\|$").FindAllStringSubmatch(string(text), -1) {
		names = append(names, row[1])
	}
	require.Equal(t, []string{
		"jobs", "outbox", "webhook", "audit-log", "data-subject", "api-keys", "idempotency", "feature-flag", "soft-delete", "pagination",
		"safe-response", "rbac",
	}, names)
}
