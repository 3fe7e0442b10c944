package callsites

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"strings"
)

// cacheName matches the names of types and packages that are caches.
var cacheName = regexp.MustCompile(`(?i)cache|lru|ristretto|otter|expirable|memcache`)

// cacheMethods are the methods by which caches are read and written, with the key first.
var cacheMethods = set("Get", "Set", "Add", "Put", "Peek", "Load", "Store", "LoadOrStore", "GetOrSet", "GetOrLoad", "GetIfPresent",
	"SetWithTTL", "Do", "DoChan", "Fetch", "LoadAndDelete", "Swap")

// caches returns the lookups, in functions that also send SQL, by a key that mentions neither a tenant nor the tenant column, and is not made by tenancy.Key.
func (p *program) caches(column string) []Cache {
	found := []Cache{}
	names := regexp.MustCompile(`(?i)tenant|tenancy\.Key\(|` + regexp.QuoteMeta(column) + `|` + regexp.QuoteMeta(strings.ReplaceAll(column, "_", "")))
	querying := p.querying()
	seen := map[string]bool{}
	for file, info := range p.infos {
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil || !querying[p.declared(n)] {
				return true
			}
			cache, kind, key := p.lookup(n, info)
			if cache == nil || names.MatchString(types.ExprString(p.defining(key, info))) {
				return true
			}
			c := Cache{p.position(n.Pos()), p.nameOf(p.around(n)), types.ExprString(cache), kind, shorten(types.ExprString(key))}
			if id := c.File + c.Function + c.Cache + c.Key; !seen[id] {
				seen[id] = true
				found = append(found, c)
			}
			return true
		})
	}
	return found
}

// querying are the functions that send SQL, themselves or in a function that they call.
func (p *program) querying() map[any]bool {
	direct := map[any]bool{}
	for _, s := range p.sites {
		direct[p.declared(s.call)] = true
	}
	all := map[any]bool{}
	for fn := range direct {
		all[fn] = fn != nil
		for _, c := range p.calls[fn] {
			if c.call != nil {
				all[p.declared(c.call)] = true
			}
		}
	}
	delete(all, nil)
	return all
}

// lookup returns the cache and the key of a node that reads or writes a cache.
func (p *program) lookup(n ast.Node, info *types.Info) (cache ast.Expr, kind string, key ast.Expr) {
	switch n := n.(type) {
	case *ast.IndexExpr:
		t := info.TypeOf(n.X)
		if t == nil || !p.outlives(n.X, info) {
			return nil, "", nil
		}
		if m, ok := t.Underlying().(*types.Map); ok && isKey(m.Key()) {
			return n.X, "map", n.Index
		}
	case *ast.CallExpr:
		selector, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
		if !ok || len(n.Args) == 0 || !cacheMethods[selector.Sel.Name] || !p.outlives(selector.X, info) {
			return nil, "", nil
		}
		if kind := cacheKind(info.TypeOf(selector.X)); kind != "" && isKey(info.TypeOf(n.Args[0])) {
			return selector.X, kind, n.Args[0]
		}
	}
	return nil, "", nil
}

// cacheKind names a type that is a cache. It is empty for others.
func cacheKind(t types.Type) string {
	switch {
	case t == nil:
		return ""
	case isNamed(t, "sync", "Map"):
		return "sync.Map"
	case isNamed(t, "golang.org/x/sync/singleflight", "Group"):
		return "singleflight"
	}
	if pointer, ok := types.Unalias(t).(*types.Pointer); ok {
		t = pointer.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil || isContext(t) {
		return ""
	}
	if cacheName.MatchString(named.Obj().Name()) || cacheName.MatchString(named.Obj().Pkg().Path()) {
		return named.Obj().Pkg().Name() + "." + named.Obj().Name()
	}
	return ""
}

// isKey reports whether a type is one that rows are found by, and that holds no tenant beside: a number, a string, an array as of a UUID.
func isKey(t types.Type) bool {
	if t == nil {
		return false
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Info()&(types.IsInteger|types.IsString) != 0
	case *types.Array:
		return true
	case *types.Interface:
		return true
	}
	return false
}

// outlives reports whether a cache is kept beyond the call: in a package variable, or in a field of the method's receiver.
func (p *program) outlives(e ast.Expr, info *types.Info) bool {
	inField := false
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.UnaryExpr:
			if x.Op != token.AND {
				return false
			}
			e = x.X
		case *ast.SelectorExpr:
			v, ok := info.Uses[x.Sel].(*types.Var)
			if !ok {
				return false
			}
			if !v.IsField() {
				return true
			}
			inField, e = true, x.X
		case *ast.Ident:
			v, ok := info.Uses[x].(*types.Var)
			return ok && (!isLocal(v) || (inField && v.Kind() == types.RecvVar))
		default:
			return false
		}
	}
}

// defining returns the expression that a key's variable was made of: it may name the tenant where the variable does not.
func (p *program) defining(key ast.Expr, info *types.Info) ast.Expr {
	name, ok := ast.Unparen(key).(*ast.Ident)
	if !ok {
		return key
	}
	v, ok := info.Uses[name].(*types.Var)
	if !ok || !isLocal(v) {
		return key
	}
	var rhs ast.Expr
	ast.Inspect(p.fileOf(key), func(n ast.Node) bool {
		assignment, ok := n.(*ast.AssignStmt)
		if !ok {
			return rhs == nil
		}
		for i, lhs := range assignment.Lhs {
			if id, ok := lhs.(*ast.Ident); ok && info.Defs[id] == v {
				rhs = assignment.Rhs[min(i, len(assignment.Rhs)-1)] // one call may return the key and an error
			}
		}
		return rhs == nil
	})
	if rhs == nil || strings.Contains(strings.ToLower(v.Name()), "tenant") {
		return key
	}
	return rhs
}

func shorten(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
