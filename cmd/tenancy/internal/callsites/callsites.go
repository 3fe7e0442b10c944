// Package callsites lists where a Go program uses a *gorm.DB without a context, by the program's syntax and types.
//
// It follows a *gorm.DB, and functions that take one, through local variables, struct fields, package variables, parameters, results,
// closures and methods that are called through interfaces. It assumes that
//   - what one value's field holds, every value's field of that type may hold;
//   - a slice or a map holds the same for each of its elements;
//   - a context that is not plainly context.Background() or context.TODO() may carry a tenant;
//   - a method that GORM calls as a hook gets the context of the statement that calls it.
//
// What it cannot follow (reflection, a *gorm.DB in an interface, a function of another module that returns one) is listed, not passed.
package callsites

import (
	"cmp"
	"context"
	"go/token"
	"path/filepath"
	"slices"
)

// Group says what is to be done about a site.
type Group string

// The groups of sites. A site is in one of them.
const (
	AtHand      Group = "context-at-hand"    // Use names the context
	NoneAtHand  Group = "no-context-at-hand" // Reason says why
	Follows     Group = "in-a-transaction"   // the transaction's own site is listed: this one is fixed with it
	NotFollowed Group = "not-followed"       // where the *gorm.DB comes from cannot be seen
)

// Reason says why no context is at hand.
type Reason string

// The reasons, the first that applies.
const (
	StartUp         Reason = "start-up"         // in main, init or an initializer, or called by nothing else
	Migration       Reason = "migration"        // in a migration that is written in Go
	Ticker          Reason = "ticker"           // repeated by a timer
	Goroutine       Reason = "goroutine"        // started by a go statement
	PackageVariable Reason = "package-variable" // on a *gorm.DB in a package variable, in a function without a context
	Parameters      Reason = "no-parameter"     // no parameter of the function carries one
)

// Position is a place in a file, whose path is relative to the folder that was loaded. Line and column count from 1.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// Site is a call that sends SQL with no context.
type Site struct {
	Position
	Function string `json:"function"`         // the function that holds the call
	Call     string `json:"call"`             // the method of *gorm.DB
	Group    Group  `json:"group"`            //
	Use      string `json:"use,omitempty"`    // the context, as an expression
	Reason   Reason `json:"reason,omitempty"` //
	Note     string `json:"note,omitempty"`   // what else helps, as a clause
}

// Cache is a lookup, beside a query, by a key that names no tenant.
type Cache struct {
	Position
	Function string `json:"function"`
	Cache    string `json:"cache"` // the expression, such as s.users
	Kind     string `json:"kind"`  // map, sync.Map, singleflight or the type of the cache
	Key      string `json:"key"`   // the expression of the key
}

// Report is what was found, in the order of files and lines.
type Report struct {
	Packages int     `json:"packages"`
	Calls    int     `json:"calls"` // that send SQL, with or without a context
	Sites    []Site  `json:"sites"`
	Caches   []Cache `json:"caches"`
}

// Options say what to load.
type Options struct {
	Dir      string   // where the patterns are read; empty for the current folder
	Patterns []string // as the go command takes them; empty for ./...
	Tests    bool     // also the files of tests
	Column   string   // the tenant column: a key that mentions it names a tenant. Empty for tenant_id
}

// Run loads and type-checks packages, and lists their sites and caches. It runs the go command, which downloads what the module needs.
// A package that does not compile is an error: what is not understood must not count as clean.
func Run(ctx context.Context, o Options) (Report, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Report{}, err
	}
	p, err := load(ctx, dir, o)
	if err != nil {
		return Report{}, err
	}
	p.build()
	p.flow.solve()
	report := Report{Packages: len(p.pkgs), Calls: len(p.sites), Sites: p.judge(), Caches: p.caches(cmp.Or(o.Column, "tenant_id"))}
	slices.SortFunc(report.Sites, func(a, b Site) int { return a.compare(b.Position) })
	slices.SortFunc(report.Caches, func(a, b Cache) int { return a.compare(b.Position) })
	return report, nil
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// position returns where something is, relative to the folder that was loaded.
func (p *program) position(pos token.Pos) Position {
	at := p.fset.Position(pos)
	if relative, err := filepath.Rel(p.dir, at.Filename); err == nil {
		at.Filename = filepath.ToSlash(relative)
	}
	return Position{at.Filename, at.Line, at.Column}
}
