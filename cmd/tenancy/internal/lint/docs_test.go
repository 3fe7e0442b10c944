package lint

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page has a section for each rule, in their order, that begins with its severity.
func TestRulesAreDocumented(t *testing.T) {
	sections := regexp.MustCompile(`(?m)^## (\S+)\n\n(\w+)\.`).FindAllStringSubmatch(read(t, "../../../../docs/lint.md"), -1)
	require.Len(t, sections, len(Rules()))
	for i, rule := range Rules() {
		require.Equal(t, rule.Code, sections[i][1])
		require.Equal(t, rule.Severity.String(), string(sections[i][2][0]|0x20)+sections[i][2][1:])
	}
}
