package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/check"
)

// maxWords is how long README may be.
const maxWords = 1800

func TestReadmeIsShort(t *testing.T) {
	require.LessOrEqual(t, len(strings.Fields(readPage(t, "README.md").text)), maxWords, "words in README.md: move detail to docs")
}

// TestReadmeNamesCommands: the workflow takes them from there.
func TestReadmeNamesCommands(t *testing.T) {
	for _, command := range []string{"go run ./examples/quickstart", "make test", "go get github.com/gormtenancy/tenancy"} {
		require.Regexp(t, `(?m)^ *`+regexp.QuoteMeta(command)+`$`, readPage(t, "README.md").text)
	}
}

// TestRulesAreCounted: wherever a page says how many kinds of holes Check finds, the number is right.
func TestRulesAreCounted(t *testing.T) {
	claims := 0
	for _, p := range pages(t) {
		for _, claim := range regexp.MustCompile(`(\d+)\s+kinds\s+of\s+holes`).FindAllStringSubmatch(p.text, -1) {
			require.Equal(t, strconv.Itoa(len(check.Rules())), claim[1], "%s: %s", p.name, claim[0])
			claims++
		}
	}
	require.GreaterOrEqual(t, claims, 2, "the guide and the changelog say it")
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	for _, p := range pages(t) {
		if p.name == name {
			return p
		}
	}
	require.Fail(t, "no page "+name)
	return page{}
}

// TestVersionsAreTested: README names the versions that the workflow runs.
func TestVersionsAreTested(t *testing.T) {
	workflow, err := os.ReadFile(filepath.Join(root, ".github/workflows/ci.yml"))
	require.NoError(t, err)
	for key, says := range map[string]string{"go": "Go %s to %s", "postgres": "PostgreSQL %s to %s"} {
		list := regexp.MustCompile(`(?m)^ *` + key + `: \["([^"]+)".*"([^"]+)"\]$`).FindStringSubmatch(string(workflow))
		require.NotNil(t, list, key)
		text := strings.Join(strings.Fields(readPage(t, "README.md").text), " ")
		require.Contains(t, text, fmt.Sprintf(says, list[1], list[2]))
	}
}

// TestFindingsExist: where a page names the code of a finding, Check has it.
func TestFindingsExist(t *testing.T) {
	codes, prefixes := map[string]bool{string(check.SharedTable): true}, map[string]bool{} // which is for the allow-list only
	for _, rule := range slices.Concat(check.Rules(), check.NoteRules()) {
		prefix, _, _ := strings.Cut(string(rule.Code), "-")
		codes[string(rule.Code)], prefixes[prefix] = true, true
	}
	named := 0
	for _, p := range pages(t) {
		for _, found := range regexp.MustCompile("`(([a-z]+)-[a-z0-9-]+)`").FindAllStringSubmatch(p.text, -1) {
			if prefixes[found[2]] {
				require.True(t, codes[found[1]], "%s names the finding %s", p.name, found[1])
				named++
			}
		}
	}
	require.Positive(t, named)
}
