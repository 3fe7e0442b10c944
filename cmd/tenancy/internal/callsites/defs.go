package callsites

import (
	"go/ast"
	"go/token"
	"go/types"
)

// def is an assignment to a local variable.
type def struct {
	node any      // in the flow
	stmt ast.Node // the statement, or the function for a parameter
	rhs  ast.Expr // what is assigned, nil if it is not one expression
	weak bool     // it adds to what the variable held, as an assignment to an element does
}

func (d def) start() token.Pos { return d.stmt.Pos() }

// reaching returns the assignments whose value a use of a variable may see: the last one that must have run before the use, and those
// that may have run between the two.
func (p *program) reaching(v *types.Var, use ast.Node) []def {
	all := p.defs[v]
	dominating := -1
	for i, d := range all {
		if !d.weak && p.runsBefore(d, use) && (dominating < 0 || d.start() > all[dominating].start()) {
			dominating = i
		}
	}
	if dominating < 0 {
		return all
	}
	last := all[dominating]
	reaching := []def{last}
	for i, d := range all {
		if i == dominating || d.start() <= last.start() {
			continue
		}
		if d.stmt.End() <= use.Pos() || p.around(d.stmt) != p.around(use) || p.shareLoop(d.stmt, use, last.start()) {
			reaching = append(reaching, d)
		}
	}
	return reaching
}

// runsBefore reports whether an assignment has run whenever the use runs: it stands before it, in a block around it.
func (p *program) runsBefore(d def, use ast.Node) bool {
	switch d.stmt.(type) {
	case *ast.FuncDecl, *ast.FuncLit, *ast.RangeStmt:
		return encloses(d.stmt, use)
	}
	if d.stmt.End() > use.Pos() {
		return false
	}
	block := p.parents[d.stmt]
	for {
		switch block.(type) {
		case *ast.DeclStmt, *ast.GenDecl, *ast.LabeledStmt:
			block = p.parents[block]
			continue
		}
		return block != nil && encloses(block, use)
	}
}

func encloses(outer, inner ast.Node) bool {
	return outer.Pos() <= inner.Pos() && inner.End() <= outer.End()
}

// shareLoop reports whether a loop that begins after a position holds both nodes: then the later one may run before the other.
func (p *program) shareLoop(a, b ast.Node, after token.Pos) bool {
	for n := p.parents[a]; n != nil && n.Pos() > after; n = p.parents[n] {
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			if encloses(n, b) {
				return true
			}
		}
	}
	return false
}

// isLocal reports whether a variable is one of a function: assignments to it have an order.
func isLocal(v *types.Var) bool {
	return !v.IsField() && v.Parent() != nil && v.Pkg() != nil && v.Parent() != v.Pkg().Scope()
}

// isBackground reports whether a context plainly has no tenant: context.Background() or TODO(), or one that is made of it.
func (p *program) isBackground(e ast.Expr, info *types.Info) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		if e.Name == "nil" {
			return true
		}
		v, ok := info.Uses[e].(*types.Var)
		if !ok || !isLocal(v) {
			return false
		}
		reaching := p.reaching(v, e)
		for _, d := range reaching {
			if d.rhs == nil || d.rhs.Pos() >= e.Pos() || !p.isBackground(d.rhs, info) {
				return false
			}
		}
		return len(reaching) > 0
	case *ast.CallExpr:
		selector, ok := ast.Unparen(e.Fun).(*ast.SelectorExpr)
		if !ok {
			return false
		}
		fn, ok := info.Uses[selector.Sel].(*types.Func)
		if !ok || fn.Pkg() == nil || (fn.Pkg().Path() != "context" && fn.FullName() != "os/signal.NotifyContext") {
			return false
		}
		switch fn.Name() {
		case "Background", "TODO":
			return true
		case "WithValue":
			return false
		}
		return len(e.Args) > 0 && p.isBackground(e.Args[0], info)
	}
	return false
}
