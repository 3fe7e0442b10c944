package callsites

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// connectCall lets arguments flow to parameters, and results to the call. It records the sites.
func (p *program) connectCall(call *ast.CallExpr, info *types.Info) {
	fun := ast.Unparen(call.Fun)
	if tv := info.Types[fun]; tv.IsType() {
		if len(call.Args) == 1 {
			p.flow.edge(call.Args[0], call)
		}
		return
	}
	p.flow.edge(part{call, 0}, call)
	fn := callee(fun, info)
	if fn == nil && info.Types[fun].IsBuiltin() { // append, min
		for _, arg := range call.Args {
			p.flow.edge(arg, call)
		}
		return
	}
	if fn == nil {
		p.flow.called(fun, func(fn any) { p.bind(call, fn, info) })
		return
	}
	selection, isMethod := receiverOf(fun, info)
	switch {
	case isMethod && isDB(fn.Signature().Recv().Type()):
		p.connectGORM(call, fn.Name(), p.receiver(selection, info), selection, info)
	case isMethod && isNamed(fn.Signature().Recv().Type(), gormPath, "Association") && associationSends[fn.Name()]:
		p.sites = append(p.sites, &site{call, "Association." + fn.Name(), selection.X, selection.X})
	case fn.Pkg() != nil && unvendored(fn.Pkg().Path()) == gormPath && fn.Name() == "Open":
		p.flow.add(part{call, 0}, fact{kind: without})
	case isMethod && types.IsInterface(fn.Signature().Recv().Type()):
		p.connectInterface(call, fn, selection, info)
	default:
		p.bind(call, fn, info)
	}
}

// callee returns the function or method that a call names, nil if it is a value.
func callee(fun ast.Expr, info *types.Info) *types.Func {
	switch e := fun.(type) {
	case *ast.IndexExpr:
		fun = ast.Unparen(e.X)
	case *ast.IndexListExpr:
		fun = ast.Unparen(e.X)
	}
	var object types.Object
	switch e := fun.(type) {
	case *ast.Ident:
		object = info.Uses[e]
	case *ast.SelectorExpr:
		object = info.Uses[e.Sel]
	}
	fn, ok := object.(*types.Func)
	if !ok {
		return nil
	}
	return fn.Origin()
}

// receiverOf returns the selector of a method call.
func receiverOf(fun ast.Expr, info *types.Info) (*ast.SelectorExpr, bool) {
	selector, ok := fun.(*ast.SelectorExpr)
	if !ok || info.Selections[selector] == nil || info.Selections[selector].Kind() != types.MethodVal {
		return nil, false
	}
	return selector, true
}

// receiver returns the value that a method is called on: where it is promoted, that of the embedded field.
func (p *program) receiver(selector *ast.SelectorExpr, info *types.Info) any {
	selection := info.Selections[selector]
	t, value := selection.Recv(), any(selector.X)
	for _, i := range selection.Index()[:len(selection.Index())-1] {
		structure, ok := structOf(t)
		if !ok {
			return selector.X
		}
		field := structure.Field(i)
		t, value = field.Type(), field.Origin()
	}
	return value
}

// connectGORM handles a method of *gorm.DB.
func (p *program) connectGORM(call *ast.CallExpr, method string, recv any, selector *ast.SelectorExpr, info *types.Info) {
	if sends[method] {
		p.sites = append(p.sites, &site{call, method, recv, selector.X})
	}
	given := ast.Expr(nil)
	switch {
	case method == "WithContext" && len(call.Args) == 1:
		given = call.Args[0]
	case method == "Session":
		given = sessionContext(call)
	}
	if given != nil {
		known := fact{kind: with}
		if p.isBackground(given, info) {
			known.kind = without
		}
		p.flow.add(part{call, 0}, known)
		return
	}
	via := noPos
	if method == "Begin" || method == "Transaction" || method == "Connection" || method == "FindInBatches" {
		via = call.Pos()
	}
	p.flow.edgeVia(recv, part{call, 0}, via)
	if hands[method] {
		for _, arg := range call.Args {
			p.hand(recv, arg, via)
		}
	}
}

// hand lets a *gorm.DB flow to the parameters of a function that GORM calls with it.
func (p *program) hand(db any, to ast.Expr, via token.Pos) {
	info := p.infoOf(to)
	p.flow.called(to, func(fn any) {
		if lit, ok := fn.(*ast.FuncLit); ok {
			info = p.infoOf(lit)
		}
		signature := signatureOf(fn, info)
		if signature == nil {
			return
		}
		for v := range signature.Params().Variables() {
			if isDB(v.Type()) {
				p.flow.edgeVia(db, v, via)
			}
		}
	})
}

// connectInterface handles a call through an interface, which may reach each method of the program that implements it.
func (p *program) connectInterface(call *ast.CallExpr, method *types.Func, selector *ast.SelectorExpr, info *types.Info) {
	found := p.implementations(method)
	for _, m := range found {
		p.bind(call, m, info)
	}
	results := method.Signature().Results()
	if len(found) > 0 || results.Len() != 1 || !isDB(results.At(0).Type()) {
		return
	}
	p.flow.add(part{call, 0}, fact{kind: unknown})
	if sends[method.Name()] { // an interface that *gorm.DB implements
		p.flow.add(selector, fact{kind: unknown})
		p.sites = append(p.sites, &site{call, method.Name(), any(selector), selector.X})
	}
}

// bind lets arguments flow to the parameters of a function, and its results to the call.
func (p *program) bind(call *ast.CallExpr, fn any, info *types.Info) {
	p.calls[fn] = append(p.calls[fn], caller{call, p.around(call)})
	if lit, ok := fn.(*ast.FuncLit); ok {
		info = p.infoOf(lit)
	}
	signature := signatureOf(fn, info)
	if signature == nil {
		return
	}
	if f, ok := fn.(*types.Func); ok && p.bodies[f] == nil {
		p.leave(call, f)
		return
	}
	for i := range signature.Results().Len() {
		p.flow.edge(result{fn, i}, part{call, i})
	}
	params := signature.Params()
	if len(call.Args) == 1 && params.Len() > 1 { // f(g())
		for i := range params.Len() {
			p.flow.edge(part{call.Args[0], i}, params.At(i))
		}
		return
	}
	for i, arg := range call.Args {
		if i >= params.Len() {
			i = params.Len() - 1
		}
		if i >= 0 && followed(params.At(i).Type()) {
			p.flow.edge(arg, params.At(i))
		}
	}
}

// leave handles a call of a function of another module: it may call the functions that it is given, with the *gorm.DB that it is
// given, and what it returns is not known.
func (p *program) leave(call *ast.CallExpr, fn *types.Func) {
	results := fn.Signature().Results()
	known := fact{kind: unknown}
	if isTenancy(fn) {
		known = fact{kind: with} // Bypass, ForEachTenant and DataMigration say what they are for
	}
	for i := range results.Len() {
		if isDB(results.At(i).Type()) {
			p.flow.add(part{call, i}, known)
		}
	}
	if isTenancy(fn) {
		p.enterArguments(call, known)
		return
	}
	if fn.Pkg() != nil && fn.Pkg().Name() == gormigrate {
		p.enterArguments(call, fact{kind: without})
	}
	for _, db := range call.Args {
		if !isDB(p.infoOf(call).TypeOf(db)) {
			continue
		}
		for _, f := range call.Args {
			p.hand(db, f, noPos)
		}
	}
}

// enterArguments says what the *gorm.DB is with which a function of another module calls the functions that it is given.
func (p *program) enterArguments(call *ast.CallExpr, known fact) {
	for _, f := range call.Args {
		p.flow.called(f, func(fn any) { p.enter(fn, p.infoOf(call), known) })
	}
}

// isTenancy reports whether a function is of the plugin's module.
func isTenancy(fn *types.Func) bool {
	const module = "github.com/gormtenancy/tenancy"
	return fn.Pkg() != nil && (fn.Pkg().Path() == module || strings.HasPrefix(fn.Pkg().Path(), module+"/"))
}
