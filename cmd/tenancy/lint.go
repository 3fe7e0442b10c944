package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/cmd/tenancy/internal/lint"
	"github.com/gormtenancy/tenancy/rls/check"
)

// lintCommand reads migrations, and reports what they do to the isolation of tenants.
type lintCommand struct {
	connection
	roles
	format string
	failOn check.Severity
	byGo   bool // rls.Isolation.Migrate makes the policies
	tables []string
}

const lintDetails = `
The folder holds the migrations of goose, golang-migrate, Atlas or dbmate, or plain files of SQL, which run in the order of their names.
It connects to no database. A comment before a statement, "-- tenancy:ignore CODE REASON", says that a finding is meant.
`

const lintPage = "https://github.com/gormtenancy/tenancy/blob/main/docs/lint.md"

var lintFormats = map[string]func(lint.Report, palette) (string, error){
	"text":  lintText,
	"json":  func(r lint.Report, _ palette) (string, error) { return indented(r) },
	"sarif": func(r lint.Report, _ palette) (string, error) { return indented(lintSARIF(r)) },
}

func (c *lintCommand) flags(set *flag.FlagSet) {
	c.nameFlags(set)
	c.roles.flags(set, &c.connection)
	formatFlag(set, &c.format)
	set.BoolVar(&c.byGo, "migrate-makes-policies", false, "rls.Isolation.Migrate makes the policies, so that they are not in the migrations: tables without one are no finding")
	set.Func("tenant-table", "a `table` that rls.Isolation.Migrate isolates, although the migrations do not give it the tenant column; those that refer\n"+
		"        to it are isolated too. Can be repeated; implies --migrate-makes-policies", func(table string) error {
		c.tables, c.byGo = append(c.tables, table), true
		return nil
	})
	failOnFlag(set, &c.failOn)
}

func (c *lintCommand) run(_ context.Context, args []string, s streams) (int, error) {
	if len(args) != 1 {
		return 0, misused("name the folder of the migrations")
	}
	if !isFile(args[0]) {
		return 0, misused("the argument must be a folder (not shown: it looks like a DSN)")
	}
	report, err := lint.Run(args[0], lint.Options{
		Column: c.column, Setting: c.setting, AppRole: c.appRole, AdminRole: c.adminRole, ReadOnlyRole: c.readOnly, LookupRole: c.lookup,
		MigrateMakesPolicies: c.byGo, TenantTables: c.tables,
	})
	if err != nil {
		return 0, inFile(args[0], err)
	}
	text, err := lintFormats[c.format](report, paletteFor(s))
	if err != nil {
		return 0, err
	}
	if err := write(s, text); err != nil {
		return 0, err
	}
	if report.Tables == 0 {
		return exitFound, nil // data migrations were not checked
	}
	if slices.ContainsFunc(report.Findings, func(f lint.Finding) bool { return lintRule(f.Code).Severity >= c.failOn }) {
		return exitFound, nil
	}
	return exitClean, nil
}

func lintRule(code string) lint.Rule {
	rules := lint.Rules()
	return rules[slices.IndexFunc(rules, func(r lint.Rule) bool { return r.Code == code })]
}

// lintText writes a report for people, in the order of the migrations.
func lintText(r lint.Report, p palette) (string, error) {
	var b strings.Builder
	explained := map[string]bool{}
	for _, f := range r.Findings {
		severity := lintRule(f.Code).Severity
		fmt.Fprintf(&b, "%s:%d: %s%s%s %s%s%s: %s\n    %s\n", line(f.File), f.Line, p.severity[severity], severity, p.reset, p.bold, f.Code, p.reset,
			line(f.Object), line(f.Problem))
		if !explained[f.Code] {
			explained[f.Code] = true
			fmt.Fprintf(&b, "    %s%s#%s%s\n", p.dim, lintPage, f.Code, p.reset)
		}
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n")
	}
	var ignored, notChecked []string
	for _, f := range r.Ignored {
		ignored = append(ignored, fmt.Sprintf("%s:%d: %s: %s: %s", f.File, f.Line, f.Code, f.Object, f.Reason))
	}
	for _, n := range r.NotChecked {
		notChecked = append(notChecked, fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Why))
	}
	writeLines(&b, "IGNORED", ignored, p)
	writeLines(&b, "NOT CHECKED", notChecked, p)
	fmt.Fprintf(&b, "%s in %s, with %s.\n", count(len(r.Findings), "finding"), plural(r.Files, "file"), plural(r.Tables, "tenant table"))
	if r.Tables == 0 {
		b.WriteString("No migration gives a table the tenant column, so data migrations were not checked. If rls.Isolation.Migrate does, name the tables with --tenant-table.\n")
	}
	return b.String(), nil
}

func lintSARIF(r lint.Report) sarifLog {
	var rules []codeRule
	for _, rule := range lint.Rules() {
		rank := sarifRanks[rule.Severity]
		rules = append(rules, codeRule{rule.Code, rule.Summary, rank.level, rank.score, lintPage + "#" + rule.Code})
	}
	var findings []codeFinding
	for _, f := range slices.Concat(r.Findings, r.Ignored) {
		findings = append(findings, codeFinding{
			rule: f.Code, text: f.Object + ": " + f.Problem, file: f.File, line: f.Line, identity: f.Object, suppressed: f.Reason,
		})
	}
	var notChecked []string
	for _, n := range r.NotChecked {
		notChecked = append(notChecked, fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Why))
	}
	return sarifFor(rules, findings, notChecked)
}
