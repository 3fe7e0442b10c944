package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/gormtenancy/tenancy"

// packages are what fragments can use without an import, by the name that they have in the code.
var packages = map[string]string{
	"context": "context",
	"errors":  "errors",
	"fmt":     "fmt",
	"http":    "net/http",
	"log":     "log",
	"slog":    "log/slog",
	"os":      "os",
	"sql":     "database/sql",
	"testing": "testing",
	"time":    "time",

	"gorm":     "gorm.io/gorm",
	"clause":   "gorm.io/gorm/clause",
	"postgres": "gorm.io/driver/postgres",
	"pgx":      "github.com/jackc/pgx/v5",

	"singleflight": "golang.org/x/sync/singleflight",
	"pgconn":       "github.com/jackc/pgx/v5/pgconn",

	"tenancy":     "github.com/gormtenancy/tenancy",
	"rls":         "github.com/gormtenancy/tenancy/rls",
	"check":       "github.com/gormtenancy/tenancy/rls/check",
	"tenanthttp":  "github.com/gormtenancy/tenancy/tenanthttp",
	"lifecycle":   "github.com/gormtenancy/tenancy/rls/lifecycle",
	"placement":   "github.com/gormtenancy/tenancy/placement",
	"apikey":      "github.com/gormtenancy/tenancy/tenanthttp/apikey",
	"once":        "github.com/gormtenancy/tenancy/tenanthttp/once",
	"idempotency": "github.com/gormtenancy/tenancy/tenanthttp/idempotency",
	"tenanttest":  "github.com/gormtenancy/tenancy/tenanttest",

	"tenancyriver":     "github.com/gormtenancy/tenancy/tenancyriver",
	"river":            "github.com/riverqueue/river",
	"rivertype":        "github.com/riverqueue/river/rivertype",
	"rivermigrate":     "github.com/riverqueue/river/rivermigrate",
	"riverdatabasesql": "github.com/riverqueue/river/riverdriver/riverdatabasesql",

	"dbresolver":  "gorm.io/plugin/dbresolver",
	"gormigrate":  "github.com/go-gormigrate/gormigrate/v2",
	"casbin":      "github.com/casbin/casbin/v3",
	"gormadapter": "github.com/casbin/gorm-adapter/v3",
}

// compiler checks code against the packages as the go command has compiled them.
type compiler struct {
	files map[string]string // export data, by import path
}

// compiled has the go command compile the packages.
func compiled(t *testing.T) compiler {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}
	for _, path := range packages {
		args = append(args, path)
	}
	cmd := exec.Command("go", args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	require.NoError(t, err, problems.String())
	c := compiler{map[string]string{}}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		c.files[path] = file
	}
	return c
}

// check returns what is wrong with a complete file.
func (c compiler) check(name string, s snippet) []string {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source(name, s, "", ""), parser.AllErrors)
	if err != nil {
		return []string{err.Error()}
	}
	return c.types(files, file)
}

// checkFragments returns how many Go snippets of the page are not complete files, and what is wrong with them. They are one
// package: a fragment is declarations, which all of the page can use, or else the body of a function. There, err can be assigned
// to and returned.
func (c compiler) checkFragments(p page) (n int, problems []string) {
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, s := range p.snippets() {
		if s.language != "go" || strings.HasPrefix(s.code, "package ") {
			continue
		}
		n++
		file, err := parseFragment(files, p.name, s)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		addImports(files, file)
		parsed = append(parsed, file)
	}
	return n, append(problems, c.types(files, parsed...)...)
}

// parseFragment parses declarations, or else the body of a function.
func parseFragment(files *token.FileSet, name string, s snippet) (*ast.File, error) {
	if file, err := parser.ParseFile(files, name, source(name, s, "package p; ", ""), parser.AllErrors); err == nil {
		return file, nil
	}
	return parser.ParseFile(files, name, source(name, s, "package p; func _() (err error) { { ", "}; return }"), parser.AllErrors)
}

// source returns a snippet as Go code whose positions are those in its page.
func source(name string, s snippet, before, after string) string {
	return fmt.Sprintf("%s\n//line %s:%d\n%s%s", before, name, s.line, s.code, after)
}

// addImports imports what the file uses.
func addImports(files *token.FileSet, file *ast.File) {
	used := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if name, ok := selector.X.(*ast.Ident); ok && packages[name.Name] != "" {
				used[name.Name] = true
			}
		}
		return true
	})
	for name := range used {
		declaration, err := parser.ParseFile(files, "", fmt.Sprintf("package p; import %s %q", name, packages[name]), parser.ImportsOnly)
		if err != nil {
			panic(err) // the map packages is wrong
		}
		file.Decls = append(declaration.Decls, file.Decls...)
		file.Imports = append(file.Imports, declaration.Imports...)
	}
}

// importer returns an importer of the compiled packages.
func (c compiler) importer(files *token.FileSet) types.Importer {
	return importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
		if c.files[path] == "" {
			return nil, fmt.Errorf("no package %q among those that snippets can use", path)
		}
		return os.Open(c.files[path])
	})
}

// types returns the type errors of a package, except that a variable is not used.
func (c compiler) types(files *token.FileSet, parsed ...*ast.File) (problems []string) {
	config := types.Config{
		Importer: c.importer(files),
		Error: func(err error) {
			if e, ok := err.(types.Error); !ok || !e.Soft { //nolint:errorlint // types.Config promises this type
				problems = append(problems, err.Error())
			}
		},
	}
	_, _ = config.Check("p", files, parsed, nil) // its error is the first of those
	return problems
}
