package main

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/rls/check"
)

// asText writes a report for people: the findings by severity, the worst first.
func asText(r check.Report, p palette) (string, error) {
	var b strings.Builder
	for _, severity := range severities {
		writeGroup(&b, r, severity, p)
	}
	if len(r.Allowed) > 0 {
		fmt.Fprintf(&b, "%sALLOWED (%d)%s\n", p.bold, len(r.Allowed), p.reset)
		for _, a := range r.Allowed {
			fmt.Fprintf(&b, "  %s: %s: %s\n", a.Code, line(a.Object), line(a.Reason))
		}
		b.WriteString("\n")
	}
	if len(r.NotChecked) > 0 {
		fmt.Fprintf(&b, "%sNOT CHECKED%s\n", p.bold, p.reset)
		for _, text := range r.NotChecked {
			fmt.Fprintf(&b, "  %s\n", line(text))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s in %s, for the role %s.\n",
		count(len(r.Findings), "finding"), count(r.Tables, "tenant table"), line(r.Role))
	if r.SQL() != "" {
		b.WriteString("\"tenancy sql\" with the same options prints these statements as one script, in the right order.\n")
	}
	return b.String(), nil
}

// writeGroup writes the findings of one severity.
func writeGroup(b *strings.Builder, r check.Report, severity check.Severity, p palette) {
	var group []check.Finding
	for _, f := range r.Findings {
		if f.Severity == severity {
			group = append(group, f)
		}
	}
	if len(group) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s (%d)%s\n", p.severity[severity], strings.ToUpper(severity.String()), len(group), p.reset)
	for _, f := range group {
		fmt.Fprintf(b, "  %s%s%s: %s\n    %s\n", p.bold, f.Code, p.reset, line(f.Object), line(f.Problem))
		if f.Fix != "" {
			fix := strings.ReplaceAll(printable(f.Fix), "\n", "\n      ")
			fmt.Fprintf(b, "      %s%s%s\n", p.dim, fix, p.reset)
		}
	}
	b.WriteString("\n")
}

// line makes a text fit for one line of a terminal.
func line(s string) string { return strings.ReplaceAll(printable(s), "\n", " ") }

// count writes a number with its noun.
func count(n int, noun string) string {
	switch n {
	case 0:
		return "No " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
