package main

import (
	"context"
	"flag"
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/rls/check"
)

// checkCommand reports what breaks the isolation of tenants in a database.
type checkCommand struct {
	subject
	format string
	failOn check.Severity
}

// formats are the formats of a report.
var formats = map[string]func(check.Report, palette) (string, error){
	"text":  asText,
	"json":  asJSON,
	"sarif": asSARIF,
}

// severities are all of them, the worst first.
var severities = []check.Severity{check.Critical, check.High, check.Medium, check.Low}

func (c *checkCommand) flags(fs *flag.FlagSet) {
	c.subject.flags(fs)
	c.format = "text"
	fs.Func("format", "the `format` of the report: text, json or sarif (default text)", func(name string) error {
		if formats[name] == nil {
			return fmt.Errorf("must be text, json or sarif")
		}
		c.format = name
		return nil
	})
	fs.Func("fail-on", "the lowest `severity` that makes the exit code 1: critical, high, medium or low (default low)", func(name string) error {
		n := slices.IndexFunc(severities, func(s check.Severity) bool { return s.String() == name })
		if n < 0 {
			return fmt.Errorf("must be critical, high, medium or low")
		}
		c.failOn = severities[n]
		return nil
	})
}

func (c *checkCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if err := none(args); err != nil {
		return 0, err
	}
	report, err := c.check(ctx, s)
	if err != nil {
		return 0, err
	}
	text, err := formats[c.format](report, paletteFor(s))
	if err != nil {
		return 0, err
	}
	if err := write(s, text); err != nil {
		return 0, err
	}
	if slices.ContainsFunc(report.Findings, func(f check.Finding) bool { return f.Severity >= c.failOn }) {
		return exitFound, nil
	}
	return exitClean, nil
}
