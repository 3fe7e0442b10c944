package callsites

import (
	"go/ast"
	"go/types"
)

// atHand returns the expression of a context that a place can use: of the nearest scope, a context rather than what has one. It is
// empty if there is none, and for a context that plainly has no tenant.
func (p *program) atHand(n ast.Node) string {
	file := p.fileOf(n)
	info := p.infos[file]
	scope := info.Scopes[file].Innermost(n.Pos())
	for ; scope != nil && scope != info.Scopes[file]; scope = scope.Parent() {
		second := ""
		for _, name := range scope.Names() {
			v, ok := scope.Lookup(name).(*types.Var)
			if !ok || name == "_" || !p.declaredBefore(v, n) {
				continue
			}
			use := p.contextIn(v)
			if use == name && !p.isBackgroundAt(v, n) {
				return use
			}
			if use != "" && use != name {
				second = use
			}
		}
		if second != "" {
			return second
		}
	}
	return ""
}

func (p *program) declaredBefore(v *types.Var, n ast.Node) bool {
	if len(p.defs[v]) == 0 {
		return v.Pos() < n.Pos()
	}
	for _, d := range p.reaching(v, n) {
		if d.stmt.Pos() < n.Pos() && (!encloses(d.stmt, n) || isFunc(d.stmt)) {
			return v.Pos() < n.Pos()
		}
	}
	return false
}

func isFunc(n ast.Node) bool {
	switch n.(type) {
	case *ast.FuncDecl, *ast.FuncLit, *ast.RangeStmt:
		return true
	}
	return false
}

// isBackgroundAt reports whether all that a variable may hold at a place is a context without a tenant.
func (p *program) isBackgroundAt(v *types.Var, n ast.Node) bool {
	reaching := p.reaching(v, n)
	for _, d := range reaching {
		if d.rhs == nil || !p.isBackground(d.rhs, p.infoOf(d.stmt)) {
			return false
		}
	}
	return len(reaching) > 0
}

// contextIn returns the expression of the context that a variable is or has, by what types of the usual libraries have in common:
// r.Context() of net/http, gRPC, chi and cobra, c.Request.Context() of gin, c.Request().Context() of echo, c.UserContext() of fiber.
func (p *program) contextIn(v *types.Var) string {
	t := v.Type()
	if isContext(t) {
		return v.Name()
	}
	if structure, ok := structOf(t); ok && !isDB(t) {
		for f := range structure.Fields() {
			if f.Name() == "Request" && isNamed(f.Type(), "net/http", "Request") {
				return v.Name() + ".Request.Context()"
			}
		}
	}
	for _, m := range []struct{ method, use string }{{"UserContext", ".UserContext()"}, {"Context", ".Context()"}} {
		if method := lookupMethod(v, m.method); method != nil && returnsOnly(method, isContext) {
			return v.Name() + m.use
		}
	}
	request := func(t types.Type) bool { return isNamed(t, "net/http", "Request") }
	if method := lookupMethod(v, "Request"); method != nil && returnsOnly(method, request) {
		return v.Name() + ".Request().Context()"
	}
	return ""
}

func lookupMethod(v *types.Var, name string) *types.Func {
	object, _, _ := types.LookupFieldOrMethod(v.Type(), true, v.Pkg(), name)
	method, _ := object.(*types.Func)
	return method
}

func returnsOnly(method *types.Func, of func(types.Type) bool) bool {
	signature := method.Signature()
	return signature.Params().Len() == 0 && signature.Results().Len() == 1 && of(signature.Results().At(0).Type())
}

// goroutineBelow reports whether a go statement stands between a place and the context that it can use.
func (p *program) goroutineBelow(n ast.Node, use string) bool {
	for n = p.parents[n]; n != nil; n = p.parents[n] {
		lit, ok := n.(*ast.FuncLit)
		if !ok {
			continue
		}
		for v := range signatureOf(lit, p.infoOf(lit)).Params().Variables() {
			if p.contextIn(v) == use {
				return false
			}
		}
		if p.started[lit] {
			inner := p.infoOf(lit).Scopes[lit.Type].Innermost(lit.Body.End() - 1)
			return inner == nil || p.atHand(lit) == use
		}
	}
	return false
}
