package docs

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documented are the folders of the packages whose comments have code.
var documented = []string{".", "rls", "rls/check", "tenanthttp", "tenanthttp/apikey", "tenanthttp/idempotency", "tenanttest"}

// TestCommentsNameWhatExists: code in doc comments may use names out of nowhere, such as ctx, but what it takes from a package is
// there. That of other languages is not looked at.
func TestCommentsNameWhatExists(t *testing.T) {
	exports := compiled(t)
	blocks := 0
	for _, folder := range documented {
		for _, code := range codeOf(t, filepath.Join(root, folder)) {
			if _, err := parseFragment(token.NewFileSet(), folder, snippet{code: code, line: 1}); err != nil {
				require.NotContains(t, code, ":=", "Go that cannot be parsed, in a comment of %s: %v", folder, err)
				continue
			}
			blocks++
			_, problems := exports.checkFragments(page{folder, "```go\n" + code + "\n```\n"})
			for _, problem := range problems {
				_, name, undefined := strings.Cut(problem, "undefined: ")
				if !undefined || strings.Contains(name, ".") {
					t.Errorf("in a comment of %s: %s\n%s", folder, problem, code)
				}
			}
		}
	}
	require.Greater(t, blocks, 8)
}

// codeOf returns the blocks of code in the doc comments of a package.
func codeOf(t *testing.T, folder string) []string {
	t.Helper()
	files := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	var parsed []*ast.File
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(files, name, nil, parser.ParseComments)
			require.NoError(t, err)
			parsed = append(parsed, file)
		}
	}
	p, err := doc.NewFromFiles(files, parsed, "p")
	require.NoError(t, err)

	texts := []string{p.Doc}
	values := func(list []*doc.Value) {
		for _, v := range list {
			texts = append(texts, v.Doc)
		}
	}
	functions := func(list []*doc.Func) {
		for _, f := range list {
			texts = append(texts, f.Doc)
		}
	}
	values(p.Consts)
	values(p.Vars)
	functions(p.Funcs)
	for _, typ := range p.Types {
		texts = append(texts, typ.Doc)
		values(typ.Consts)
		values(typ.Vars)
		functions(typ.Funcs)
		functions(typ.Methods)
	}
	var code []string
	for _, text := range texts {
		for _, block := range p.Parser().Parse(text).Content {
			if c, ok := block.(*comment.Code); ok {
				code = append(code, c.Text)
			}
		}
	}
	return code
}
