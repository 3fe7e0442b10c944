package main

import (
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
	if c.dsn != "" {
		return 0, misused("--dsn: name both databases as arguments")
	}
	if len(args) != 2 {
		return 0, misused("give two snapshots or databases, after the options: each a file, a DSN, or env:NAME for a DSN in an environment variable")
	}
	var sides [2]snapshot.Snapshot
	for n, which := range []string{"the first", "the second"} {
		taken, err := c.side(ctx, args[n], s)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", which, err)
		}
		sides[n] = taken
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

// side reads a snapshot from a file, or takes it of a database.
func (c *diffCommand) side(ctx context.Context, argument string, s streams) (snapshot.Snapshot, error) {
	source := "the argument"
	if name, isVariable := strings.CutPrefix(argument, "env:"); isVariable {
		source, argument = name, s.env(name)
		if argument == "" {
			return snapshot.Snapshot{}, fmt.Errorf("the environment variable %s is empty", name)
		}
	} else if isFile(argument) {
		text, err := os.ReadFile(argument)
		if err != nil {
			return snapshot.Snapshot{}, inFile(argument, err)
		}
		taken, err := snapshot.Parse(text)
		return taken, inFile(argument, err)
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
