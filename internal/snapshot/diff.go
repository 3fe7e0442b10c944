package snapshot

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// Verdict says what a difference does to the isolation, from the first snapshot to the second.
type Verdict string

// The verdicts.
const (
	Dangerous Verdict = "dangerous" // it loosens the isolation, or may loosen it
	Safe      Verdict = "safe"      // it tightens the isolation
	Neutral   Verdict = "neutral"   // the isolation stays as it is
)

// Difference is one thing that is not the same in two snapshots.
type Difference struct {
	Verdict Verdict `json:"verdict"`
	Object  string  `json:"object"`
	Subject string  `json:"subject"` // what of the object
	Before  string  `json:"before"`  // empty if it is not there
	After   string  `json:"after"`
	Reason  string  `json:"reason"`
}

// Diff compares two snapshots: the dangerous differences first, then by object and subject. What is not proved to be harmless
// is dangerous. Roles of the same purpose are the same role, whatever their names.
func Diff(before, after Snapshot) ([]Difference, error) {
	if before.Column != after.Column {
		return nil, fmt.Errorf("the tenant columns differ (%s and %s): the snapshots cannot be compared", before.Column, after.Column)
	}
	after, err := after.renamed(before.Purposes)
	if err != nil {
		return nil, err
	}
	d := &differ{before: newSide(before), after: newSide(after)}
	// A database that demands signatures is to go on with it, also where no option has said so.
	if before.Signed || after.Signed || slices.ContainsFunc(before.Tables, d.before.demandsSignature) {
		d.before.form, d.after.form = policy.Signed, policy.Signed
	}
	d.server()
	match(before.Roles, after.Roles, func(r Role) string { return r.Name }, d.role)
	match(before.Settings, after.Settings, Setting.key, d.setting)
	d.database()
	match(before.Parameters, after.Parameters, func(p Parameter) string { return p.Name }, d.parameter)
	match(before.Servers, after.Servers, func(x Server) string { return x.Name }, d.foreignServer)
	match(before.Schemas, after.Schemas, func(x Schema) string { return x.Name }, d.schema)
	match(before.Tables, after.Tables, func(t Table) string { return t.Name }, d.table)
	match(before.Views, after.Views, func(v View) string { return v.Name }, d.view)
	match(before.Functions, after.Functions, func(f Function) string { return f.Name }, d.function)
	match(before.Sequences, after.Sequences, func(x Sequence) string { return x.Name }, d.sequence)
	match(before.Defaults, after.Defaults, Default.key, d.defaults)
	match(before.Publications, after.Publications, func(p Publication) string { return p.Name }, d.publication)
	ranks := map[Verdict]int{Dangerous: 0, Safe: 1, Neutral: 2}
	slices.SortStableFunc(d.list, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(ranks[a.Verdict], ranks[b.Verdict]), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Subject, b.Subject))
	})
	return d.list, nil
}

// side is a snapshot, and what is looked up in it.
type side struct {
	Snapshot
	tables map[string]Table
	form   policy.Form     // what is asked of policies: Either takes those with a signature and those without
	reach  map[string]bool // the application's role, and those that it can become or inherits from, less those with another purpose
}

func newSide(s Snapshot) side {
	x := side{Snapshot: s, tables: map[string]Table{}, form: policy.Either, reach: map[string]bool{}}
	for _, t := range s.Tables {
		x.tables[t.Name] = t
	}
	members := map[string][]Membership{}
	for _, r := range s.Roles {
		members[r.Name] = r.MemberOf
	}
	for next := []string{s.Purposes.App}; len(next) > 0; next = next[1:] {
		name := next[0]
		if x.reach[name] || s.Purposes.privileged(name) {
			continue
		}
		x.reach[name] = true
		for _, m := range members[name] {
			next = append(next, m.Role)
		}
	}
	return x
}

// privileged reports whether the role is one that sees rows of all tenants by intention.
func (p Purposes) privileged(role string) bool {
	return role != "" && (role == p.Admin || role == p.ReadOnly || role == p.Lookup)
}

func (s side) tenant(table string) bool { return s.tables[table].Column != nil }

// config is what the policies are made for.
func (s side) config(form policy.Form) policy.Config {
	return policy.Config{
		Setting: s.Setting, Column: s.Column, Form: form,
		AppRole: s.Purposes.App, AdminRole: s.Purposes.Admin, ReadOnlyRole: s.Purposes.ReadOnly, LookupRole: s.Purposes.Lookup,
	}
}

// differ collects the differences.
type differ struct {
	before, after side
	list          []Difference
}

func (d *differ) add(verdict Verdict, object, subject, before, after, reason string) {
	d.list = append(d.list, Difference{verdict, object, subject, before, after, reason})
}

// match calls a function for each thing that is in one of two lists, with nil for the one that lacks it.
func match[T any](before, after []T, key func(T) string, each func(before, after *T)) {
	old, fresh := map[string]*T{}, map[string]*T{}
	for n := range before {
		old[key(before[n])] = &before[n]
	}
	for n := range after {
		fresh[key(after[n])] = &after[n]
	}
	all := maps.Clone(old)
	maps.Copy(all, fresh)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		each(old[name], fresh[name])
	}
}

// flag compares something that is on or off.
func (d *differ) flag(object, subject string, before, after bool, on, off Verdict, why string) {
	switch {
	case after && !before:
		d.add(on, object, subject, "off", "on", why)
	case before && !after:
		d.add(off, object, subject, "on", "off", why)
	}
}

// server compares what all tables have in common.
func (d *differ) server() {
	b, a := d.before, d.after
	if b.PostgreSQL != a.PostgreSQL {
		d.add(Neutral, "server", "major version", fmt.Sprint(b.PostgreSQL), fmt.Sprint(a.PostgreSQL),
			"Major versions write some expressions in other words: policies can differ below that mean the same.")
	}
	if b.Setting != a.Setting {
		d.add(Dangerous, "server", "setting of the tenant", b.Setting, a.Setting,
			"Policies that read another setting than the application sets show no rows, or those of whatever tenant is left in it.")
	}
	d.flag("server", "signatures demanded", b.Signed, a.Signed, Neutral, Neutral, "Both are compared as databases whose policies demand a signature of the tenant.")
	for _, p := range []struct{ name, before, after string }{
		{"admin role", b.Purposes.Admin, a.Purposes.Admin},
		{"read-only role", b.Purposes.ReadOnly, a.Purposes.ReadOnly},
		{"lookup role", b.Purposes.Lookup, a.Purposes.Lookup},
	} {
		switch {
		case p.before == "" && p.after != "":
			d.add(Dangerous, "roles", p.name, "", p.after, "A role that reads rows of all tenants is new.")
		case p.before != "" && p.after == "":
			d.add(Safe, "roles", p.name, p.before, "", "A role that reads rows of all tenants is gone.")
		}
	}
}

// changed compares a text for which a change means the same in both directions.
func (d *differ) changed(verdict Verdict, object, subject, before, after, why string) {
	if before != after {
		d.add(verdict, object, subject, before, after, why)
	}
}

// renamed gives the roles with a purpose the names that they have elsewhere.
func (s Snapshot) renamed(p Purposes) (Snapshot, error) {
	names := map[string]string{}
	for _, role := range [][2]string{
		{s.Purposes.App, p.App}, {s.Purposes.Admin, p.Admin}, {s.Purposes.ReadOnly, p.ReadOnly}, {s.Purposes.Lookup, p.Lookup},
	} {
		if role[0] != "" && role[1] != "" && role[0] != role[1] {
			names[role[0]] = role[1]
		}
	}
	if len(names) == 0 {
		return s, nil
	}
	for _, r := range s.Roles {
		for from, to := range names {
			if r.Name == to && names[r.Name] == "" {
				return s, fmt.Errorf("the role %s has a purpose in the first snapshot, which %s has in the second, where both exist: "+
					"take the snapshots for the same roles", to, from)
			}
		}
	}
	text, err := s.JSON()
	if err != nil {
		return s, err
	}
	var copied Snapshot
	if err := json.Unmarshal([]byte(text), &copied); err != nil {
		return s, err
	}
	copied.rename(func(name *string) {
		if to, ok := names[*name]; ok {
			*name = to
		}
	})
	copied.sort()
	return copied, nil
}

// rename applies a change to the name of each role.
func (s *Snapshot) rename(change func(*string)) {
	for _, name := range []*string{&s.Purposes.App, &s.Purposes.Admin, &s.Purposes.ReadOnly, &s.Purposes.Lookup} {
		change(name)
	}
	for n := range s.Roles {
		change(&s.Roles[n].Name)
		for m := range s.Roles[n].MemberOf {
			change(&s.Roles[n].MemberOf[m].Role)
		}
	}
	for n := range s.Settings {
		change(&s.Settings[n].Role)
	}
	s.Database = s.Database.renamed(change)
	for n := range s.Parameters {
		s.Parameters[n].Grants = s.Parameters[n].Grants.renamed(change)
	}
	for n := range s.Servers {
		s.Servers[n].Grants = s.Servers[n].Grants.renamed(change)
		for m := range s.Servers[n].Users {
			change(&s.Servers[n].Users[m])
		}
	}
	for n := range s.Schemas {
		change(&s.Schemas[n].Owner)
		s.Schemas[n].Grants = s.Schemas[n].Grants.renamed(change)
	}
	for n := range s.Tables {
		t := &s.Tables[n]
		change(&t.Owner)
		t.Grants = t.Grants.renamed(change)
		for m := range t.Policies {
			for r := range t.Policies[m].Roles {
				change(&t.Policies[m].Roles[r])
			}
		}
	}
	for n := range s.Views {
		change(&s.Views[n].Owner)
		s.Views[n].Grants = s.Views[n].Grants.renamed(change)
	}
	for n := range s.Functions {
		change(&s.Functions[n].Owner)
		s.Functions[n].Grants = s.Functions[n].Grants.renamed(change)
	}
	for n := range s.Sequences {
		s.Sequences[n].Grants = s.Sequences[n].Grants.renamed(change)
	}
	for n := range s.Defaults {
		change(&s.Defaults[n].Role)
		s.Defaults[n].Grants = s.Defaults[n].Grants.renamed(change)
	}
}

func (g Grants) renamed(change func(*string)) Grants {
	renamed := Grants{}
	for name, privileges := range g {
		change(&name)
		renamed[name] = privileges
	}
	return renamed
}

// list writes names for people.
func list(names []string) string { return strings.Join(names, ", ") }
