package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
)

func (d *differ) table(before, after *Table) {
	switch {
	case before == nil:
		verdict, why := d.after.judgeNew(*after)
		d.add(verdict, "table "+after.Name, "table", "", after.kind(), why)
		return
	case after == nil:
		d.add(Safe, "table "+before.Name, "table", before.kind(), "", "There is less to read and write. What took its place counts above.")
		return
	}
	object := "table " + after.Name
	d.owner(object, before.Owner, after.Owner, after.Column != nil && !after.Forced)
	d.changed(Dangerous, object, "kind", before.Kind, after.Kind, "Policies do not hold for foreign tables, nor for partitions of the same name.")
	d.column(object, before.Column, after.Column)
	d.flag(object, "row level security", before.Enabled, after.Enabled, Safe, Dangerous, "Without it no policy of the table applies.")
	d.flag(object, "forced on the owner", before.Forced, after.Forced, Safe, Dangerous, "Without it what works with the rights of the owner sees the rows of all tenants.")
	match(before.Policies, after.Policies, func(p Policy) string { return p.Name }, func(b, a *Policy) { d.policy(object, *before, *after, b, a) })
	d.grants(object, before.Grants, after.Grants, func(role, privilege string) (Verdict, string) { return d.after.judgeGrant(*after, role, privilege) })
	match(before.Uniques, after.Uniques, func(u Unique) string { return u.Name }, func(b, a *Unique) { d.unique(object, after.Column != nil, b, a) })
	match(before.ForeignKeys, after.ForeignKeys, func(k ForeignKey) string { return k.Name }, func(b, a *ForeignKey) { d.foreignKey(*before, *after, b, a) })
	match(before.Parents, after.Parents, func(s string) string { return s }, func(b, a *string) { d.parent(object, b, a) })
	match(before.Triggers, after.Triggers, func(g Trigger) string { return g.Name }, func(b, a *Trigger) { d.trigger(object, b, a) })
	d.rules(object, before.Rules, after.Rules)
}

func (t Table) kind() string {
	if t.Column != nil {
		return "tenant " + t.Kind
	}
	return t.Kind
}

// isolated reports whether each tenant reaches its own rows only, by policies that let in nothing else.
func (s side) isolated(t Table) bool {
	return s.inForce(t) && t.Column != nil && !slices.ContainsFunc(t.Policies, func(p Policy) bool { return p.Permissive && !s.canonical(t, p) })
}

// ownRows reports whether all tenants read the table, and each writes its own rows only.
func (s side) ownRows(t Table) bool {
	return s.inForce(t) && !slices.ContainsFunc(t.Policies, func(p Policy) bool {
		return p.Permissive && p.Command != "SELECT" && !s.canonical(t, p)
	})
}

func (s side) inForce(t Table) bool {
	return t.Enabled && t.Forced && len(t.Policies) > 0 && t.Kind != "foreign table" && (t.Column == nil || !t.Column.Loose)
}

// demandsSignature reports whether a policy of the table that is for tenants lets through what is signed alone.
func (s side) demandsSignature(t Table) bool {
	return slices.ContainsFunc(t.Policies, func(p Policy) bool {
		return p.Permissive && s.isolates(t, p, policy.Signed) && !s.isolates(t, p, policy.Unsigned)
	})
}

// canonical reports whether a policy lets the application in to the rows of the tenant alone, as the plugin's own proof
// recognises it, or is that of a role with a purpose. Where signatures are demanded, one for lookups has to ask for them as well.
func (s side) canonical(t Table, p Policy) bool {
	privileged := len(p.Roles) > 0
	looksUp := s.form == policy.Signed && slices.Contains(p.Roles, s.Purposes.Lookup)
	for _, role := range p.Roles {
		privileged = privileged && s.Purposes.privileged(role) && (role == s.Purposes.Admin || p.Command == "SELECT")
	}
	if privileged {
		return !looksUp || !p.UsesOthers && p.Using == s.config(s.form).WrittenLookup()
	}
	return s.isolates(t, p, s.form)
}

// isolates reports whether a policy lets through the rows of the tenant alone, by what the form asks for.
func (s side) isolates(t Table, p Policy, form policy.Form) bool {
	column := s.tenantColumn(t)
	if column == "" {
		return false
	}
	columnType := ""
	if t.Column != nil {
		columnType = t.Column.Type
	}
	expression := func(text string) *policy.Expression {
		if text == "" {
			return nil
		}
		return &policy.Expression{Text: text, Others: p.UsesOthers}
	}
	config := s.config(form).On(column)
	return min(config.Judge(expression(p.Using), columnType), config.Judge(expression(p.Check), columnType)) > policy.Unproved
}

// tenantColumn returns the column that tells whose a row is: in a table of tenants its primary key. It is empty if there is none.
func (s side) tenantColumn(t Table) string {
	if t.Column != nil {
		return s.Column
	}
	for _, u := range t.Uniques {
		name, isKey := strings.CutPrefix(u.Definition, "PRIMARY KEY (")
		if name = strings.TrimSuffix(name, ")"); isKey && !strings.Contains(name, ",") {
			return strings.ReplaceAll(strings.Trim(name, `"`), `""`, `"`)
		}
	}
	return ""
}

// judgeNew judges a table that is new.
func (s side) judgeNew(t Table) (Verdict, string) {
	reads, writes := s.open(t.Grants, "SELECT"), s.open(t.Grants, "INSERT", "UPDATE", "DELETE", "TRUNCATE")
	owned := s.reach[t.Owner]
	for _, k := range t.ForeignKeys {
		if s.keyLevel(t, k) > 0 {
			return Dangerous, fmt.Sprintf("Its foreign key %s leads to %s without the tenant, and foreign keys ask no policy.", k.Name, k.References)
		}
	}
	switch {
	case owned:
		return Dangerous, "The application is or can become its owner, who can switch isolation off."
	case !reads && !writes:
		return Neutral, "The application has no access to it."
	case s.open(t.Grants, "TRUNCATE", "TRIGGER", "REFERENCES"):
		return Dangerous, "TRUNCATE, TRIGGER or REFERENCES is granted, which ask no policy."
	case s.isolated(t):
		return Neutral, "It is a tenant table with its policies in force."
	case s.ownRows(t):
		return Neutral, "All tenants read it, and its policies let each write its own rows only."
	case t.Column != nil:
		return Dangerous, "It is a tenant table, and it is not proved that its policies keep tenants apart: check it with \"tenancy check\"."
	case writes:
		return Dangerous, "It has no tenant column, and each tenant can write it for all others."
	}
	return Neutral, "It has no tenant column, and tenants can only read it: it should hold what all may know."
}

func (s side) judgeGrant(t Table, role, privilege string) (Verdict, string) {
	name, _, _ := strings.Cut(privilege, " ")
	switch {
	case name == "TRUNCATE" || name == "TRIGGER" || name == "REFERENCES":
		return Dangerous, name + " asks no policy."
	case role == s.Purposes.ReadOnly && role != "" && name == "SELECT":
		return Neutral, "The read-only role is there to read all rows."
	case s.Purposes.privileged(role):
		return Dangerous, "The role, to which no tenant's policy applies, reads or writes more than before."
	case s.isolated(t), s.ownRows(t) && name != "SELECT":
		return Neutral, "Its policies limit the privilege to the rows of the tenant."
	case t.Column != nil:
		return Dangerous, "It is not proved that its policies limit the privilege to the rows of the tenant."
	case name == "SELECT":
		return Dangerous, "It has no tenant column: each tenant reads all of it."
	}
	return Dangerous, "It has no tenant column: each tenant can write it for all others."
}

func (d *differ) column(object string, before, after *Column) {
	const subject = "tenant column"
	switch {
	case before == nil && after == nil:
		return
	case after == nil:
		d.add(Dangerous, object, subject, before.Type, "", "Without it no policy can tell tenants apart.")
		return
	case before == nil:
		d.add(Safe, object, subject, "", after.Type, "The rows have a tenant. Its policies count below.")
		return
	}
	if before.Type != after.Type {
		verdict, why := Dangerous, "Ids that differ in one type can be equal in another, as 7 and 07 are."
		integers := []string{"smallint", "integer", "bigint"}
		if n := slices.Index(integers, before.Type); n >= 0 && slices.Index(integers, after.Type) > n {
			verdict, why = Neutral, "The new type holds all integers of the old one."
		}
		d.add(verdict, object, subject+" type", before.Type, after.Type, why)
	}
	d.flag(object, subject+" NOT NULL", before.NotNull, after.NotNull, Safe, Dangerous, "A row without a tenant escapes composite foreign keys.")
	d.flag(object, subject+" collation is loose", before.Loose, after.Loose, Dangerous, Safe, "Ids that differ in case or accents are one tenant.")
	if before.Default != after.Default {
		verdict := Dangerous
		if after.Default == d.after.config(d.after.form).WrittenDefault(after.Type) {
			verdict = Safe
		}
		d.add(verdict, object, subject+" default", before.Default, after.Default, "With another default than the current tenant, rows are refused, or are another's.")
	}
}

func (p *Policy) String() string {
	if p == nil {
		return ""
	}
	kind := ""
	if !p.Permissive {
		kind = "RESTRICTIVE "
	}
	text := kind + "FOR " + p.Command + " TO " + list(p.Roles)
	if p.Using != "" {
		text += " USING (" + oneLine(p.Using) + ")"
	}
	if p.Check != "" {
		text += " WITH CHECK (" + oneLine(p.Check) + ")"
	}
	if p.UsesOthers {
		text += ", with functions, operators or types that are not PostgreSQL's own"
	}
	return text
}

func (d *differ) policy(object string, oldTable, newTable Table, before, after *Policy) {
	b, a := before.String(), after.String()
	if b == a {
		return
	}
	var subject string
	verdict, why := Dangerous, ""
	switch {
	case after == nil && before.Permissive:
		subject, verdict, why = before.Name, Safe, "Permissive policies are joined with OR: without it fewer rows are let through."
	case after == nil:
		subject, why = before.Name, "Restrictive policies are joined with AND: without it more rows are let through."
	case d.after.canonical(newTable, *after) && (after.Permissive || before == nil || !before.Permissive):
		subject, verdict, why = after.Name, Neutral, "It lets through the rows of the tenant alone, or is that of a role with a purpose."
		if before != nil && !d.before.canonical(oldTable, *before) {
			verdict = Safe
		}
		if d.after.isolates(newTable, *after, policy.Signed) && (before == nil || !d.before.isolates(oldTable, *before, policy.Signed)) {
			verdict, why = Safe, "It demands a signature of the tenant, which SQL cannot make."
		}
	case !after.Permissive && before == nil:
		subject, verdict, why = after.Name, Safe, "Restrictive policies are joined with AND: with it fewer rows are let through."
	case d.after.form == policy.Signed && d.after.isolates(newTable, *after, policy.Either):
		subject, why = after.Name, "It demands no signature of the tenant: SQL that names another one finds that one's rows."
	case before == nil:
		subject, why = after.Name, "Permissive policies are joined with OR: it is not proved that this one lets through the rows of the tenant alone."
	case d.before.canonical(oldTable, *before):
		subject, why = after.Name, "It let through the rows of the tenant alone, and it is not proved that it still does."
	default:
		subject, why = after.Name, "It is not proved that it lets through no more than before."
	}
	d.add(verdict, object, "policy "+subject, b, a, why)
}

func (d *differ) unique(object string, tenant bool, before, after *Unique) {
	shown := func(u *Unique) string {
		switch {
		case u == nil:
			return ""
		case u.Tenant:
			return u.Definition + ", which holds the tenant"
		}
		return u.Definition
	}
	b, a := shown(before), shown(after)
	if b == a {
		return
	}
	name := ""
	if after != nil {
		name = after.Name
	} else {
		name = before.Name
	}
	leaks := func(u *Unique) bool { return u != nil && tenant && !u.Tenant && !u.primary() }
	switch {
	case leaks(after) && !leaks(before):
		d.add(Dangerous, object, "unique key "+name, b, a, "It holds across tenants: a conflict tells each tenant which values others have.")
	case leaks(before) && !leaks(after):
		d.add(Safe, object, "unique key "+name, b, a, "What it held across tenants, it holds within each, or not at all.")
	default:
		d.add(Neutral, object, "unique key "+name, b, a, "It tells no tenant more of others than before.")
	}
}

// keyLevel says how much a foreign key lets tenants reach: nothing (0), which rows others have (1), or their rows (2).
func (s side) keyLevel(t Table, k ForeignKey) int {
	acts := func(actions ...string) bool {
		return slices.Contains(actions, k.OnDelete) || slices.Contains(actions, k.OnUpdate)
	}
	parent := s.tables[k.References]
	holds := false
	for n, column := range k.Columns {
		holds = holds || column == s.Column && (parent.Column == nil || n < len(k.Keys) && k.Keys[n] == s.Column)
	}
	acting := acts("CASCADE", "SET NULL", "SET DEFAULT")
	switch {
	case t.Column == nil && parent.Column == nil, holds:
		return 0
	case t.Column == nil: // a child of a tenant table, without its tenant
		return 2
	case parent.Column == nil && !acting:
		return 0
	case acting:
		return 2
	}
	return 1
}

func (k *ForeignKey) String() string {
	if k == nil {
		return ""
	}
	text := fmt.Sprintf("(%s) REFERENCES %s (%s) ON DELETE %s ON UPDATE %s", list(k.Columns), k.References, list(k.Keys), k.OnDelete, k.OnUpdate)
	if !k.Valid {
		text += " NOT VALID"
	}
	return text
}

func (d *differ) foreignKey(oldTable, newTable Table, before, after *ForeignKey) {
	b, a := before.String(), after.String()
	if b == a {
		return
	}
	object, old, fresh := "table "+newTable.Name, 0, 0
	if before != nil {
		old = d.before.keyLevel(oldTable, *before)
	}
	if after != nil {
		fresh = d.after.keyLevel(newTable, *after)
	}
	switch {
	case after == nil && old == 0 && d.before.tenant(before.References):
		d.add(Dangerous, object, "foreign key "+before.Name, b, a, "Nothing else ensures that rows refer to rows of their own tenant.")
	case after == nil && old > 0:
		d.add(Safe, object, "foreign key "+before.Name, b, a, "It let tenants reach rows of others, because foreign keys ask no policy.")
	case after == nil:
		d.add(Neutral, object, "foreign key "+before.Name, b, a, "It led to a table that all tenants share.")
	case fresh > old:
		d.add(Dangerous, object, "foreign key "+after.Name, b, a, "It does not hold the tenant, or acts on rows of all, and foreign keys ask no policy.")
	case fresh < old:
		d.add(Safe, object, "foreign key "+after.Name, b, a, "It holds the tenant, or acts on fewer rows.")
	case before != nil && before.Valid && !after.Valid:
		d.add(Dangerous, object, "foreign key "+after.Name, b, a, "Rows that are there may refer to rows of other tenants.")
	default:
		d.add(Neutral, object, "foreign key "+after.Name, b, a, "It reaches no other rows than before.")
	}
}

func (d *differ) parent(object string, before, after *string) {
	switch {
	case before == nil && !d.after.tenant(*after):
		d.add(Dangerous, object, "parent", "", *after, "A query of the parent reads the child without the child's policies.")
	case before == nil:
		d.add(Neutral, object, "parent", "", *after, "The parent is a tenant table, whose policies hold for queries of it.")
	case after == nil:
		d.add(Neutral, object, "parent", *before, "", "The table is read by its own name alone.")
	}
}

func (d *differ) trigger(object string, before, after *Trigger) {
	shown := func(g *Trigger) string {
		switch {
		case g == nil:
			return ""
		case !g.Enabled:
			return "disabled: " + oneLine(g.Definition)
		case g.Definer:
			return "security definer: " + oneLine(g.Definition)
		}
		return oneLine(g.Definition)
	}
	b, a := shown(before), shown(after)
	switch {
	case b == a:
	case after == nil:
		d.add(Neutral, object, "trigger "+before.Name, b, a, "Policies do not depend on triggers. What it ensured, it ensures no more.")
	case after.Definer && after.Enabled:
		d.add(Dangerous, object, "trigger "+after.Name, b, a, "What a tenant writes makes it work with the rights of another role.")
	default:
		d.add(Neutral, object, "trigger "+after.Name, b, a, "It works with the rights of the role that writes.")
	}
}
