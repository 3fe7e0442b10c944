package main

import (
	"flag"
	"fmt"
	"strings"
)

// help prints what a command does, or what commands there are.
func help(args []string, s streams) int {
	text := overview()
	if len(args) > 0 {
		if text = usage(args[0]); text == "" {
			fmt.Fprintf(s.err, "tenancy help: %s\n\n%s", unknown("command", args[0]), overview())
			return exitFailed
		}
	}
	if write(s, text) != nil {
		return exitFailed
	}
	return exitClean
}

// overview lists the commands.
func overview() string {
	var b strings.Builder
	b.WriteString("Tenancy checks that a PostgreSQL database keeps its tenants apart.\n\nUsage:\n\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  tenancy %-8s %s\n", c.name, c.summary)
	}
	b.WriteString(`
"tenancy help <command>" lists the options of a command. The database is named by --dsn or DATABASE_URL, as a URL or as
key=value pairs. A password that is in none of them is taken from PGPASSWORD or ~/.pgpass; it is never printed.

Exit codes: 0 nothing found, 1 findings, 2 could not check.
`)
	return b.String()
}

// usage describes a command, and is empty if there is none of that name.
func usage(name string) string {
	var b strings.Builder
	for _, c := range commands {
		if c.name != name {
			continue
		}
		fs := flag.NewFlagSet(name, flag.ContinueOnError)
		c.make().flags(fs)
		fmt.Fprintf(&b, "Usage: tenancy %s [options] %s\n%s%s.\n", name, c.arguments, strings.ToUpper(c.summary[:1]), c.summary[1:])
		if c.arguments == "" {
			text := strings.Replace(b.String(), "[options] \n", "[options]\n", 1)
			b.Reset()
			b.WriteString(text)
		}
		fs.VisitAll(func(f *flag.Flag) {
			value, text := flag.UnquoteUsage(f)
			fmt.Fprintf(&b, "\n  --%s\n        %s\n", strings.TrimSpace(f.Name+" "+value), text)
		})
	}
	return b.String()
}
