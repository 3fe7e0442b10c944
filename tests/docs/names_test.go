package docs

import (
	"go/token"
	"go/types"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// short are types whose members pages name without their package.
var short = map[string]string{"Config": "tenancy.Config", "Isolation": "rls.Isolation"}

// TestNamesExist: what a page says in code of a package of this module, such as tenancy.Config, rls.Isolation.Migrate or
// Config.AppRole, is there.
func TestNamesExist(t *testing.T) {
	load := compiled(t).importer(token.NewFileSet())
	own := map[string]*types.Package{}
	for name, path := range packages {
		if strings.HasPrefix(path, module) {
			p, err := load.Import(path)
			require.NoError(t, err)
			own[name] = p
		}
	}
	named := regexp.MustCompile(`\b(?:([a-z]+)\.)?([A-Z]\w*)(?:\.([A-Z]\w*))?`)
	checked := 0
	for _, p := range append(pages(t), readPages(t, "examples/*/README.md")...) {
		for _, code := range regexp.MustCompile("`[^`\n]+`").FindAllString(p.prose(), -1) {
			for _, name := range named.FindAllStringSubmatch(code, -1) {
				pkg, typ, member := name[1], name[2], name[3]
				if full, ok := short[typ]; ok && pkg == "" && member != "" {
					pkg, _, _ = strings.Cut(full, ".")
				}
				if own[pkg] == nil {
					continue
				}
				checked++
				object := own[pkg].Scope().Lookup(typ)
				if object == nil {
					t.Errorf("%s names %s, and package %s has no %s", p.name, code, pkg, typ)
					continue
				}
				if member == "" {
					continue
				}
				if found, _, _ := types.LookupFieldOrMethod(object.Type(), true, own[pkg], member); found == nil {
					t.Errorf("%s names %s, and %s.%s has no %s", p.name, code, pkg, typ, member)
				}
			}
		}
	}
	require.Greater(t, checked, 50)
}
