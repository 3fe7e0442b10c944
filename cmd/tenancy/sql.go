package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

// sqlCommand prints the script that fixes a database, or what goes around a data migration.
type sqlCommand struct {
	subject
	data dataOptions
}

func (c *sqlCommand) flags(fs *flag.FlagSet) {
	c.subject.flags(fs)
	c.data.flags(fs)
}

func (c *sqlCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if err := none(args); err != nil {
		return 0, err
	}
	if c.data.wanted {
		text, err := c.dataSQL()
		if err != nil {
			return 0, err
		}
		return exitClean, write(s, text)
	}
	if len(c.data.tables) > 0 {
		return 0, misused("--as-owner is for --data")
	}
	report, err := c.check(ctx, s)
	if err != nil {
		return 0, err
	}
	var b strings.Builder
	script := report.SQL()
	if script == "" {
		b.WriteString("-- There is nothing to fix with SQL.\n")
	} else {
		b.WriteString("-- Read this script, then run it in one transaction, as the role that owns the tables:\n" +
			"-- psql --single-transaction --set ON_ERROR_STOP=1 --file …\n")
		if strings.Contains(script, "\n-- as a superuser") {
			b.WriteString("-- What stands below \"as a superuser\" is for another role: move it to a script of its own.\n")
		}
	}
	for _, f := range report.Findings {
		if f.Fix == "" {
			fmt.Fprintf(&b, "-- To fix by hand: %s: %s: %s\n", f.Code, line(f.Object), line(f.Problem))
		}
	}
	if script != "" {
		b.WriteString("\n" + script)
	}
	return exitClean, write(s, b.String())
}
