package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/gormtenancy/tenancy/internal/snapshot"
)

// diffCommand compares how two databases keep tenants apart.
type diffCommand struct {
	record
	format string
}

const diffDetails = `
BEFORE and AFTER are each a file that "tenancy snapshot" has written, a DSN, or env:NAME for a DSN in an environment variable, which
other users of this machine cannot see. Beside a file, a database is compared for the roles, the column and the setting of the
file, unless options name others. Where signatures of tenants are demanded (--signed, in this command or that of a file, or a policy of BEFORE
that demands one), a policy without is dangerous. What is not proved to be harmless is dangerous.
`

func (c *diffCommand) flags(fs *flag.FlagSet) {
	c.record.flags(fs)
	c.format = "text"
	fs.Func("format", "the `format` of the differences: text or json (default text)", func(name string) error {
		if name != "text" && name != "json" {
			return errors.New("must be text or json")
		}
		c.format = name
		return nil
	})
}

func (c *diffCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if len(args) != 2 {
		return 0, misused("give two snapshots or databases, after the options: each a file, a DSN, or env:NAME for a DSN in an environment variable")
	}
	sides, err := c.sides(ctx, args, s)
	if err != nil {
		return 0, err
	}
	if c.signed { // also where both are files
		sides[0].Signed, sides[1].Signed = true, true
	}
	differences, err := snapshot.Diff(sides[0], sides[1])
	if err != nil {
		return 0, err
	}
	text := differencesAsText(differences, paletteFor(s))
	if c.format == "json" {
		text, err = indented(struct {
			Differences []snapshot.Difference `json:"differences"`
		}{append([]snapshot.Difference{}, differences...)})
		if err != nil {
			return 0, err
		}
	}
	if err := write(s, text); err != nil {
		return 0, err
	}
	if len(differences) > 0 && differences[0].Verdict == snapshot.Dangerous {
		return exitFound, nil
	}
	return exitClean, nil
}

// sides reads the snapshots. A database is compared for the roles of the file that it is compared with, unless others are named.
func (c *diffCommand) sides(ctx context.Context, args []string, s streams) (sides [2]snapshot.Snapshot, err error) {
	which := [2]string{"the first", "the second"}
	for n, argument := range args {
		if !isDatabase(argument) {
			if sides[n], err = readSnapshot(argument); err != nil {
				return sides, fmt.Errorf("%s: %w", which[n], err)
			}
			c.adopt(sides[n])
		}
	}
	for n, argument := range args {
		if isDatabase(argument) {
			if sides[n], err = c.takeOf(ctx, argument, s); err != nil {
				return sides, fmt.Errorf("%s: %w", which[n], err)
			}
		}
	}
	return sides, nil
}

// variable is the beginning of an argument that names an environment variable.
const variable = "env:"

func isDatabase(argument string) bool {
	return strings.HasPrefix(argument, variable) || !isFile(argument)
}

// adopt takes what no option has named from a snapshot.
func (c *diffCommand) adopt(s snapshot.Snapshot) {
	c.appRole = cmp.Or(c.appRole, s.Purposes.App)
	c.adminRole = cmp.Or(c.adminRole, s.Purposes.Admin)
	c.readOnly = cmp.Or(c.readOnly, s.Purposes.ReadOnly)
	c.lookup = cmp.Or(c.lookup, s.Purposes.Lookup)
	c.signed = c.signed || s.Signed
	if c.column == defaultColumn {
		c.column = s.Column
	}
	if c.setting == defaultSetting {
		c.setting = s.Setting
	}
}

func readSnapshot(path string) (snapshot.Snapshot, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return snapshot.Snapshot{}, inFile(path, err)
	}
	taken, err := snapshot.Parse(text)
	return taken, inFile(path, err)
}

// takeOf takes a snapshot of a database.
func (c *diffCommand) takeOf(ctx context.Context, argument string, s streams) (snapshot.Snapshot, error) {
	source := "the argument"
	if name, isVariable := strings.CutPrefix(argument, variable); isVariable {
		source, argument = name, s.env(name)
		if looksLikeDSN(name) {
			return snapshot.Snapshot{}, fmt.Errorf("the name behind %s looks like a DSN (not shown): write it without %[1]s", variable)
		}
		if argument == "" {
			return snapshot.Snapshot{}, fmt.Errorf("the environment variable %s is empty", name)
		}
	}
	pool, err := openDSN(ctx, argument, source)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	defer pool.Close()
	return c.take(ctx, pool)
}

// titles are those of the verdicts, the worst first.
var titles = []struct {
	verdict snapshot.Verdict
	title   string
}{
	{snapshot.Dangerous, "DANGEROUS: loosens the isolation, or may loosen it"},
	{snapshot.Safe, "SAFE: tightens the isolation"},
	{snapshot.Neutral, "NEUTRAL: leaves the isolation as it is"},
}

// differencesAsText writes differences for people.
func differencesAsText(list []snapshot.Difference, p palette) string {
	if len(list) == 0 {
		return "No differences.\n"
	}
	var b strings.Builder
	counts := map[snapshot.Verdict]int{}
	for _, d := range list {
		counts[d.Verdict]++
	}
	for _, t := range titles {
		if counts[t.verdict] == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s%s%s\n", p.bold, t.title, p.reset)
		for _, d := range list {
			if d.Verdict == t.verdict {
				fmt.Fprintf(&b, "  %s%s%s: %s\n", p.bold, line(d.Object), p.reset, line(d.Subject))
				writeSide(&b, "-", d.Before)
				writeSide(&b, "+", d.After)
				fmt.Fprintf(&b, "    %s\n", line(d.Reason))
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s: %d dangerous, %d safe, %d neutral.\n",
		count(len(list), "difference"), counts[snapshot.Dangerous], counts[snapshot.Safe], counts[snapshot.Neutral])
	return b.String()
}

func writeSide(b *strings.Builder, sign, text string) {
	if text != "" {
		fmt.Fprintf(b, "    %s %s\n", sign, line(text))
	}
}
