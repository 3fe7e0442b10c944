package callsites

import (
	"go/token"
)

// kind says what is known of a *gorm.DB.
type kind int

const (
	without  kind = iota // no context
	with                 // a context that may carry a tenant
	unknown              // it comes from where the program cannot be seen
	function             // not a *gorm.DB: a function, as a value
)

// fact is something that a value may be.
type fact struct {
	kind kind
	via  token.Pos // of the transaction that it was handed out by, if any
	fn   any       // a function: *types.Func or *ast.FuncLit
}

// flow is a graph of values. A value is what its sources are. Keys are expressions, variables and what is declared below.
type flow struct {
	next    map[any][]edge
	facts   map[any]map[fact]bool
	whenFn  map[any][]func(fn any) // called once for each function that a value may be
	pending []pendingFact
}

type edge struct {
	to  any
	via token.Pos
}

type pendingFact struct {
	node any
	fact fact
}

// These are the values that are no expressions.
type (
	result struct { // of a function
		fn any
		n  int
	}
	part struct { // of an expression with several values
		of any
		n  int
	}
)

func newFlow() *flow {
	return &flow{next: map[any][]edge{}, facts: map[any]map[fact]bool{}, whenFn: map[any][]func(any){}}
}

// edge lets what a value is flow to another, also what is known already.
func (f *flow) edge(from, to any) { f.edgeVia(from, to, token.NoPos) }

// edgeVia does what edge does, for what a transaction hands out.
func (f *flow) edgeVia(from, to any, via token.Pos) {
	if from == nil || to == nil {
		return
	}
	f.next[from] = append(f.next[from], edge{to, via})
	for known := range f.facts[from] {
		f.pass(known, edge{to, via})
	}
}

func (f *flow) pass(known fact, e edge) {
	if e.via.IsValid() && known.kind != function {
		known.via = e.via
	}
	f.add(e.to, known)
}

// add states a fact. solve draws the conclusions.
func (f *flow) add(node any, known fact) {
	if f.facts[node][known] {
		return
	}
	if f.facts[node] == nil {
		f.facts[node] = map[fact]bool{}
	}
	f.facts[node][known] = true
	f.pending = append(f.pending, pendingFact{node, known})
}

// called calls do for each function that a value may be, now or later.
func (f *flow) called(node any, do func(fn any)) {
	done := map[any]bool{}
	once := func(fn any) {
		if !done[fn] {
			done[fn] = true
			do(fn)
		}
	}
	f.whenFn[node] = append(f.whenFn[node], once)
	for known := range f.facts[node] {
		if known.kind == function {
			once(known.fn)
		}
	}
}

func (f *flow) solve() {
	for len(f.pending) > 0 {
		last := f.pending[len(f.pending)-1]
		f.pending = f.pending[:len(f.pending)-1]
		for _, e := range f.next[last.node] {
			f.pass(last.fact, e)
		}
		if last.fact.kind == function {
			for _, do := range f.whenFn[last.node] {
				do(last.fact.fn)
			}
		}
	}
}
