package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// livePolicy is a policy on a tenant table, as far as it applies to the application.
type livePolicy struct {
	OID        int64 // of the table
	Name       string
	Command    string // as in pg_policy: '*' is FOR ALL
	Permissive bool
	Roles      []string // it is for, of those of the application; as in SQL
	Using      *expression
	Check      *expression

	table   *tenantTable
	ours    bool           // another policy of the table is canonical, for all commands
	bad     *expression    // the first expression with the worst verdict
	verdict policy.Verdict // on bad
}

// expression is a condition of a policy.
type expression struct {
	policy.Expression
	Constant bool     // it reads neither a column nor a setting
	Or       bool     // it has an OR
	Volatile []string // the volatile functions in it
}

// expressionOf is the SQL for an expression. What functions and operators it calls is in the tree that PostgreSQL stores:
// dependencies are recorded for functions that are not its own only.
func expressionOf(tree string) string {
	return `CASE WHEN ` + tree + ` IS NOT NULL THEN json_build_object(
		'text',     pg_get_expr(` + tree + `, p.polrelid),
		'others',   ` + policy.UsesOthers(tree) + `,
		'constant', ` + tree + `::text !~ '[{](VAR|FUNCEXPR|SUBLINK|SQLVALUEFUNCTION) ',
		'or',       ` + tree + `::text ~ '[{]BOOLEXPR :boolop or ',
		'volatile', (
			SELECT json_agg(DISTINCT f.proname)
			FROM regexp_matches(` + tree + `::text, ':(?:opfuncid|funcid) (\d+) ', 'g') called
			JOIN pg_proc f ON f.oid = called[1]::oid AND f.provolatile = 'v')) END`
}

var policiesQuery = `
SELECT json_agg(json_build_object(
	'oid',        t.oid::bigint,
	'name',       p.polname,
	'command',    p.polcmd,
	'permissive', p.polpermissive,
	'roles',      (SELECT json_agg(self.name ORDER BY self.oid) FROM self WHERE self.oid = ANY (p.polroles)),
	'using',      ` + expressionOf("p.polqual") + `,
	'check',      ` + expressionOf("p.polwithcheck") + `) ORDER BY t.nspname, t.relname, p.polname)
FROM tenants t JOIN pg_policy p ON p.polrelid = t.oid
WHERE p.polroles && ARRAY(SELECT oid FROM self)`

func (p livePolicy) String() string { return fmt.Sprintf("policy %s on %s", p.Name, p.table) }

func (p livePolicy) drop() string { return policy.Drop(p.Name, p.table.Quoted()) }

// judge returns the verdict on an expression of a policy on the table.
func (t *tenantTable) judge(c *checker, e *expression) policy.Verdict {
	if e == nil {
		return c.Judge(nil, t.Column.Type)
	}
	return c.Judge(&e.Expression, t.Column.Type)
}

// decides returns the expression by which the policy decides about a use of rows, nil if it lets none through. Without WITH CHECK,
// PostgreSQL takes USING for it ("CREATE POLICY").
func (p livePolicy) decides(use use) *expression {
	if use.checks && p.Check != nil {
		return p.Check
	}
	return p.Using
}

// use is what policies are asked about: the rows that a command finds, or those that it writes.
type use struct {
	command string // as in pg_policy
	checks  bool
}

var uses = []use{{"r", false}, {"a", true}, {"w", false}, {"w", true}, {"d", false}}

// applies reports whether the policy is asked about a use.
func (p livePolicy) applies(use use) bool { return p.Command == "*" || p.Command == use.command }

// judgedPolicies returns the policies that are not canonical, each with its worst expression, by their verdict. Permissive policies are
// joined with OR, restrictive ones with AND: those can only take away, and one that isolates makes up for any other.
func (c *checker) judgedPolicies() map[policy.Verdict][]livePolicy {
	ours, restrictive := map[int64]bool{}, map[int64][]livePolicy{}
	for _, p := range c.facts.Policies {
		if !p.Permissive {
			restrictive[p.OID] = append(restrictive[p.OID], p)
		} else if p.Command == "*" && p.Using != nil && p.table.judge(c, p.Using) == policy.Canonical && p.table.judge(c, p.Check) == policy.Canonical {
			ours[p.OID] = true
		}
	}
	judged := map[policy.Verdict][]livePolicy{}
	for _, p := range c.facts.Policies {
		p.ours, p.verdict = ours[p.OID], policy.Canonical
		for _, use := range uses {
			e := p.decides(use)
			verdict := p.table.judge(c, e)
			if !p.Permissive || !p.applies(use) || verdict >= p.verdict || c.makesUp(p, use, restrictive[p.OID]) {
				continue
			}
			p.bad, p.verdict = e, verdict
		}
		if p.bad != nil {
			judged[p.verdict] = append(judged[p.verdict], p)
		}
	}
	return judged
}

// makesUp reports whether one of the restrictive policies isolates what the policy lets through. On Citus none does: see opens.
func (c *checker) makesUp(p livePolicy, use use, restrictive []livePolicy) bool {
	return !c.Inline && slices.ContainsFunc(restrictive, func(r livePolicy) bool {
		return r.applies(use) && r.covers(p) && p.table.judge(c, r.decides(use)) > policy.Unproved
	})
}

// opens reports whether the policy is restrictive, and lets through what is not the tenant's where it is permissive: Citus makes it so on
// shards, because its CREATE POLICY there does not say AS RESTRICTIVE.
func (p livePolicy) opens(c *checker) bool {
	return c.Inline && !p.Permissive && slices.ContainsFunc(uses, func(use use) bool {
		return p.applies(use) && p.table.judge(c, p.decides(use)) == policy.Unproved
	})
}

// covers reports whether the policy applies to all roles that the other one applies to.
func (p livePolicy) covers(other livePolicy) bool {
	return slices.Contains(p.Roles, public) || !slices.ContainsFunc(other.Roles, func(role string) bool {
		return !slices.Contains(p.Roles, role)
	})
}

// isolatesSigned reports whether the policy isolates, with a signature or without one.
func (p livePolicy) isolatesSigned(c *checker) bool {
	either := c.Config
	either.Form = policy.Either
	return p.isolates(either)
}

// demandsSignature reports whether the policy isolates by a signature, which the check does not ask for.
func (p livePolicy) demandsSignature(c *checker) bool {
	return c.Form == policy.Unsigned && !p.isolates(c.Config) && p.isolatesSigned(c)
}

// isolates reports whether both expressions isolate.
func (p livePolicy) isolates(cfg policy.Config) bool {
	for _, e := range []*expression{p.Using, p.Check} {
		if e != nil && cfg.Judge(&e.Expression, p.table.Column.Type) == policy.Unproved {
			return false
		}
	}
	return true
}

// by returns the roles that the policy is for.
func (p livePolicy) by() []string { return p.Roles }

var (
	settingsRead = regexp.MustCompile(`current_setting\('((?:[^']|'')*)'`)
	castColumn   = `\(%s\)::`
)

// policyRules are about policies that are not proved to isolate, in the order of what matters most. Only the first one that holds is
// reported.
var policyRules = []rule[livePolicy]{
	{
		code: PolicyAlwaysTrue, severity: Critical,
		found:   func(_ *checker, p livePolicy) bool { return p.bad.Constant && p.bad == p.Using },
		problem: "It lets every row through for the application: each tenant reads and changes the rows of all.",
		fix:     (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyCheckAlwaysTrue, severity: High,
		found:   func(_ *checker, p livePolicy) bool { return p.bad.Constant },
		problem: "It checks nothing of what is written: each tenant can give rows to others, and plant data among theirs.",
		fix:     (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyBesideOurs, severity: High,
		found:   func(_ *checker, p livePolicy) bool { return p.ours },
		problem: "Permissive policies are joined with OR: each tenant reaches what this one lets through, whosever it is.",
		fix:     (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyOrBypass, severity: High,
		found: func(_ *checker, p livePolicy) bool { return p.bad.Or },
		problem: "An OR lets rows through that are not the tenant's, which a setting or a value may be enough for, and keeps " +
			"PostgreSQL from using the index: bypass with a role of its own.",
		fix: (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyWrongSetting, severity: High,
		found: func(c *checker, p livePolicy) bool {
			return slices.ContainsFunc(settingsRead.FindAllStringSubmatch(p.bad.Text, -1), func(read []string) bool {
				return !strings.EqualFold(read[1], c.Setting)
			})
		},
		problem: "It reads a setting other than %s: what a session left there decides whose rows are seen, not the tenant of the " +
			"statement.",
		detail: func(c *checker, _ livePolicy) string { return c.Setting },
		fix:    (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyVolatile, severity: High,
		found: func(_ *checker, p livePolicy) bool { return len(p.bad.Volatile) > 0 },
		problem: "It calls a function (%s) that is VOLATILE, once for each row of every tenant and without the index: a large tenant " +
			"slows everyone down, and what the function returns may change in between. That the policy keeps tenants apart is not proved.",
		detail: func(_ *checker, p livePolicy) string { return join(p.bad.Volatile) },
		fix:    (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: SignedNotDemanded, severity: High,
		found: func(c *checker, p livePolicy) bool { return c.Form == policy.Signed && p.isolatesSigned(c) },
		problem: "It takes statements without a signature: SQL that names another tenant sees its rows. When no instance of the " +
			"application without a key is left, migrate with Signed, and without DangerouslyAcceptUnsigned; before, instances without one find no rows.",
		fix: func(c *checker, p livePolicy) []string {
			return append([]string{"-- when no instance of the application without a key is left:"}, c.replacePolicy(p)...)
		},
		by: livePolicy.by,
	},
	{
		code: SignedNotExpected, severity: High,
		found: func(c *checker, p livePolicy) bool { return p.demandsSignature(c) },
		problem: "It demands a signature of the tenant, and this check is not about signed tenants: check with Signed (--signed). No SQL " +
			"is shown for any finding, because it would take the signature away.",
		by: livePolicy.by,
	},
	{
		code: PolicyNotCanonical, severity: High,
		found:   func(*checker, livePolicy) bool { return true },
		problem: "It is none that this check understands: that it keeps tenants apart is not proved, nor that it uses the index.",
		fix:     (*checker).replacePolicy, by: livePolicy.by,
	},
}

// handMadeRules are about policies that isolate, and could do it better.
var handMadeRules = []rule[livePolicy]{
	{
		code: PolicyCastsColumn, severity: Medium,
		found: func(_ *checker, p livePolicy) bool {
			cast := regexp.MustCompile(fmt.Sprintf(castColumn, regexp.QuoteMeta(p.table.Name)))
			binary := strings.ReplaceAll(p.bad.Text, "("+p.table.Name+")::text", "")
			return cast.MatchString(p.bad.Text) && (p.table.Column.Type != "character varying" || cast.MatchString(binary))
		},
		problem: "It casts the tenant column, so that no index can be used, and each statement of the smallest tenant reads the " +
			"rows of all.",
		fix: (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyWithoutNullif, severity: Medium,
		found: func(_ *checker, p livePolicy) bool {
			return settingsRead.MatchString(p.bad.Text) && !strings.Contains(p.bad.Text, "NULLIF(")
		},
		problem: "A setting that ended with its transaction reads as an empty string: without NULLIF, a session without a tenant " +
			"sees the rows of a tenant with an empty id, or gets errors.",
		fix: (*checker).replacePolicy, by: livePolicy.by,
	},
	{
		code: PolicyWithoutSubselect, severity: Medium,
		found: func(_ *checker, p livePolicy) bool {
			return settingsRead.MatchString(p.bad.Text) && !strings.Contains(p.bad.Text, "( SELECT ")
		},
		problem: "It reads the setting outside of a subquery: where PostgreSQL finds rows by another index, or reads the table, it does so once " +
			"for each row and not once for the statement.",
		fix: (*checker).replacePolicy, by: livePolicy.by,
	},
}

// restrictiveRules are about policies that open on Citus what they should close.
var restrictiveRules = []rule[livePolicy]{{
	code: PolicyRestrictiveOpens, severity: Critical,
	found: func(c *checker, p livePolicy) bool { return p.opens(c) },
	problem: "Citus makes it on shards without AS RESTRICTIVE, and permissive policies are joined with OR: each tenant reads and changes what it " +
		"lets through, whosever it is.",
	fix: func(_ *checker, p livePolicy) []string { return []string{p.drop()} },
	by:  livePolicy.by,
}}

// replacePolicy takes a policy away, and makes ours if there is none.
func (c *checker) replacePolicy(p livePolicy) []string {
	if p.ours {
		return []string{p.drop()}
	}
	steps := c.policies(p.table)
	if !slices.Contains(steps, p.drop()) {
		steps = append([]string{p.drop()}, steps...)
	}
	return steps
}
