// Package docs tests README, the changelog and the pages of docs: their Go snippets compile, the first program of README
// runs, links lead somewhere, tests that are named exist, and what is counted is right.
package docs

import (
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

const root = "../.."

// page is a Markdown file of the project.
type page struct {
	name string // relative to the root
	text string
}

// pages returns the pages at the root and in docs.
func pages(t *testing.T) []page {
	t.Helper()
	return readPages(t, "*.md", "docs/*.md")
}

func readPages(t *testing.T, patterns ...string) []page {
	t.Helper()
	var all []page
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, names, pattern)
		for _, name := range names {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			name, err = filepath.Rel(root, name)
			require.NoError(t, err)
			all = append(all, page{filepath.ToSlash(name), string(text)})
		}
	}
	return all
}

// snippet is a fenced block of code.
type snippet struct {
	language, code string
	line           int // of its first line of code
}

// snippets returns the fenced blocks of a page.
func (p page) snippets() []snippet {
	var all []snippet
	var open *snippet
	for n, line := range strings.Split(p.text, "\n") {
		switch language, fence := strings.CutPrefix(line, "```"); {
		case fence && open == nil:
			open = &snippet{language: language, line: n + 2}
		case fence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.code += line + "\n"
		}
	}
	return all
}

// prose returns the page without its fenced blocks.
func (p page) prose() string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(p.text, "")
}

func TestSnippetsCompile(t *testing.T) {
	exports := compiled(t)
	programs, fragments := 0, 0
	for _, p := range pages(t) {
		for _, s := range p.snippets() {
			if s.language == "go" && strings.HasPrefix(s.code, "package ") {
				programs++
				require.Empty(t, exports.check(p.name, s), "a program of %s", p.name)
			}
		}
		n, problems := exports.checkFragments(p)
		fragments += n
		require.Empty(t, problems, "the fragments of %s", p.name)
	}
	require.Positive(t, programs)
	require.Positive(t, fragments)
}

// A check that finds nothing wrong in wrong snippets would prove nothing.
func TestSnippetsThatDoNotCompile(t *testing.T) {
	exports := compiled(t)
	for name, code := range map[string]string{
		"undefined name":     "fmt.Println(tokens)",
		"undefined function": "tenancy.Frobnicate()",
		"undefined method":   "var db *gorm.DB\ndb.Frobnicate()",
		"wrong type":         "var db *gorm.DB = 1",
		"declaration":        "func f() { g() }",
		"syntax":             "if {",
	} {
		t.Run(name, func(t *testing.T) {
			n, problems := exports.checkFragments(page{"made up", "```go\n" + code + "\n```\n"})
			require.Equal(t, 1, n)
			require.NotEmpty(t, problems)
			require.True(t, strings.HasPrefix(problems[0], "made up:2:") || strings.HasPrefix(problems[0], "made up:3:"), problems[0])
		})
	}
	require.NotEmpty(t, exports.check("made up", snippet{code: "package main\n\nfunc main() { undefined() }\n", line: 1}))
	_, problems := exports.checkFragments(page{"made up", "```go\nvar name string\n```\n```go\nname = \"\"\nunused := 1\n```\n"})
	require.Empty(t, problems, "names of the same page, and variables that are not used, are fine")
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	anchors := map[string]map[string]bool{}
	all := append(pages(t), readPages(t, "examples/*/README.md")...)
	for _, p := range all {
		anchors[p.name] = p.anchors()
	}
	for _, p := range all {
		for _, found := range link.FindAllStringSubmatch(p.prose(), -1) {
			target := found[1]
			if strings.Contains(target, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			name := p.name
			if file != "" {
				name = filepath.ToSlash(filepath.Join(filepath.Dir(p.name), file))
				require.FileExistsf(t, existing(filepath.Join(root, name)), "%s links to %s", p.name, target)
			}
			if anchor != "" {
				require.Truef(t, anchors[name][anchor], "%s links to %s, and there is no such heading", p.name, target)
			}
		}
	}
}

// existing returns the path, or a file in it if it is a directory.
func existing(path string) string {
	if files, _ := filepath.Glob(filepath.Join(path, "*.*")); len(files) > 0 {
		return files[0]
	}
	return path
}

// anchors returns what GitHub makes of the page's headings.
func (p page) anchors() map[string]bool {
	found := map[string]bool{}
	drop := regexp.MustCompile("[^a-z0-9 _-]")
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(p.prose(), -1) {
		found[strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-")] = true
	}
	return found
}

func TestNamedTestsExist(t *testing.T) {
	// [`TestA`, `TestB`](file_test.go)
	link := regexp.MustCompile("\\[((?:`Test[A-Za-z]+`(?:, )?)+)\\]\\(([^)]+)\\)")
	named := 0
	for _, p := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(p.text, -1) {
			source, err := os.ReadFile(filepath.Join(root, filepath.Dir(p.name), found[2]))
			require.NoError(t, err, p.name)
			for _, test := range strings.Split(found[1], ", ") {
				test = strings.Trim(test, "`")
				require.True(t, token.IsIdentifier(test))
				require.Containsf(t, string(source), "func "+test+"(", "%s names it as a test of %s", p.name, found[2])
				named++
			}
		}
	}
	require.Positive(t, named)
}

// TestPlainEnglish looks for words that the project has better ones for.
func TestPlainEnglish(t *testing.T) {
	avoided := regexp.MustCompile(`(?i)\b(can't|doesn't|don't|isn't|won't|anew|mends?|mended|whoever|nobody|no one|whom|look-ups?|doors?)\b`)
	for _, p := range append(pages(t), readPages(t, "examples/*/README.md")...) {
		for n, line := range strings.Split(p.text, "\n") {
			if word := avoided.FindString(line); word != "" {
				t.Errorf("%s:%d: %q", p.name, n+1, word)
			}
		}
	}
}
