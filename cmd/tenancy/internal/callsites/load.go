package callsites

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/packages"
)

// program is the loaded program, and what is found in it.
type program struct {
	dir     string
	fset    *token.FileSet
	pkgs    []*packages.Package
	parents map[ast.Node]ast.Node
	infos   map[*ast.File]*types.Info
	bodies  map[*types.Func]*ast.FuncDecl // the functions that the program declares
	defs    map[*types.Var][]def          // of local variables
	methods map[string][]*types.Func      // of the program's types, by name: what an interface may call
	flow    *flow
	sites   []*site
	calls   map[any][]caller     // by function: *types.Func or *ast.FuncLit
	values  map[*types.Func]bool // functions that are used as values, so that any code may call them
	started map[any]bool         // functions that a go statement starts
}

// caller is a place that calls a function. Its call is nil where the function is only written there.
type caller struct {
	call *ast.CallExpr
	in   any // the function around it: *types.Func, *ast.FuncLit, or nil for an initializer
}

func load(ctx context.Context, dir string, o Options) (*program, error) {
	patterns := o.Patterns
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	pkgs, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Context: ctx, Dir: dir, Tests: o.Tests}, patterns...)
	if err != nil {
		return nil, fmt.Errorf("load the packages: %w", err)
	}
	p := &program{
		dir: dir, parents: map[ast.Node]ast.Node{}, infos: map[*ast.File]*types.Info{}, bodies: map[*types.Func]*ast.FuncDecl{},
		defs: map[*types.Var][]def{}, methods: map[string][]*types.Func{}, flow: newFlow(), calls: map[any][]caller{},
		values: map[*types.Func]bool{}, started: map[any]bool{},
	}
	if err := p.add(pkgs); err != nil {
		return nil, err
	}
	return p, nil
}

// add takes the packages in, and refuses those that do not compile. A file that several packages have, as with tests, is taken once.
func (p *program) add(pkgs []*packages.Package) error {
	var problems []string
	seen := map[string]bool{}
	for _, pkg := range pkgs {
		for _, e := range pkg.Errors {
			// The go command also reports what keeps no code from being read, such as an embedded file that is not built yet.
			if e.Kind != packages.ListError || len(pkg.Syntax) == 0 {
				problems = append(problems, e.Error())
			}
		}
		p.fset = pkg.Fset
		var files []*ast.File
		for _, file := range pkg.Syntax {
			if name := p.fset.Position(file.Package).Filename; !seen[name] {
				seen[name] = true
				files = append(files, file)
			}
		}
		if len(files) > 0 {
			pkg.Syntax = files
			p.pkgs = append(p.pkgs, pkg)
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("the program does not compile, so it cannot be checked: %s", summary(problems))
	}
	if len(p.pkgs) == 0 {
		return errors.New("the patterns match no package with Go files")
	}
	for _, pkg := range p.pkgs {
		for _, file := range pkg.Syntax {
			p.infos[file] = pkg.TypesInfo
			p.addParents(file)
			p.addFunctions(file, pkg.TypesInfo)
		}
	}
	return nil
}

func summary(problems []string) string {
	const most = 5
	if more := len(problems) - most; more > 0 {
		problems = append(problems[:most:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(problems, "\n  ")
}

func (p *program) addParents(file *ast.File) {
	var stack []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		if len(stack) > 0 {
			p.parents[n] = stack[len(stack)-1]
		}
		stack = append(stack, n)
		return true
	})
}

func (p *program) addFunctions(file *ast.File, info *types.Info) {
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		fn, ok := info.Defs[f.Name].(*types.Func)
		if !ok {
			continue
		}
		p.bodies[fn] = f
		if f.Recv != nil {
			p.methods[fn.Name()] = append(p.methods[fn.Name()], fn)
		}
	}
}

// implementations returns the program's methods that a call of an interface's method may reach.
func (p *program) implementations(method *types.Func) []*types.Func {
	iface, ok := method.Signature().Recv().Type().Underlying().(*types.Interface)
	if !ok {
		return nil
	}
	var found []*types.Func
	for _, m := range p.methods[method.Name()] {
		recv := m.Signature().Recv().Type()
		if types.Implements(recv, iface) || types.Implements(types.NewPointer(recv), iface) {
			found = append(found, m)
		}
	}
	return found
}

// around returns the nearest function around a node: *types.Func, *ast.FuncLit, or nil in an initializer.
func (p *program) around(n ast.Node) any {
	for n = p.parents[n]; n != nil; n = p.parents[n] {
		switch f := n.(type) {
		case *ast.FuncLit:
			return f
		case *ast.FuncDecl:
			return p.infoOf(f).Defs[f.Name]
		}
	}
	return nil
}

func (p *program) fileOf(n ast.Node) *ast.File {
	for n != nil {
		if f, ok := n.(*ast.File); ok {
			return f
		}
		n = p.parents[n]
	}
	return nil
}

func (p *program) infoOf(n ast.Node) *types.Info { return p.infos[p.fileOf(n)] }
