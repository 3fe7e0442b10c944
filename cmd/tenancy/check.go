package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"

	"github.com/gormtenancy/tenancy/rls/check"
)

// checkCommand reports what breaks the isolation of tenants in a database.
type checkCommand struct {
	subject
	format      string
	failOn      check.Severity
	baseline    string // the path of the file, empty for none
	write       bool   // the baseline
	failOnStale bool
	location    string // for SARIF
}

// outcome is a report, and what the baseline says of it.
type outcome struct {
	check.Report                 // without what is known
	compared     bool            // there is a baseline
	known        []check.Allowed // findings of the baseline
	stale        []known         // what the baseline has and the report has not
	location     string          // the file to show findings at
}

// formats are the formats of a report.
var formats = map[string]func(outcome, palette) (string, error){
	"text":  asText,
	"json":  asJSON,
	"sarif": asSARIF,
}

// severities are all of them, the worst first.
var severities = []check.Severity{check.Critical, check.High, check.Medium, check.Low}

func (c *checkCommand) flags(set *flag.FlagSet) {
	c.subject.flags(set)
	formatFlag(set, &c.format)
	failOnFlag(set, &c.failOn)
	set.StringVar(&c.location, "location", "database", "the `file` of your repository at which findings are shown, for SARIF: its readers want one, and findings are in a\n"+
		"        database (default database)")
	set.StringVar(&c.baseline, "baseline", "", "a `file` of known findings: only others make the exit code 1. What is in the file and is not found any more is\n"+
		"        listed, and does not count: the same file can serve databases that are not fixed at the same time")
	set.BoolVar(&c.write, "write-baseline", false, "write all findings to the file of --baseline, in place of a report. Reasons that people have written there are kept,\n"+
		"        and what is not found any more is left out")
	set.BoolVar(&c.failOnStale, "fail-on-stale", false, "make the exit code 1 also for what is in the file of --baseline and is not found any more")
}

// formatFlag adds the option that says how a report is written.
func formatFlag(set *flag.FlagSet, format *string) {
	*format = "text"
	set.Func("format", "the `format` of the report: text, json or sarif (default text)", func(name string) error {
		if formats[name] == nil {
			return fmt.Errorf("must be text, json or sarif")
		}
		*format = name
		return nil
	})
}

// failOnFlag adds the option that says which findings make the exit code 1.
func failOnFlag(set *flag.FlagSet, failOn *check.Severity) {
	set.Func("fail-on", "the lowest `severity` that makes the exit code 1: critical, high, medium or low (default low)", func(name string) error {
		n := slices.IndexFunc(severities, func(s check.Severity) bool { return s.String() == name })
		if n < 0 {
			return fmt.Errorf("must be critical, high, medium or low")
		}
		*failOn = severities[n]
		return nil
	})
}

func (c *checkCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if err := none(args); err != nil {
		return 0, err
	}
	if c.baseline == "" && (c.write || c.failOnStale) {
		return 0, misused("--write-baseline and --fail-on-stale need --baseline, the file")
	}
	if !isFile(c.baseline) {
		return 0, misused("--baseline: must be a file (not shown: it looks like a DSN)")
	}
	before, err := c.before()
	if err != nil {
		return 0, err
	}
	report, err := c.check(ctx, s)
	if err != nil {
		return 0, err
	}
	result := outcome{Report: report}
	if c.baseline != "" {
		result = before.compare(report)
	}
	result.location = c.location
	if c.write {
		return exitClean, c.writeBaseline(before.next(report), result, s)
	}
	text, err := formats[c.format](result, paletteFor(s))
	if err != nil {
		return 0, err
	}
	if err := write(s, text); err != nil {
		return 0, err
	}
	if c.failOnStale && len(result.stale) > 0 {
		return exitFound, nil
	}
	if slices.ContainsFunc(result.Findings, func(f check.Finding) bool { return f.Severity >= c.failOn }) {
		return exitFound, nil
	}
	return exitClean, nil
}

// before reads the baseline. The first one is written without another.
func (c *checkCommand) before() (baseline, error) {
	if c.baseline == "" {
		return baseline{}, nil
	}
	b, err := readBaseline(c.baseline)
	if c.write && errors.Is(err, fs.ErrNotExist) {
		return baseline{}, nil
	}
	return b, err
}

// writeBaseline writes the file, and says what has changed in it.
func (c *checkCommand) writeBaseline(next baseline, result outcome, s streams) error {
	if err := next.write(c.baseline); err != nil {
		return err
	}
	return write(s, fmt.Sprintf("%s: %s. %d new, %d removed.\n",
		printable(c.baseline), count(len(next.Findings), "known finding"), len(result.Findings), len(result.stale)))
}
