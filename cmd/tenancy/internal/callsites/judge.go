package callsites

import (
	"fmt"
	"go/ast"
	"go/types"
)

// judge returns the sites that have no context, or may have none.
func (p *program) judge() []Site {
	sites := []Site{}
	for _, s := range p.sites {
		group, via := p.group(s)
		if group == "" {
			continue
		}
		fn := p.around(s.call)
		out := Site{Position: p.position(s.position().Pos()), Function: p.nameOf(fn), Call: s.method, Group: group}
		switch group {
		case Follows:
			out.Note = fmt.Sprintf("of the transaction at %s", p.short(via))
		case NotFollowed:
			// The heading says it.
		default:
			p.advise(s, &out)
		}
		sites = append(sites, out)
	}
	return sites
}

// position is that of the method's name: a chain has many lines.
func (s *site) position() ast.Node {
	if selector, ok := ast.Unparen(s.call.Fun).(*ast.SelectorExpr); ok {
		return selector.Sel
	}
	return s.call
}

// group says what a site's *gorm.DB is, as far as it is known. It is empty if all it can be has a context.
func (p *program) group(s *site) (Group, ast.Node) {
	facts := p.flow.facts[s.recv]
	group, via := Group(""), noPos
	for known := range facts {
		switch {
		case known.kind == without && !known.via.IsValid():
			return NoneAtHand, nil
		case known.kind == without:
			if group != Follows || known.via < via {
				group, via = Follows, known.via
			}
		case known.kind == unknown && group == "":
			group = NotFollowed
		}
	}
	if len(facts) == 0 {
		return NotFollowed, nil
	}
	if group == Follows {
		for _, t := range p.sites {
			if t.call.Pos() == via {
				return Follows, t.position()
			}
		}
	}
	return group, nil
}

// advise says which context a site can use, or why there is none.
func (p *program) advise(s *site, out *Site) {
	if use := p.atHand(s.call); use != "" {
		out.Group, out.Use = AtHand, use
		if inGoroutine := p.goroutineBelow(s.call, use); inGoroutine {
			out.Use = "context.WithoutCancel(" + use + ")"
			out.Note = "the goroutine may outlive it"
		}
		return
	}
	out.Group = NoneAtHand
	out.Reason, out.Note = p.why(s)
}

func (p *program) short(n ast.Node) string {
	if n == nil {
		return "another place"
	}
	at := p.position(n.Pos())
	return fmt.Sprintf("%s:%d", at.File, at.Line)
}

// nameOf names a function as Go programmers write it, without its package. A closure has the name of the function around it.
func (p *program) nameOf(fn any) string {
	switch fn := fn.(type) {
	case *types.Func:
		recv := fn.Signature().Recv()
		if recv == nil {
			return fn.Name()
		}
		name := types.TypeString(recv.Type(), func(*types.Package) string { return "" })
		if _, ok := recv.Type().(*types.Pointer); ok {
			name = "(" + name + ")"
		}
		return name + "." + fn.Name()
	case *ast.FuncLit:
		return p.nameOf(p.around(fn))
	}
	return "an initializer"
}
