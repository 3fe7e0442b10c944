package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/rls/check"
)

// The types below are the part of SARIF 2.1.0 that is needed
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string          `json:"id"`
		Short         sarifMessage    `json:"shortDescription"`
		HelpURI       string          `json:"helpUri"`
		Configuration sarifLevel      `json:"defaultConfiguration"`
		Properties    sarifProperties `json:"properties"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifProperties struct {
		SecuritySeverity string `json:"security-severity,omitempty"` // a score as of CVSS, by which GitHub sorts
		Fix              string `json:"fix,omitempty"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string       `json:"level"`
		Message sarifMessage `json:"message"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifMessage       `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions"` // empty, not null, if the finding is neither allowed nor known
		Baseline     string             `json:"baselineState,omitempty"`
		Properties   sarifProperties    `json:"properties"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"` // GitHub refuses a file with a result that has none
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification,omitempty"`
	}
)

// sarifRanks are SARIF's levels and GitHub's scores for each severity.
var sarifRanks = map[check.Severity]struct{ level, score string }{
	check.Critical: {"error", "9.5"},
	check.High:     {"error", "8.0"},
	check.Medium:   {"warning", "5.0"},
	check.Low:      {"note", "2.0"},
}

// asSARIF writes a report in the format that tools for static analysis exchange. Findings are in a database, not in a
// file: their locations are logical, beside a file of the repository to show them at.
func asSARIF(o outcome, _ palette) (string, error) {
	driver := sarifDriver{Name: "tenancy", Version: version(), InformationURI: "https://github.com/gormtenancy/tenancy"}
	for _, rule := range check.Rules() {
		if indexOf(driver.Rules, rule.Code) >= 0 {
			continue
		}
		rank := sarifRanks[rule.Severity]
		driver.Rules = append(driver.Rules, sarifRule{
			ID:            string(rule.Code),
			Short:         sarifMessage{strings.ReplaceAll(string(rule.Code), "-", " ")},
			HelpURI:       rule.Code.URL(),
			Configuration: sarifLevel{rank.level},
			Properties:    sarifProperties{SecuritySeverity: rank.score},
		})
	}
	run := sarifRun{Tool: sarifTool{driver}, Results: []sarifResult{}, Invocations: []sarifInvocation{{Successful: true}}}
	for _, text := range o.NotChecked {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{"warning", sarifMessage{text}})
	}
	for _, f := range o.Notes {
		text := fmt.Sprintf("%s on %s: %s", f.Code, f.Object, f.Problem)
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{"note", sarifMessage{text}})
	}
	for _, k := range o.stale {
		text := fmt.Sprintf("%s on %s is in the baseline and is not found any more.", k.Code, k.Object)
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{"note", sarifMessage{text}})
	}
	add := func(f check.Finding, baseline string, suppressions ...sarifSuppression) {
		result := newSARIFResult(driver.Rules, f, o.location, append([]sarifSuppression{}, suppressions...))
		if o.compared {
			result.Baseline = baseline
		}
		run.Results = append(run.Results, result)
	}
	for _, f := range o.Findings {
		add(f, "new")
	}
	for _, a := range o.Allowed {
		add(a.Finding, "unchanged", sarifSuppression{"external", a.Reason})
	}
	for _, k := range o.known {
		add(k.Finding, "unchanged", sarifSuppression{"external", k.Reason})
	}
	return indented(sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
}

func newSARIFResult(rules []sarifRule, f check.Finding, location string, suppressions []sarifSuppression) sarifResult {
	identity := string(f.Code) + " " + f.Object
	return sarifResult{
		RuleID: string(f.Code), RuleIndex: indexOf(rules, f.Code), Level: sarifRanks[f.Severity].level,
		Message: sarifMessage{f.Object + ": " + f.Problem},
		Locations: []sarifLocation{{
			Physical: sarifPhysical{sarifArtifact{location}, sarifRegion{1}},
			Logical:  []sarifLogical{{f.Object}},
		}},
		// GitHub takes results of one rule and one file for the same, unless their hashes differ.
		Fingerprints: map[string]string{
			"codeAndObject/v1":        identity,
			"primaryLocationLineHash": fmt.Sprintf("%.8x:1", sha256.Sum256([]byte(identity))),
		},
		Suppressions: suppressions,
		Properties:   sarifProperties{Fix: f.Fix},
	}
}

func indexOf(rules []sarifRule, code check.Code) int {
	return slices.IndexFunc(rules, func(r sarifRule) bool { return r.ID == string(code) })
}
