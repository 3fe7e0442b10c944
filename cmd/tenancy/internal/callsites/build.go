package callsites

import (
	"go/ast"
	"go/token"
	"go/types"
)

// site is a call that sends SQL.
type site struct {
	call   *ast.CallExpr
	method string
	recv   any // in the flow
	db     ast.Expr
}

// build makes the graph of values. Assignments come first, because a use asks for those that reach it.
func (p *program) build() {
	for _, collect := range []func(ast.Node, *types.Info){p.define, p.connect} {
		for file, info := range p.infos {
			ast.Inspect(file, func(n ast.Node) bool {
				if n != nil {
					collect(n, info)
				}
				return true
			})
		}
	}
}

// define records what is assigned, and where.
func (p *program) define(n ast.Node, info *types.Info) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if fn, ok := info.Defs[n.Name].(*types.Func); ok {
			p.defineParameters(n, fn.Signature())
		}
	case *ast.FuncLit:
		if signature, ok := info.Types[n].Type.(*types.Signature); ok {
			p.defineParameters(n, signature)
		}
	case *ast.AssignStmt:
		for i, lhs := range n.Lhs {
			p.assign(n, lhs, n.Rhs, i, len(n.Lhs), info)
		}
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if len(n.Values) > 0 {
				p.assign(n, name, n.Values, i, len(n.Names), info)
			}
		}
	case *ast.RangeStmt:
		if n.Value != nil {
			p.assignTo(n, n.Value, n.X, nil, info)
		}
	}
}

func (p *program) defineParameters(fn ast.Node, signature *types.Signature) {
	add := func(v *types.Var) {
		if v != nil {
			p.defs[v] = append(p.defs[v], def{node: v, stmt: fn})
		}
	}
	add(signature.Recv())
	for v := range signature.Params().Variables() {
		add(v)
	}
	for v := range signature.Results().Variables() {
		add(v)
	}
}

// assign handles the n-th of several left-hand sides.
func (p *program) assign(stmt ast.Node, lhs ast.Expr, rhs []ast.Expr, n, of int, info *types.Info) {
	switch {
	case len(rhs) == of:
		p.assignTo(stmt, lhs, rhs[n], rhs[n], info)
	case n == 0:
		p.assignTo(stmt, lhs, part{rhs[0], 0}, rhs[0], info) // also the context of "ctx, cancel := context.WithCancel(…)"
	default:
		p.assignTo(stmt, lhs, part{rhs[0], n}, nil, info)
	}
}

func (p *program) assignTo(stmt ast.Node, lhs ast.Expr, from any, rhs ast.Expr, info *types.Info) {
	weak := false
	lhs = ast.Unparen(lhs)
	for {
		index, ok := lhs.(*ast.IndexExpr)
		if !ok {
			break
		}
		weak, lhs = true, ast.Unparen(index.X)
	}
	var v *types.Var
	switch lhs := lhs.(type) {
	case *ast.Ident:
		v, _ = info.ObjectOf(lhs).(*types.Var)
	case *ast.SelectorExpr:
		v, _ = info.Uses[lhs.Sel].(*types.Var)
	}
	if v == nil {
		return
	}
	v = v.Origin()
	if !followed(v.Type()) && !isContext(v.Type()) {
		return
	}
	if !isLocal(v) {
		p.flow.edge(from, v)
		return
	}
	d := def{node: part{stmt, int(lhs.Pos())}, stmt: stmt, rhs: rhs, weak: weak}
	p.defs[v] = append(p.defs[v], d)
	p.flow.edge(from, d.node)
}

// connect lets values flow.
func (p *program) connect(n ast.Node, info *types.Info) {
	switch n := n.(type) {
	case *ast.CallExpr:
		p.connectCall(n, info)
	case *ast.ReturnStmt:
		p.connectReturn(n, info)
	case *ast.CompositeLit:
		p.connectLiteral(n, info)
	case *ast.GoStmt:
		p.connectGo(n, info)
	case *ast.FuncDecl:
		p.connectHook(n, info)
	}
	if e, ok := n.(ast.Expr); ok && followed(info.TypeOf(e)) {
		p.connectExpr(e, info)
	}
}

// connectExpr lets what an expression is made of flow to it.
func (p *program) connectExpr(e ast.Expr, info *types.Info) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		p.flow.edge(e.X, e)
	case *ast.StarExpr:
		p.flow.edge(e.X, e)
	case *ast.UnaryExpr: // &x, and <-channel
		p.flow.edge(e.X, e)
	case *ast.IndexExpr: // an element, or an instance of a generic function
		p.flow.edge(e.X, e)
	case *ast.IndexListExpr:
		p.flow.edge(e.X, e)
	case *ast.SliceExpr:
		p.flow.edge(e.X, e)
	case *ast.TypeAssertExpr:
		p.flow.add(e, fact{kind: unknown})
	case *ast.FuncLit:
		p.flow.add(e, fact{kind: function, fn: e})
	case *ast.Ident:
		p.connectObject(e, info.Uses[e], e)
	case *ast.SelectorExpr:
		p.connectObject(e, info.Uses[e.Sel], e)
	}
}

// connectObject lets a variable or a function flow to an expression that names it.
func (p *program) connectObject(e ast.Expr, object types.Object, use ast.Node) {
	switch object := object.(type) {
	case *types.Func:
		p.flow.add(e, fact{kind: function, fn: object.Origin()})
		if call, ok := p.callOf(e); !ok || ast.Unparen(call.Fun) != e {
			p.values[object.Origin()] = true
		}
	case *types.Var:
		v := object.Origin()
		if !isLocal(v) {
			p.flow.edge(v, e)
			return
		}
		for _, d := range p.reaching(v, use) {
			p.flow.edge(d.node, e)
		}
	}
}

// callOf returns the call whose function an expression is, or is an instance of.
func (p *program) callOf(e ast.Expr) (*ast.CallExpr, bool) {
	n := p.parents[e]
	for {
		switch parent := n.(type) {
		case *ast.SelectorExpr: // the identifier of the method
			if parent.Sel != e {
				return nil, false
			}
			n, e = p.parents[n], parent
		case *ast.ParenExpr, *ast.IndexExpr, *ast.IndexListExpr:
			n = p.parents[n]
		case *ast.CallExpr:
			fun := parent.Fun
			return parent, encloses(fun, e)
		default:
			return nil, false
		}
	}
}

func (p *program) connectReturn(n *ast.ReturnStmt, info *types.Info) {
	fn := p.around(n)
	signature := signatureOf(fn, info)
	if signature == nil {
		return
	}
	results := signature.Results()
	if len(n.Results) == 0 {
		for i := range results.Len() {
			for _, d := range p.defs[results.At(i)] {
				p.flow.edge(d.node, result{fn, i})
			}
		}
		return
	}
	for i := range results.Len() {
		if len(n.Results) == results.Len() {
			p.flow.edge(n.Results[i], result{fn, i})
		} else {
			p.flow.edge(part{n.Results[0], i}, result{fn, i})
		}
	}
}

func signatureOf(fn any, info *types.Info) *types.Signature {
	switch fn := fn.(type) {
	case *types.Func:
		return fn.Signature()
	case *ast.FuncLit:
		signature, _ := info.TypeOf(fn).(*types.Signature)
		return signature
	}
	return nil
}

// connectLiteral lets the elements of a literal flow to its fields, or to the literal itself.
func (p *program) connectLiteral(n *ast.CompositeLit, info *types.Info) {
	structure, isStruct := structOf(info.TypeOf(n))
	for i, element := range n.Elts {
		value, field := element, (*types.Var)(nil)
		if kv, ok := element.(*ast.KeyValueExpr); ok {
			value = kv.Value
			if key, ok := kv.Key.(*ast.Ident); ok && isStruct {
				field, _ = info.Uses[key].(*types.Var)
			}
		} else if isStruct && i < structure.NumFields() {
			field = structure.Field(i)
		}
		if field == nil {
			p.flow.edge(value, n)
			continue
		}
		p.flow.edge(value, field.Origin())
		if isMigration(field) {
			p.flow.called(value, func(fn any) { p.enter(fn, p.infoOf(n), fact{kind: without}) })
		}
	}
}

// gormigrate is the name of the package whose migrations are functions that take a *gorm.DB.
const gormigrate = "gormigrate"

// isMigration reports whether a field holds a function that a library of migrations calls.
func isMigration(field *types.Var) bool {
	return field.Pkg() != nil && field.Pkg().Name() == gormigrate
}

// enter states what the parameters of type *gorm.DB of a function are that code outside the program calls.
func (p *program) enter(fn any, info *types.Info, known fact) {
	if lit, ok := fn.(*ast.FuncLit); ok {
		info = p.infoOf(lit)
	}
	signature := signatureOf(fn, info)
	if signature == nil {
		return
	}
	for v := range signature.Params().Variables() {
		if isDB(v.Type()) {
			p.flow.add(v, known)
		}
	}
}

func structOf(t types.Type) (*types.Struct, bool) {
	if t == nil {
		return nil, false
	}
	if pointer, ok := t.Underlying().(*types.Pointer); ok {
		t = pointer.Elem()
	}
	structure, ok := t.Underlying().(*types.Struct)
	return structure, ok
}

func (p *program) connectGo(n *ast.GoStmt, info *types.Info) {
	switch fun := ast.Unparen(n.Call.Fun).(type) {
	case *ast.FuncLit:
		p.started[fun] = true
	case *ast.Ident:
		p.started[originOf(info.Uses[fun])] = true
	case *ast.SelectorExpr:
		p.started[originOf(info.Uses[fun.Sel])] = true
	}
}

func originOf(object types.Object) any {
	if fn, ok := object.(*types.Func); ok {
		return fn.Origin()
	}
	return nil
}

// connectHook states that GORM calls hooks with the context of the statement, whose own site is listed if it has none.
func (p *program) connectHook(n *ast.FuncDecl, info *types.Info) {
	if n.Recv == nil || !hooks[n.Name.Name] {
		return
	}
	p.enter(info.Defs[n.Name], info, fact{kind: with})
}

// noPos is the position of what is in no transaction.
const noPos = token.NoPos
