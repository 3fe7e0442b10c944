package callsites

import (
	"fmt"
	"go/ast"
	"go/types"
)

// why says why a site has no context at hand, and what helps.
func (p *program) why(s *site) (Reason, string) {
	fn := p.around(s.call)
	switch {
	case p.inMigration(s.call):
		return Migration, ""
	case p.startsUp(fn, map[any]bool{}):
		return StartUp, ""
	}
	if reason := p.repeated(s.call, map[any]bool{}); reason != "" {
		return reason, ""
	}
	note := p.callersWithContext(fn)
	if v := p.packageVariable(s.db); v != nil {
		return PackageVariable, join("the *gorm.DB is "+v.Name(), note)
	}
	return Parameters, note
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}

// inMigration reports whether a place is in a function that a library of migrations calls.
func (p *program) inMigration(n ast.Node) bool {
	for ; n != nil; n = p.parents[n] {
		switch n := n.(type) {
		case *ast.CompositeLit:
			structure, ok := structOf(p.infoOf(n).TypeOf(n))
			if ok && structure.NumFields() > 0 && isMigration(structure.Field(0)) {
				return true
			}
		case *ast.CallExpr:
			if fn := callee(ast.Unparen(n.Fun), p.infoOf(n)); fn != nil && fn.Pkg() != nil && fn.Pkg().Name() == gormigrate {
				return true
			}
		}
	}
	return false
}

// startsUp reports whether a function runs only while the program starts: main, init, initializers, and what only they call.
func (p *program) startsUp(fn any, seen map[any]bool) bool {
	if fn == nil {
		return true
	}
	if seen[fn] {
		return true // a function that calls itself adds no other caller
	}
	seen[fn] = true
	callers := p.calls[fn]
	switch fn := fn.(type) {
	case *types.Func:
		if fn.Signature().Recv() == nil && (fn.Name() == "init" || (fn.Name() == "main" && fn.Pkg().Name() == "main")) {
			return true
		}
		if p.values[fn] {
			return false
		}
	case *ast.FuncLit:
		if p.started[fn] {
			return false
		}
		callers = append(callers, caller{nil, p.around(fn)})
	}
	for _, c := range callers {
		if p.started[fn] || !p.startsUp(c.in, seen) {
			return false
		}
	}
	return len(callers) > 0
}

// repeated reports whether a place is in a goroutine, or is run by a timer.
func (p *program) repeated(n ast.Node, seen map[any]bool) Reason {
	reason := Reason("")
	for at := n; at != nil; at = p.parents[at] {
		switch at := at.(type) {
		case *ast.ForStmt:
			if p.waitsForTimer(at.Body) {
				return Ticker
			}
		case *ast.RangeStmt:
			if isNamed(elem(p.infoOf(at).TypeOf(at.X)), "time", "Time") {
				return Ticker
			}
		case *ast.FuncLit:
			if call, ok := p.parents[at].(*ast.CallExpr); ok {
				if fn := callee(ast.Unparen(call.Fun), p.infoOf(call)); fn != nil && fn.FullName() == "time.AfterFunc" {
					return Ticker
				}
			}
			if p.started[at] {
				reason = Goroutine
			}
		}
	}
	fn := p.declared(n)
	if fn == nil || seen[fn] {
		return reason
	}
	seen[fn] = true
	if p.started[fn] {
		reason = Goroutine
	}
	callers := p.calls[fn]
	for _, c := range callers {
		above := p.repeated(c.call, seen)
		if above == "" {
			return reason
		}
		if reason == "" || above == Ticker {
			reason = above
		}
	}
	return reason
}

func elem(t types.Type) types.Type {
	if t == nil {
		return types.Typ[types.Invalid]
	}
	if c, ok := t.Underlying().(*types.Chan); ok {
		return c.Elem()
	}
	return types.Typ[types.Invalid]
}

// declared returns the declared function around a place.
func (p *program) declared(n ast.Node) any {
	for n != nil {
		if f, ok := n.(*ast.FuncDecl); ok {
			return p.infoOf(f).Defs[f.Name]
		}
		n = p.parents[n]
	}
	return nil
}

// waitsForTimer reports whether a loop receives from a channel of times, itself and not in a function that it makes.
func (p *program) waitsForTimer(body *ast.BlockStmt) bool {
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.UnaryExpr:
			if n.Op.String() == "<-" && isNamed(elem(p.infoOf(n).TypeOf(n.X)), "time", "Time") {
				found = true
			}
		}
		return !found
	})
	return found
}

// packageVariable returns the package variable that a chain begins with.
func (p *program) packageVariable(e ast.Expr) *types.Var {
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.CallExpr:
			e = x.Fun
		case *ast.SelectorExpr:
			if v, ok := p.infoOf(x).Uses[x.Sel].(*types.Var); ok && !v.IsField() {
				return v
			}
			e = x.X
		case *ast.Ident:
			v, ok := p.infoOf(x).Uses[x].(*types.Var)
			if !ok || v.IsField() || isLocal(v) {
				return nil
			}
			return v
		default:
			return nil
		}
	}
}

// callersWithContext says which of the nearest callers that have a context could pass it on.
func (p *program) callersWithContext(fn any) string {
	seen := map[any]bool{}
	level := []any{fn}
	for depth := 1; depth <= 8 && len(level) > 0; depth++ {
		var next []any
		having, all, such := 0, 0, ""
		for _, f := range level {
			if lit, ok := f.(*ast.FuncLit); ok {
				f = p.declared(lit)
			}
			if f == nil || seen[f] {
				continue
			}
			seen[f] = true
			for _, c := range p.calls[f] {
				all++
				at := c.call
				if use := p.atHand(at); use != "" {
					having++
					if where := fmt.Sprintf("%s: %s", p.short(at), use); such == "" || where < such {
						such = where
					}
				}
				next = append(next, c.in)
			}
		}
		if having > 0 {
			return fmt.Sprintf("%d of %d %s one, such as %s", having, all, distance(depth), such)
		}
		level = next
	}
	return ""
}

func distance(depth int) string {
	switch depth {
	case 1:
		return "callers have"
	case 2:
		return "callers of its callers have"
	}
	return fmt.Sprintf("callers %d levels up have", depth)
}
