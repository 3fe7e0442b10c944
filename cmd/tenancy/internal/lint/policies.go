package lint

import (
	"slices"
	"strings"
)

// policy reports a policy that lets rows through whatever their tenant is, and records it.
func (l *linter) policy(isNew bool, n node, at mark) {
	t := l.tables[l.nameOf(n.child("table"))]
	if t == nil {
		return
	}
	name := n.str("policy_name")
	p := t.policies[name]
	if isNew {
		p = policy{command: n.str("cmd_name"), restricted: !n.flag("permissive"), purpose: l.forPurpose(n), at: at}
		t.policies[name] = p
	} else if n["roles"] != nil {
		p.purpose = l.forPurpose(n)
		t.policies[name] = p
	}
	if p.restricted || p.purpose || !t.tenant {
		return
	}
	for clause, field := range map[string]string{"USING": "qual", "WITH CHECK": "with_check"} {
		if expr := n.child(field); expr != nil && !l.limits(expr) {
			l.find(at, PolicyShowsAll, t.name, "the policy %s lets rows through by %s that does not compare %s in each of its branches. "+
				"If it is for the admin role, write TO, and name the role with --admin-role", name, clause, l.options.Column)
		}
	}
}

// forPurpose reports whether a policy is for roles with a purpose only.
func (l *linter) forPurpose(n node) bool {
	roles := n.list("roles")
	for _, r := range roles {
		role := r.str("RoleSpec", "rolename")
		if role == "" || !slices.Contains([]string{l.options.AdminRole, l.options.ReadOnlyRole, l.options.LookupRole}, role) {
			return false
		}
	}
	return len(roles) > 0
}

// limits reports whether a condition holds only for rows of which it compares the tenant column: one side of an AND must, all of an OR.
func (l *linter) limits(expr node) bool {
	if boolean := expr.child("BoolExpr"); boolean != nil {
		args := boolean.list("args")
		switch boolean.str("boolop") {
		case "AND_EXPR":
			return slices.ContainsFunc(args, l.limits)
		case "OR_EXPR":
			return !slices.ContainsFunc(args, func(n node) bool { return !l.limits(n) })
		}
		return false
	}
	if test := expr.child("NullTest"); test != nil {
		return test.str("nulltesttype") == "IS_NULL" && l.mentions(test) // rows that are no tenant's
	}
	if op := expr.child("A_Expr"); op != nil {
		for _, name := range op.strings("name") {
			if name == "<>" || name == "!=" {
				return false
			}
		}
		return l.mentions(op) && !l.comparesItself(op)
	}
	return l.mentions(expr)
}

// comparesItself reports whether both sides are the tenant column.
func (l *linter) comparesItself(op node) bool {
	isColumn := func(side string) bool {
		fields := op.child(side).strings("ColumnRef", "fields")
		return len(fields) > 0 && fields[len(fields)-1] == l.options.Column
	}
	return isColumn("lexpr") && isColumn("rexpr")
}

func (l *linter) mentions(expr node) bool {
	found := false
	walk(map[string]any(expr), "ColumnRef", func(n node) { found = found || slices.Contains(n.strings("fields"), l.options.Column) })
	return found
}

// endOfFile reports what a file has switched off and not on again.
func (l *linter) endOfFile() {
	for _, name := range l.sorted() {
		t := l.tables[name]
		if t.disabled != nil && (t.tenant || t.forced || t.enabled) {
			l.find(*t.disabled, IsolationSwitchedOff, name, "what this statement switches off is not on again at the end of the file")
			t.reported = true
		}
		if t.triggersOff != nil && l.isTenant(name) {
			l.find(*t.triggersOff, TriggersSwitchedOff, name, "the triggers are not on again at the end of the file, and foreign keys are triggers")
		}
		t.disabled, t.triggersOff = nil, nil
	}
	if l.replication != nil {
		l.find(*l.replication, TriggersSwitchedOff, "session_replication_role", "it stays so for the connection, on which foreign keys and triggers "+
			"do not run: use SET LOCAL")
		l.replication = nil
	}
}

// atEnd reports tables that are left without isolation when all migrations have run.
func (l *linter) atEnd() {
	for _, name := range l.sorted() {
		t := l.tables[name]
		missing := t.missing()
		switch {
		case t.tenant:
			l.report.Tables++
			if len(missing) > 0 && !t.reported && !t.partition && !l.options.MigrateMakesPolicies {
				l.find(t.made, TableNotIsolated, name, "no migration gives the table %s", strings.Join(missing, ", "))
			}
			l.someCommands(t)
		case len(missing) == 0 || l.options.MigrateMakesPolicies:
		case t.copied != "":
			l.find(t.made, CopyOfRows, name, "the table holds rows of %s, and no policy hides them", t.copied)
		default:
			if i := slices.IndexFunc(t.parents, func(p string) bool { return p != name && l.isTenant(p) }); i >= 0 {
				l.find(t.made, ChildNotIsolated, name, "the table refers to %s, so that its rows are tenants': add the column %s, or a policy",
					strings.TrimPrefix(t.parents[i], "public."), l.options.Column)
			}
		}
	}
}

// missing returns what a table needs and has not.
func (t *table) missing() []string {
	var missing []string
	if !t.enabled {
		missing = append(missing, "ENABLE ROW LEVEL SECURITY")
	}
	if !t.forced {
		missing = append(missing, "FORCE ROW LEVEL SECURITY")
	}
	for _, p := range t.policies {
		if !p.restricted && !p.purpose {
			return missing
		}
	}
	return append(missing, "a policy")
}

// someCommands reports policies that leave out commands: rows can then be read and not written, or the other way round.
func (l *linter) someCommands(t *table) {
	have := map[string]bool{}
	var last *policy
	for _, p := range t.policies {
		if p.restricted || p.purpose {
			continue
		}
		have[p.command] = true
		if last == nil || p.at.stmt.at > last.at.stmt.at {
			last = &p
		}
	}
	if last == nil || have["all"] {
		return
	}
	var missing []string
	for _, command := range []string{"select", "insert", "update", "delete"} {
		if !have[command] {
			missing = append(missing, strings.ToUpper(command))
		}
	}
	if len(missing) > 0 {
		l.find(last.at, PolicySomeCommands, t.name, "no policy is for %s: such statements touch no row, or are refused. Leave out FOR, which is FOR ALL",
			strings.Join(missing, ", "))
	}
}

func (l *linter) sorted() []string {
	var names []string
	for name := range l.tables {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
