package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// The exit codes.
const (
	exitClean       = 0
	exitFound       = 1   // findings at or above --fail-on, or dangerous differences
	exitFailed      = 2   // an error
	exitInterrupted = 130 // Ctrl-C, as shells count it
)

// streams is what a command knows of the process it runs in.
type streams struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
}

// command is a command of the tool.
type command interface {
	flags(fs *flag.FlagSet)
	run(ctx context.Context, args []string, s streams) (exit int, err error)
}

// commands are all of them, by name.
var commands = []struct {
	name, arguments, summary string
	make                     func() command
	details                  string // for the help of the command
}{
	{"check", "", "report what breaks the isolation of tenants in a database", func() command { return &checkCommand{} }, ""},
	{"sql", "", "print an SQL script that fixes what check reports, or goes around a data migration", func() command { return &sqlCommand{} }, ""},
	{"explain", "'SELECT …'", "show the plan of a statement as a tenant gets it", func() command { return &explainCommand{} }, ""},
	{"snapshot", "", "write how a database keeps tenants apart, as JSON to compare", func() command { return &snapshotCommand{} }, ""},
	{"diff", "BEFORE AFTER", "compare two snapshots or databases, and say what loosens the isolation", func() command { return &diffCommand{} }, diffDetails},
	{"lint", "DIR", "report what the migrations in a folder do to the isolation of tenants", func() command { return &lintCommand{} }, lintDetails},
	{"callsites", "[PACKAGES]", "list where a Go program uses a *gorm.DB without a context", func() command { return &callsitesCommand{} }, callsitesDetails},
	{"adopt", "", "report what each table of a database still needs until it is isolated", func() command { return &adoptCommand{} }, adoptDetails},
	{"tenant", "ACTION", "count, export, import, compare, erase or move all rows of one tenant", func() command { return &tenantCommand{} }, tenantDetails},
	{"audit", "maintain", "make and drop the partitions of the records of changes", func() command { return &auditCommand{} }, auditDetails},
	{"keys", "ACTION", "add, list and retire the keys that sign tenants", func() command { return &keysCommand{} }, keysDetails},
	{"version", "", "print the version", func() command { return versionCommand{} }, ""},
}

// usageError is a mistake in the command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func misused(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// run runs the command that the arguments name, and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	if len(args) == 0 {
		fmt.Fprint(s.err, overview())
		return exitFailed
	}
	name, args := args[0], args[1:]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		return help(args, s)
	}
	if name == "-version" || name == "--version" {
		name = "version"
	}
	for _, c := range commands {
		if c.name != name {
			continue
		}
		exit, err := runCommand(ctx, c.make(), name, args, s)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return help([]string{name}, s)
		case err == nil:
			return exit
		}
		if ctx.Err() != nil {
			fmt.Fprintf(s.err, "tenancy %s: interrupted\n", name)
			return exitInterrupted
		}
		if errors.As(err, new(usageError)) {
			fmt.Fprintf(s.err, "%s\"tenancy help %s\" lists the options.\n\n", synopsis(name, c.arguments), name)
		}
		fmt.Fprintf(s.err, "tenancy %s: %s\n", name, printable(strings.TrimPrefix(err.Error(), "tenancy: ")))
		return exitFailed
	}
	return unknownCommand(name, s)
}

// unknownCommand reports the error on the last line, where people look first.
func unknownCommand(name string, s streams) int {
	fmt.Fprintf(s.err, "Usage: tenancy <command> [options]\n\"tenancy help\" lists the commands.\n\ntenancy: %s\n", unknown("command", name))
	return exitFailed
}

func runCommand(ctx context.Context, c command, name string, args []string, s streams) (int, error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.flags(fs)
	if err := fs.Parse(args); err != nil {
		return 0, inFlags(err)
	}
	return c.run(ctx, fs.Args(), s)
}

// inFlags returns the error of package flag, without its text where that may hold a misplaced DSN.
func inFlags(err error) error {
	switch text := err.Error(); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case strings.ContainsAny(text, "@") || strings.Contains(text, "://") || strings.Contains(text, "password"):
		return misused("an option is unknown or has a wrong value (not shown: it looks like a DSN)")
	default:
		return usageError{text}
	}
}

// word matches an argument that cannot hold a password.
var word = regexp.MustCompile(`^[a-z-]{1,20}$`)

// unknown names an unknown argument, unless it may be a DSN.
func unknown(what, argument string) string {
	if word.MatchString(argument) {
		return fmt.Sprintf("unknown %s %q", what, argument)
	}
	return "unknown " + what
}

// none refuses arguments of a command that takes none.
func none(args []string) error {
	if len(args) > 0 {
		return misused("%s: name the database with --dsn", unknown("argument", args[0]))
	}
	return nil
}

// write writes all of a command's output at once.
func write(s streams, text string) error {
	if _, err := io.WriteString(s.out, text); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
