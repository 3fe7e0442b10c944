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
			return unknownCommand(args[0], s)
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
	b.WriteString("Tenancy checks that a PostgreSQL database keeps its tenants apart.\nOnly \"tenant import\", \"tenant erase --yes\", \"tenant move\", \"tenant isolate\", \"audit maintain\", \"keys add\" and \"keys retire\" change the database; \"explain --analyze\" runs a statement and rolls it back.\n\nUsage:\n\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  tenancy %-10s %s\n", c.name, c.summary)
	}
	b.WriteString(`
"tenancy help <command>" lists the options of a command.

lint reads files, and callsites a program. For the others, name the database with --dsn or DATABASE_URL, as a URL or as key=value pairs; for diff, as arguments. If that has no
password, it is read from PGPASSWORD or ~/.pgpass. Passwords are never printed.

` + exitCodes)
	return b.String()
}

const exitCodes = `Exit codes:

    0  no error, no finding of check or lint at or above --fail-on, no dangerous difference of diff, no difference of tenant diff, no call site,
       no table of adopt that needs something
    1  check or lint has findings that are not in --baseline or ignored, diff has dangerous differences, tenant diff or callsites found some,
       lint found no tenant table, or a table of adopt needs something
    2  an error: a wrong option, no connection, a missing permission
  130  interrupted with Ctrl-C
`

// usage describes a command. It is empty if there is none of that name.
func usage(name string) string {
	var b strings.Builder
	for _, c := range commands {
		if c.name != name {
			continue
		}
		fs := flag.NewFlagSet(name, flag.ContinueOnError)
		c.make().flags(fs)
		fmt.Fprintf(&b, "%s%s%s.\n", synopsis(name, c.arguments), strings.ToUpper(c.summary[:1]), c.summary[1:])
		b.WriteString(c.details)
		fs.VisitAll(func(f *flag.Flag) {
			value, text := flag.UnquoteUsage(f)
			fmt.Fprintf(&b, "\n  --%s\n        %s\n", strings.TrimSpace(f.Name+" "+value), text)
		})
		b.WriteString("\n" + exitCodes)
	}
	return b.String()
}

// synopsis is the line that shows how to write a command.
func synopsis(name, arguments string) string {
	return strings.TrimSpace("Usage: tenancy "+name+" [options] "+arguments) + "\n"
}
