package main

import (
	"encoding/json"
	"strings"

	"github.com/gormtenancy/tenancy/rls/check"
)

// jsonReport is the report for programs. Fields may be added, but are never renamed.
type jsonReport struct {
	Role       string        `json:"role"`
	Tables     int           `json:"tables"`
	Findings   []jsonFinding `json:"findings"`
	Allowed    []jsonFinding `json:"allowed"`
	Known      []jsonFinding `json:"known"` // in the file of --baseline, and still found
	Stale      []known       `json:"stale"` // in the file of --baseline, and not found any more
	NotChecked []string      `json:"not_checked"`
	Notes      []jsonFinding `json:"notes"` // what is no hole
}

type jsonFinding struct {
	Code     check.Code `json:"code"`
	Severity string     `json:"severity"`
	Object   string     `json:"object"`
	URL      string     `json:"url"` // of the page that explains the code
	Problem  string     `json:"problem"`
	Fix      string     `json:"fix,omitempty"`
	Reason   string     `json:"reason,omitempty"` // of what is allowed or known
}

// asJSON writes a report as one JSON document. Lists are never null.
func asJSON(o outcome, _ palette) (string, error) {
	report := jsonReport{
		Role: o.Role, Tables: o.Tables,
		Findings: []jsonFinding{}, Allowed: []jsonFinding{}, Known: []jsonFinding{}, Stale: append([]known{}, o.stale...),
		NotChecked: append([]string{}, o.NotChecked...), Notes: []jsonFinding{},
	}
	for _, f := range o.Findings {
		report.Findings = append(report.Findings, newJSONFinding(f, ""))
	}
	for _, a := range o.Allowed {
		report.Allowed = append(report.Allowed, newJSONFinding(a.Finding, a.Reason))
	}
	for _, k := range o.known {
		report.Known = append(report.Known, newJSONFinding(k.Finding, k.Reason))
	}
	for _, f := range o.Notes {
		report.Notes = append(report.Notes, newJSONFinding(f, ""))
	}
	return indented(report)
}

func newJSONFinding(f check.Finding, reason string) jsonFinding {
	return jsonFinding{Code: f.Code, Severity: f.Severity.String(), Object: f.Object, URL: f.Code.URL(), Problem: f.Problem, Fix: f.Fix, Reason: reason}
}

// indented writes a document so that it can be compared line by line, with < and & as they are.
func indented(document any) (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(document)
	return b.String(), err
}
