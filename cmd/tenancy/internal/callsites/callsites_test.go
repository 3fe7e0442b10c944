package callsites_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/cmd/tenancy/internal/callsites"
)

// Each line of the program says in a comment what is to be found there, and no other line has anything.
func TestRunFindsWhatTheProgramSays(t *testing.T) {
	report, err := callsites.Run(t.Context(), callsites.Options{Dir: "testdata/shop"})
	require.NoError(t, err)
	require.Equal(t, 2, report.Packages)
	found := []string{}
	for _, s := range report.Sites {
		found = append(found, fmt.Sprintf("%s:%d %s", s.File, s.Line, strings.TrimSpace(string(s.Group)+" "+s.Use+string(s.Reason))))
	}
	for _, c := range report.Caches {
		found = append(found, fmt.Sprintf("%s:%d cache %s", c.File, c.Line, c.Cache))
	}
	slices.Sort(found)
	require.Equal(t, wanted(t, "testdata/shop"), found)
	require.Greater(t, report.Calls, len(report.Sites), "those with a context are counted too")
}

func wanted(t *testing.T, dir string) []string {
	t.Helper()
	comment := regexp.MustCompile(`// want (.*)$`)
	var lines []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for n, line := range strings.Split(string(text), "\n") {
			if m := comment.FindStringSubmatch(line); m != nil {
				name, _ := filepath.Rel(dir, path)
				lines = append(lines, fmt.Sprintf("%s:%d %s", filepath.ToSlash(name), n+1, m[1]))
			}
		}
		return err
	}))
	slices.Sort(lines)
	return lines
}

func TestRunNamesTheCallersThatHaveAContext(t *testing.T) {
	report, err := callsites.Run(t.Context(), callsites.Options{Dir: "testdata/shop"})
	require.NoError(t, err)
	i := slices.IndexFunc(report.Sites, func(s callsites.Site) bool { return s.Function == "(*Store).Named" })
	require.GreaterOrEqual(t, i, 0)
	require.Regexp(t, `^1 of 1 callers have one, such as store/store\.go:\d+: r\.Context\(\)$`, report.Sites[i].Note)
}

func TestRunRefusesWhatDoesNotCompile(t *testing.T) {
	_, err := callsites.Run(t.Context(), callsites.Options{Dir: "testdata/plain"})
	require.ErrorContains(t, err, "does not compile")
	_, err = callsites.Run(t.Context(), callsites.Options{Dir: "testdata/shop", Patterns: []string{"./none"}})
	require.Error(t, err)
}
