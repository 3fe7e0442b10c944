package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/cmd/tenancy/internal/callsites"
)

// callsitesCommand lists where a program uses a *gorm.DB without a context.
type callsitesCommand struct {
	format, column string
	tests          bool
}

const callsitesDetails = `
The packages are named as for the go command, and are those of the module in this folder; the default is ./... . It reads the program,
and connects to no database.
`

var callsitesFormats = map[string]func(callsites.Report, palette) (string, error){
	"text":  callsitesText,
	"json":  func(r callsites.Report, _ palette) (string, error) { return indented(r) },
	"sarif": func(r callsites.Report, _ palette) (string, error) { return indented(callsitesSARIF(r)) },
}

func (c *callsitesCommand) flags(set *flag.FlagSet) {
	formatFlag(set, &c.format)
	set.StringVar(&c.column, "column", defaultColumn, "the `column` that holds the tenant of a row: a cache key that mentions it names a tenant (default tenant_id)")
	set.BoolVar(&c.tests, "tests", false, "also read the files of tests")
}

func (c *callsitesCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	report, err := callsites.Run(ctx, callsites.Options{Patterns: args, Column: c.column, Tests: c.tests})
	if err != nil {
		return 0, err
	}
	text, err := callsitesFormats[c.format](report, paletteFor(s))
	if err != nil {
		return 0, err
	}
	if err := write(s, text); err != nil {
		return 0, err
	}
	if len(report.Sites)+len(report.Caches) > 0 {
		return exitFound, nil
	}
	return exitClean, nil
}

// callsitesGroups are the headings of a report, and what is under them.
var callsitesGroups = []struct {
	title  string
	group  callsites.Group
	reason callsites.Reason
}{
	{"CONTEXT AT HAND: db.WithContext(…)", callsites.AtHand, ""},
	{"NO CONTEXT AT HAND: no parameter of the function carries one, so pass it on from its callers", callsites.NoneAtHand, callsites.Parameters},
	{"NO CONTEXT AT HAND: a package variable", callsites.NoneAtHand, callsites.PackageVariable},
	{"NO CONTEXT AT HAND: a goroutine, which needs the tenant handed over, or ForEachTenant", callsites.NoneAtHand, callsites.Goroutine},
	{"NO CONTEXT AT HAND: a ticker, whose work is for ForEachTenant", callsites.NoneAtHand, callsites.Ticker},
	{"NO CONTEXT AT HAND: start-up, which is for WithoutTenant (shared tables) or ForEachTenant", callsites.NoneAtHand, callsites.StartUp},
	{"NO CONTEXT AT HAND: a migration, which must see the rows of all tenants", callsites.NoneAtHand, callsites.Migration},
	{"IN A TRANSACTION THAT IS LISTED: fixed with it", callsites.Follows, ""},
	{"NOT FOLLOWED: look where the *gorm.DB comes from", callsites.NotFollowed, ""},
}

func callsitesText(r callsites.Report, p palette) (string, error) {
	var b strings.Builder
	counts := map[callsites.Group]int{}
	for _, heading := range callsitesGroups {
		var lines []string
		for _, s := range r.Sites {
			if s.Group == heading.group && s.Reason == heading.reason {
				lines = append(lines, siteLine(s))
				counts[s.Group]++
			}
		}
		writeLines(&b, heading.title, lines, p)
	}
	var lines []string
	for _, c := range r.Caches {
		lines = append(lines, fmt.Sprintf("%s:%d: %s: %s (%s) by %s", c.File, c.Line, c.Function, c.Cache, c.Kind, c.Key))
	}
	writeLines(&b, "CACHES: the key names no tenant", lines, p)
	fmt.Fprintf(&b, "%s in %s. %s a context at hand, %d none, %d in a transaction that is listed, %d not followed. %s.\n",
		fraction(len(r.Sites), r.Calls), plural(r.Packages, "package"), have(counts[callsites.AtHand]), counts[callsites.NoneAtHand],
		counts[callsites.Follows], counts[callsites.NotFollowed], count(len(r.Caches), "cache"))
	return b.String(), nil
}

func fraction(n, of int) string {
	return fmt.Sprintf("%d of %s to GORM that send SQL may have no context", n, plural(of, "call"))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func have(n int) string {
	if n == 1 {
		return "1 has"
	}
	return fmt.Sprintf("%d have", n)
}

func siteLine(s callsites.Site) string {
	text := fmt.Sprintf("%s:%d: %s: %s", s.File, s.Line, s.Function, s.Call)
	if s.Use != "" {
		text += ": " + s.Use
	}
	if s.Note != "" {
		text += ": " + s.Note
	}
	return text
}

func writeLines(b *strings.Builder, title string, lines []string, p palette) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s (%d)%s\n", p.bold, title, len(lines), p.reset)
	for _, text := range lines {
		fmt.Fprintf(b, "  %s\n", line(text))
	}
	b.WriteString("\n")
}
