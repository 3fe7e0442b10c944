package main

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/rls/check"
)

// asText writes a report for people: the findings by severity, the worst first.
func asText(o outcome, p palette) (string, error) {
	r := o.Report
	var b strings.Builder
	for _, severity := range severities {
		writeGroup(&b, r, severity, p)
	}
	writeTolerated(&b, "ALLOWED", r.Allowed, p)
	writeTolerated(&b, "KNOWN", o.known, p)
	if len(o.stale) > 0 {
		fmt.Fprintf(&b, "%sNOT FOUND ANY MORE (%d)%s\n", p.bold, len(o.stale), p.reset)
		for _, k := range o.stale {
			fmt.Fprintf(&b, "  %s: %s\n", k.Code, line(k.Object))
		}
		b.WriteString("  \"--write-baseline\" takes these out of the baseline, which would hide the holes should they open again.\n\n")
	}
	if len(r.NotChecked) > 0 {
		fmt.Fprintf(&b, "%sNOT CHECKED%s\n", p.bold, p.reset)
		for _, text := range r.NotChecked {
			fmt.Fprintf(&b, "  %s\n", line(text))
		}
		b.WriteString("\n")
	}
	writeNotes(&b, r.Notes, p)
	noun := "finding"
	if o.compared {
		noun = "new finding"
	}
	fmt.Fprintf(&b, "%s in %s, for the role %s.\n",
		count(len(r.Findings), noun), count(r.Tables, "tenant table"), line(r.Role))
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
	for n, f := range group {
		fmt.Fprintf(b, "  %s%s%s: %s\n    %s\n", p.bold, f.Code, p.reset, line(f.Object), line(f.Problem))
		if n == 0 || group[n-1].Code != f.Code {
			fmt.Fprintf(b, "    %s%s%s\n", p.dim, f.Code.URL(), p.reset)
		}
		if f.Fix != "" {
			fix := strings.ReplaceAll(printable(f.Fix), "\n", "\n      ")
			fmt.Fprintf(b, "      %s%s%s\n", p.dim, fix, p.reset)
		}
	}
	b.WriteString("\n")
}

// writeTolerated writes findings that do not count, each in one line.
func writeTolerated(b *strings.Builder, title string, list []check.Allowed, p palette) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s (%d)%s\n", p.bold, title, len(list), p.reset)
	for _, a := range list {
		text := fmt.Sprintf("%s: %s", a.Code, line(a.Object))
		if a.Reason != "" {
			text += ": " + line(a.Reason)
		}
		fmt.Fprintf(b, "  %s\n", text)
	}
	b.WriteString("\n")
}

// writeNotes writes what is no hole.
func writeNotes(b *strings.Builder, notes []check.Finding, p palette) {
	if len(notes) == 0 {
		return
	}
	fmt.Fprintf(b, "%sNOTES%s\n", p.bold, p.reset)
	for _, f := range notes {
		fmt.Fprintf(b, "  %s: %s: %s\n    %s%s%s\n", f.Code, line(f.Object), line(f.Problem), p.dim, f.Code.URL(), p.reset)
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
