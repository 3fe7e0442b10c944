package main

import (
	"encoding/json"

	"github.com/gormtenancy/tenancy/rls/check"
)

// jsonReport is the report for programs. Fields may be added, but are never renamed.
type jsonReport struct {
	Role       string        `json:"role"`
	Tables     int           `json:"tables"`
	Findings   []jsonFinding `json:"findings"`
	Allowed    []jsonFinding `json:"allowed"`
	NotChecked []string      `json:"not_checked"`
}

type jsonFinding struct {
	Code     check.Code `json:"code"`
	Severity string     `json:"severity"`
	Object   string     `json:"object"`
	Problem  string     `json:"problem"`
	Fix      string     `json:"fix,omitempty"`
	Reason   string     `json:"reason,omitempty"` // of what is allowed
}

// asJSON writes a report as one JSON document. Lists are never null.
func asJSON(r check.Report, _ palette) (string, error) {
	report := jsonReport{
		Role: r.Role, Tables: r.Tables,
		Findings: []jsonFinding{}, Allowed: []jsonFinding{}, NotChecked: append([]string{}, r.NotChecked...),
	}
	for _, f := range r.Findings {
		report.Findings = append(report.Findings, newJSONFinding(f, ""))
	}
	for _, a := range r.Allowed {
		report.Allowed = append(report.Allowed, newJSONFinding(a.Finding, a.Reason))
	}
	return indented(report)
}

func newJSONFinding(f check.Finding, reason string) jsonFinding {
	return jsonFinding{Code: f.Code, Severity: f.Severity.String(), Object: f.Object, Problem: f.Problem, Fix: f.Fix, Reason: reason}
}

func indented(document any) (string, error) {
	text, err := json.MarshalIndent(document, "", "  ")
	return string(text) + "\n", err
}
