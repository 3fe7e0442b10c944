package check

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// rule finds one kind of hole among facts of one kind. Each file findings_*.go holds the query for its facts, and the
// table of its rules.
type rule[F fmt.Stringer] struct {
	code     Code
	severity Severity
	found    func(c *checker, fact F) bool
	problem  string                            // with one %s for the detail, if there is one
	detail   func(c *checker, fact F) string   // optional
	details  func(c *checker, fact F) []any    // instead of detail, where there are several
	fix      func(c *checker, fact F) []string // nil where no SQL can help
	by       func(fact F) []string             // by whose rights the application gets there, as in SQL; optional
}

// finding is what the rule says about a fact it holds for.
func (r rule[F]) finding(c *checker, fact F) Finding {
	f := Finding{Code: r.code, Severity: r.severity, Object: fact.String(), Problem: r.problem}
	if r.detail != nil {
		f.Problem = fmt.Sprintf(r.problem, r.detail(c, fact))
	}
	if r.details != nil {
		f.Problem = fmt.Sprintf(r.problem, r.details(c, fact)...)
	}
	if r.by != nil {
		f.Problem = c.along(f.Problem, r.by(fact))
	}
	if r.fix != nil {
		var script strings.Builder
		for _, statement := range r.fix(c, fact) {
			script.WriteString(statement)
			if !strings.HasPrefix(statement, "--") {
				script.WriteString(";")
			}
			script.WriteString("\n")
		}
		f.Fix = strings.TrimSuffix(script.String(), "\n")
	}
	return f
}

// judge applies every rule to every fact.
func judge[F fmt.Stringer](c *checker, rules []rule[F], facts []F) {
	for _, fact := range facts {
		for _, r := range rules {
			if r.found(c, fact) {
				c.findings = append(c.findings, r.finding(c, fact))
			}
		}
	}
}

// judgeFirst applies to each fact the first rule that holds for it.
func judgeFirst[F fmt.Stringer](c *checker, rules []rule[F], facts []F) {
	for _, fact := range facts {
		n := slices.IndexFunc(rules, func(r rule[F]) bool { return r.found(c, fact) })
		if n >= 0 {
			c.findings = append(c.findings, rules[n].finding(c, fact))
		}
	}
}

// Rule describes a kind of finding.
type Rule struct {
	Code     Code
	Severity Severity
}

// Rules returns all that Run can find, in the order in which Report.SQL fixes it.
func Rules() []Rule {
	return slices.Concat(
		describe(modelRules),
		describe(roleRules),
		describe(reachRules),
		describe(settingRules),
		describe(columnRules),
		describe(childRules),
		describe(sharedParentRules),
		describe(primaryKeyRules),
		describe(foreignKeyRules),
		describe(uniqueRules),
		describe(policyRules),
		describe(handMadeRules),
		describe(tableRules),
		describe(restrictiveRules),
		describe(shardRules),
		describe(parentRules),
		describe(viewRules),
		describe(functionRules),
		describe(triggerRules),
		describe(auditStoreRules),
		describe(auditedRules),
		describe(specialRules),
		describe(fileFunctionRules),
		describe(connectorRules),
		describe(rewriteRules),
		describe(grantRules),
		describe(sequenceRules),
		describe(largeObjectRules),
		describe(secretRules),
		describe(parameterRules),
		describe(foreignTableRules),
		describe(foreignServerRules),
		describe(schemaRules),
		describe(defaultRules),
		describe(wallRules),
		describe(keyRules),
		describe(publicationRules),
		describe(serverRules),
		describe(staleRules),
	)
}

func describe[F fmt.Stringer](rules []rule[F]) []Rule {
	list := make([]Rule, len(rules))
	for n, r := range rules {
		list[n] = Rule{Code: r.code, Severity: r.severity}
	}
	return list
}

// ranks are the places of the codes among all rules.
var ranks = sync.OnceValue(func() map[Code]int {
	places := map[Code]int{}
	for n, r := range Rules() {
		places[r.Code] = n
	}
	return places
})
