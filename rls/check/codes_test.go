package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A code is the name of its constant in lower case, with a dash before each word. RLS is one, and so are CVE and its two numbers.
var words = regexp.MustCompile(`RLS|[A-Z][a-z]*`)

func codeOf(constant string) string {
	name, number, isCVE := strings.Cut(constant, "CVE")
	list := words.FindAllString(name, -1)
	if isCVE {
		list = append(list, "CVE", number[:4], number[4:])
	}
	return strings.ToLower(strings.Join(list, "-"))
}

func TestCodesEqualTheirConstants(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	require.NoError(t, err)
	codes := map[Code]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.Equal(t, codeOf(spec.Names[0].Name), text)
		require.Equal(t, "Code", spec.Type.(*ast.Ident).Name)
		codes[Code(text)] = true
		return true
	})
	delete(codes, SharedTable) // which is never found
	for _, r := range append(Rules(), NoteRules()...) {
		require.Contains(t, codes, r.Code)
		delete(codes, r.Code)
	}
	require.Empty(t, codes, "each code has a rule")
}
