package main

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// packages are those that a statement passes, by the prefixes of their functions' names.
var packages = []struct{ title, prefix string }{
	{"the guard", "github.com/gormtenancy/tenancy/internal/guard."},
	{"the plugin", "github.com/gormtenancy/tenancy."},
	{"the benchmark", "main."},
	{"pgx", "github.com/jackc/pgx/"},
	{"GORM", "gorm.io/"},
	{"database/sql", "database/sql."},
	{"the socket", "net."},
}

// noPackage is what runs for none of them: the scheduler and the garbage collector.
const noPackage = "the runtime"

func packageOf(function string) string {
	for _, p := range packages {
		if strings.HasPrefix(function, p.prefix) {
			return p.title
		}
	}
	return noPackage
}

// responsible is the innermost function of a stack that belongs to one of the packages: others work for it.
func responsible(stack []string) string {
	for _, function := range stack {
		if packageOf(function) != noPackage {
			return function
		}
	}
	return noPackage
}

// perFunction is an amount per statement, by function and variant.
type perFunction map[string]map[string]float64

func (p perFunction) add(name, variant string, amount float64) {
	if p[name] == nil {
		p[name] = map[string]float64{}
	}
	p[name][variant] += amount
}

// breakdown puts first what the plugin has most more of than plain GORM.
func (p perFunction) breakdown() breakdown {
	byPackage, byFunction := perFunction{}, perFunction{}
	for name, per := range p {
		for variant, amount := range per {
			byPackage.add(packageOf(name), variant, amount)
			byFunction.add(shortName(name), variant, amount)
		}
	}
	const most = 25
	functions := byFunction.list()
	return breakdown{Packages: byPackage.list(), Functions: functions[:min(len(functions), most)]}
}

func (p perFunction) list() (all []share) {
	for name, per := range p {
		all = append(all, share{Name: name, Per: per})
	}
	slices.SortFunc(all, func(a, b share) int {
		return cmp.Or(cmp.Compare(b.more("tenancy"), a.more("tenancy")), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// more is how much more a variant has than plain GORM.
func (s share) more(variant string) float64 { return s.Per[variant] - s.Per["plain"] }

var typeArguments = regexp.MustCompile(`\[(go\.shape|\.\.\.).*\]`)

// shortName is a function's name without the path of its package and without type arguments.
func shortName(name string) string {
	name = typeArguments.ReplaceAllString(name, "[…]")
	name = strings.Replace(name, "/v5.", "/pgx.", 1)
	return name[strings.LastIndexByte(name, '/')+1:]
}
