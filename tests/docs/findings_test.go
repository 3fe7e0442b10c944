package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/check"
)

// TestFindingsAreExplained: reports link to the heading of each code, so each has one, and there are no others. What stands
// under it begins with its severity, and answers the same three questions.
func TestFindingsAreExplained(t *testing.T) {
	findings := readPages(t, "docs/findings.md")[0]
	sections := map[string]string{}
	var order []string
	for _, part := range strings.Split(findings.text, "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		require.NotContains(t, sections, heading, "twice")
		sections[heading] = strings.TrimSpace(text)
		order = append(order, heading)
	}
	require.Len(t, regexp.MustCompile(`(?m)^#`).FindAllString(findings.prose(), -1), 1+len(order), "no headings of other levels")
	anchors := findings.anchors()
	for _, rule := range slices.Concat(check.Rules(), check.NoteRules()) {
		code := string(rule.Code)
		text, explained := sections[code]
		require.True(t, explained, "%s has no heading", code)
		severity := rule.Severity.String()
		require.True(t, strings.HasPrefix(text, strings.ToUpper(severity[:1])+severity[1:]+". "), "%s is %s", code, severity)
		for _, part := range []string{"\n- **Attack**: ", "\n- **Fix**: ", "\n- **If it is meant**: "} {
			require.Equal(t, 1, strings.Count(text, part), "%s: %s", code, part)
		}
		require.Equal(t, fmt.Sprintf("https://github.com/gormtenancy/tenancy/blob/main/%s#%s", findings.name, code), rule.Code.URL())
		require.True(t, anchors[code])
	}
	for _, heading := range order {
		known := false
		for _, rule := range slices.Concat(check.Rules(), check.NoteRules()) {
			known = known || string(rule.Code) == heading
		}
		require.True(t, known, "%s is no code", heading)
	}
}
