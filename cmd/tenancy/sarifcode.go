package main

import (
	"crypto/sha256"
	"fmt"

	"github.com/gormtenancy/tenancy/cmd/tenancy/internal/callsites"
)

// codeFinding is a finding in a file, as opposed to one in a database.
type codeFinding struct {
	rule, text, file string
	line             int
	identity         string // without the line, which changes when other lines are added
	suppressed       string // the reason, empty if it counts
}

// codeRule is a kind of codeFinding.
type codeRule struct{ id, short, level, score, url string }

// sarifFor makes a log of findings in files.
func sarifFor(rules []codeRule, findings []codeFinding, notChecked []string) sarifLog {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "tenancy", Version: version(), InformationURI: "https://github.com/gormtenancy/tenancy"}},
		Results:     []sarifResult{},
		Invocations: []sarifInvocation{{Successful: true}},
	}
	index := map[string]int{}
	for i, r := range rules {
		index[r.id] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: r.id, Short: sarifMessage{r.short}, HelpURI: r.url, Configuration: sarifLevel{r.level},
			Properties: sarifProperties{SecuritySeverity: r.score},
		})
	}
	for _, text := range notChecked {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{"warning", sarifMessage{text}})
	}
	seen := map[string]int{}
	for _, f := range findings {
		identity := f.rule + " " + f.file + " " + f.identity
		seen[identity]++
		suppressions := []sarifSuppression{}
		if f.suppressed != "" {
			suppressions = append(suppressions, sarifSuppression{"inSource", f.suppressed})
		}
		run.Results = append(run.Results, sarifResult{
			RuleID: f.rule, RuleIndex: index[f.rule], Level: rules[index[f.rule]].level, Message: sarifMessage{f.text},
			Locations: []sarifLocation{{Physical: sarifPhysical{sarifArtifact{f.file}, sarifRegion{f.line}}, Logical: []sarifLogical{{f.identity}}}},
			Fingerprints: map[string]string{
				"codeAndObject/v1":        identity,
				"primaryLocationLineHash": fmt.Sprintf("%.8x:%d", sha256.Sum256([]byte(identity)), seen[identity]),
			},
			Suppressions: suppressions,
		})
	}
	return sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	}
}

const callsitesPage = "https://github.com/gormtenancy/tenancy/blob/main/docs/callsites.md"

var callsitesRules = []codeRule{
	{string(callsites.AtHand), "SQL is sent without the context that is at hand", "warning", "5.0", callsitesPage + "#context-at-hand"},
	{string(callsites.NoneAtHand), "SQL is sent without a context, and none is at hand", "warning", "5.0", callsitesPage + "#no-context-at-hand"},
	{string(callsites.Follows), "SQL is sent in a transaction without a context", "note", "2.0", callsitesPage + "#in-a-transaction"},
	{string(callsites.NotFollowed), "where the *gorm.DB comes from cannot be seen", "note", "2.0", callsitesPage + "#not-followed"},
	{"cache-without-tenant", "a cache beside a query has a key that names no tenant", "warning", "6.0", callsitesPage + "#cache-without-tenant"},
}

func callsitesSARIF(r callsites.Report) sarifLog {
	var findings []codeFinding
	for _, s := range r.Sites {
		text := s.Function + ": " + s.Call + " is sent without a context"
		for _, more := range []string{s.Use, string(s.Reason), s.Note} {
			if more != "" {
				text += "; " + more
			}
		}
		findings = append(findings, codeFinding{rule: string(s.Group), text: text, file: s.File, line: s.Line, identity: s.Function + " " + s.Call})
	}
	for _, c := range r.Caches {
		findings = append(findings, codeFinding{
			rule: "cache-without-tenant", text: fmt.Sprintf("%s: the key %s of %s names no tenant", c.Function, c.Key, c.Cache),
			file: c.File, line: c.Line, identity: c.Function + " " + c.Cache,
		})
	}
	return sarifFor(callsitesRules, findings, nil)
}
