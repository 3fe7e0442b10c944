package snapshot

import (
	"fmt"
	"slices"
	"strings"
)

func (d *differ) role(before, after *Role) {
	const recorded = "It is recorded because it owns something, or another role is a member of it, which counts by itself."
	switch {
	case after == nil:
		d.add(Neutral, "role "+before.Name, "role", "recorded", "", recorded)
		return
	case before == nil:
		d.add(Neutral, "role "+after.Name, "role", "", "recorded", recorded)
		before = &Role{Name: after.Name, Login: after.Login}
		if !d.after.reach[after.Name] && !d.after.Purposes.privileged(after.Name) {
			before.Superuser, before.BypassRLS = after.Superuser, after.BypassRLS // of no use to the application
		}
	}
	object := "role " + after.Name
	reached := d.after.reach[after.Name] || d.after.Purposes.privileged(after.Name)
	gained := Neutral
	if reached {
		gained = Dangerous
	}
	d.flag(object, "superuser", before.Superuser, after.Superuser, Dangerous, Safe, "No policy applies to a superuser.")
	d.flag(object, "BYPASSRLS", before.BypassRLS, after.BypassRLS, Dangerous, Safe, "No policy applies to a role with BYPASSRLS.")
	d.flag(object, "CREATEROLE", before.CreateRole, after.CreateRole, gained, Safe, "It can give itself other roles (before PostgreSQL 16 nearly all of them).")
	d.flag(object, "REPLICATION", before.Replication, after.Replication, gained, Safe, "Replication asks no policy.")
	d.flag(object, "LOGIN", before.Login, after.Login, Neutral, Neutral, "It decides who can connect, not what is seen.")
	match(before.MemberOf, after.MemberOf, func(m Membership) string { return m.Role }, func(b, a *Membership) { d.membership(object, reached, b, a) })
}

func (d *differ) membership(object string, reached bool, before, after *Membership) {
	switch {
	case after == nil:
		d.add(Safe, object, "member of "+before.Role, before.String(), "", "It has fewer rights.")
	case before != nil && *before == *after:
	case !reached:
		d.add(Neutral, object, "member of "+after.Role, before.String(), after.String(), "The application cannot become it.")
	case before != nil && (before.Inherit || !after.Inherit) && (before.Set || !after.Set) && (before.Admin || !after.Admin):
		d.add(Safe, object, "member of "+after.Role, before.String(), after.String(), "It has fewer rights.")
	case d.after.Purposes.privileged(after.Role) && !after.Inherit && !after.Admin:
		d.add(Neutral, object, "member of "+after.Role, before.String(), after.String(),
			"The plugin takes this role by SET ROLE for statements that say so, and nothing is inherited.")
	default:
		d.add(Dangerous, object, "member of "+after.Role, before.String(), after.String(),
			"It has, or can take by SET ROLE, the rights of the other: its policies, its grants, and the tables that it owns.")
	}
}

func (m *Membership) String() string {
	if m == nil {
		return ""
	}
	var options []string
	for _, o := range []struct {
		on   bool
		name string
	}{{m.Inherit, "inherits"}, {m.Set, "can set"}, {m.Admin, "can grant"}} {
		if o.on {
			options = append(options, o.name)
		}
	}
	if len(options) == 0 {
		return "member"
	}
	return list(options)
}

func (d *differ) setting(before, after *Setting) {
	decides := func(x *Setting) bool {
		return slices.Contains(deciding, strings.ToLower(x.Name)) || strings.EqualFold(x.Name, d.after.Setting)
	}
	const why = "Sessions begin with it, and it decides which policies apply, to which roles, or to which names."
	switch {
	case after == nil && decides(before):
		d.add(Safe, "setting "+before.key(), "value", before.shown(), "", why)
	case after == nil:
		d.add(Neutral, "setting "+before.key(), "value", before.shown(), "", "Policies do not depend on it.")
	case before != nil && before.Value == after.Value:
	case decides(after):
		d.add(Dangerous, "setting "+after.key(), "value", before.shown(), after.shown(), why)
	default:
		d.add(Neutral, "setting "+after.key(), "value", before.shown(), after.shown(), "Policies do not depend on it.")
	}
}

func (x *Setting) shown() string {
	switch {
	case x == nil:
		return ""
	case x.Value == "":
		return "set"
	}
	return x.Value
}

func (d *differ) schema(before, after *Schema) {
	switch {
	case before == nil:
		before = &Schema{Name: after.Name, Owner: after.Owner}
	case after == nil:
		return
	}
	object := "schema " + after.Name
	d.owner(object, before.Owner, after.Owner, false)
	d.grants(object, before.Grants, after.Grants, func(_, privilege string) (Verdict, string) {
		if strings.HasPrefix(privilege, "CREATE") {
			return Dangerous, "What is created in the schema can take the place of a table or function that others trust."
		}
		return Neutral, "It lets the role look up names. What it may do with them counts below."
	})
}

// owner compares owners. An owner's rights count where something runs with them, and where no policy is forced on them.
func (d *differ) owner(object, before, after string, counts bool) {
	switch {
	case before == after:
	case d.after.reach[after] || after == d.after.Purposes.App:
		d.add(Dangerous, object, "owner", before, after, "The application is or can become the owner, who can switch isolation off.")
	case counts:
		d.add(Dangerous, object, "owner", before, after, "It works with the rights of its owner: it is not proved that the new one sees no more.")
	default:
		d.add(Neutral, object, "owner", before, after, "The application cannot become the owner.")
	}
}

// grants compares privileges one by one. The function judges one that is new.
func (d *differ) grants(object string, before, after Grants, judge func(role, privilege string) (Verdict, string)) {
	match(before.flat(), after.flat(), func(g grant) string { return g.role + "\x00" + g.privilege }, func(b, a *grant) {
		if a == nil {
			d.add(Safe, object, "grant to "+b.role, b.privilege, "", "The role has fewer rights.")
			return
		}
		if b != nil {
			return
		}
		verdict, why := judge(a.role, a.privilege)
		switch {
		case strings.HasSuffix(a.privilege, " WITH GRANT OPTION"):
			verdict, why = Dangerous, "The role can give the privilege to others."
		case a.role == d.after.Purposes.Admin && a.role != "":
			verdict, why = Neutral, "The admin role is there to see and change all rows."
		}
		d.add(verdict, object, "grant to "+a.role, "", a.privilege, why)
	})
}

type grant struct{ role, privilege string }

func (g Grants) flat() []grant {
	var all []grant
	for role, privileges := range g {
		for _, p := range privileges {
			all = append(all, grant{role, p})
		}
	}
	return all
}

// open reports whether the application has one of the privileges: of its own, of PUBLIC, or of a role that it can become.
func (s side) open(g Grants, privileges ...string) bool {
	for _, x := range g.flat() {
		if (x.role == "PUBLIC" || s.reach[x.role]) && slices.ContainsFunc(privileges, func(p string) bool { return strings.HasPrefix(x.privilege, p) }) {
			return true
		}
	}
	return false
}

func (d *differ) view(before, after *View) {
	switch {
	case before == nil:
		verdict, why := Neutral, "It reads with the rights of its caller, or the application may not read it."
		if d.after.open(after.Grants, "SELECT", "INSERT", "UPDATE", "DELETE") && !after.Invoker {
			verdict, why = Dangerous, "The application may use it, and it reads with the rights of its owner, or holds a copy of rows to which no policy applies."
		}
		if len(after.Rules) > 0 {
			verdict, why = Dangerous, "A rule runs with the rights of its owner."
		}
		d.add(verdict, "view "+after.Name, "view", "", "reads "+list(after.Reads), why)
		return
	case after == nil:
		d.add(Safe, "view "+before.Name, "view", "reads "+list(before.Reads), "", "There is less to read.")
		return
	}
	object := "view " + after.Name
	d.owner(object, before.Owner, after.Owner, !after.Invoker)
	d.flag(object, "materialized", before.Materialized, after.Materialized, Dangerous, Safe, "A materialized view holds a copy of rows, to which no policy applies.")
	d.flag(object, "security_invoker", before.Invoker, after.Invoker, Safe, Dangerous, "Without it the view reads with the rights of its owner.")
	definition, why := Neutral, "It reads with the rights of its caller."
	if !after.Invoker {
		definition, why = Dangerous, "It reads with the rights of its owner, or holds a copy of rows: it is not proved that it shows no more."
	}
	d.changed(definition, object, "definition", oneLine(before.Definition), oneLine(after.Definition), why)
	d.changed(definition, object, "reads", list(before.Reads), list(after.Reads), why)
	d.rules(object, before.Rules, after.Rules)
	d.grants(object, before.Grants, after.Grants, func(string, string) (Verdict, string) {
		if after.Invoker {
			return Neutral, "The view reads with the rights of its caller, and the policies of its tables hold."
		}
		return Dangerous, "The view reads with the rights of its owner, or holds a copy of rows."
	})
}

func (d *differ) rules(object string, before, after []string) {
	match(before, after, func(s string) string { return s }, func(b, a *string) {
		if a == nil {
			d.add(Safe, object, "rule", oneLine(*b), "", "A rule runs with the rights of the table's owner.")
		} else if b == nil {
			d.add(Dangerous, object, "rule", "", oneLine(*a), "A rule runs with the rights of the table's owner.")
		}
	})
}

func (d *differ) function(before, after *Function) {
	const why = "It runs with the rights of its owner (SECURITY DEFINER)"
	switch {
	case before == nil:
		verdict, reason := Dangerous, why+", and the application may call it."
		switch {
		case after.Leakproof:
			reason = leakproof
		case after.Verifies:
			verdict, reason = Neutral, verifies
		case len(after.Settings) > 0 && !after.Definer:
			reason = settingOfFunction
		case !d.after.open(after.Grants, "EXECUTE"):
			verdict, reason = Neutral, why+", but the application may not call it. What a trigger calls counts there."
		}
		d.add(verdict, "function "+after.Name, "function", "", "owned by "+after.Owner, reason)
		return
	case after == nil:
		d.add(Safe, "function "+before.Name, "function", "owned by "+before.Owner, "", "There is less that does what its caller could not do.")
		return
	}
	object := "function " + after.Name
	d.owner(object, before.Owner, after.Owner, true)
	d.flag(object, "SECURITY DEFINER", before.Definer, after.Definer, Dangerous, Safe, why+".")
	d.flag(object, "LEAKPROOF", before.Leakproof, after.Leakproof, Dangerous, Safe, leakproof)
	match(before.Settings, after.Settings, func(s string) string { return s }, func(b, a *string) {
		if a == nil {
			d.add(Safe, object, "setting "+*b, "set", "", settingOfFunction)
		} else if b == nil {
			d.add(Dangerous, object, "setting "+*a, "", "set", settingOfFunction)
		}
	})
	d.flag(object, "verifies signatures", before.Verifies, after.Verifies, Safe, Dangerous, "Policies trust it with what the tenant is: another function of this name could let everything through.")
	if after.Verifies {
		d.changed(Neutral, object, "source", before.Source, after.Source, verifies)
	} else {
		d.changed(Dangerous, object, "source", before.Source, after.Source, "It does what its caller could not do, and it is not proved that it does no more than before.")
	}
	if before.SearchPath != after.SearchPath {
		verdict := Dangerous
		if before.SearchPath == "" {
			verdict = Safe
		}
		d.add(verdict, object, "search_path", before.SearchPath, after.SearchPath, "It decides which tables and functions the names in its source mean.")
	}
	d.grants(object, before.Grants, after.Grants, func(string, string) (Verdict, string) {
		return Dangerous, "It does what its caller could not do."
	})
}

const (
	verifies          = "It verifies signatures of tenants, as this version of tenancy makes it."
	leakproof         = "PostgreSQL may call a LEAKPROOF function on rows before policies hide them."
	settingOfFunction = "It runs with settings of its own, which can decide about policies."
)

func (d *differ) database() {
	d.grants("database", d.before.Database, d.after.Database, func(_, privilege string) (Verdict, string) {
		switch name, _, _ := strings.Cut(privilege, " "); name {
		case "CREATE":
			return Dangerous, "Objects in a schema of its own can take the place of others that are looked up by name."
		case "TEMPORARY":
			return Dangerous, "A temporary table takes the place of another in functions without a search_path."
		}
		return Neutral, "It decides who can connect, not what is seen."
	})
}

func (d *differ) parameter(before, after *Parameter) {
	if before == nil {
		before = &Parameter{Name: after.Name}
	}
	if after == nil {
		after = &Parameter{Name: before.Name}
	}
	d.grants("parameter "+after.Name, before.Grants, after.Grants, func(string, string) (Verdict, string) {
		return Dangerous, "The setting is reserved to superusers: session_replication_role, for one, switches off triggers and foreign keys."
	})
}

func (d *differ) foreignServer(before, after *Server) {
	if before == nil {
		before = &Server{Name: after.Name}
	}
	if after == nil {
		after = &Server{Name: before.Name}
	}
	object := "foreign server " + after.Name
	const why = "Foreign tables have no policies, and the login on the other server sees what it sees."
	match(before.Users, after.Users, func(s string) string { return s }, func(b, a *string) {
		if a == nil {
			d.add(Safe, object, "user mapping", *b, "", why)
		} else if b == nil {
			d.add(Dangerous, object, "user mapping", "", *a, why)
		}
	})
	d.grants(object, before.Grants, after.Grants, func(string, string) (Verdict, string) { return Dangerous, why })
}

func (d *differ) sequence(before, after *Sequence) {
	if before == nil {
		before = &Sequence{Name: after.Name}
	}
	if after == nil {
		after = &Sequence{Name: before.Name}
	}
	d.grants("sequence "+after.Name, before.Grants, after.Grants, func(_, privilege string) (Verdict, string) {
		if strings.HasPrefix(privilege, "UPDATE") {
			return Dangerous, "setval lets each tenant decide which keys the others get next, and makes their inserts fail."
		}
		return Neutral, "It is needed to insert rows, and shows how many there are."
	})
}

func (d *differ) defaults(before, after *Default) {
	if before == nil {
		before = &Default{Role: after.Role, Schema: after.Schema, Objects: after.Objects}
	}
	if after == nil {
		after = &Default{Role: before.Role, Schema: before.Schema, Objects: before.Objects}
	}
	d.grants("default privileges on "+after.key(), before.Grants, after.Grants, func(string, string) (Verdict, string) {
		return Dangerous, fmt.Sprintf("The next of the %s is open before its isolation is made.", after.Objects)
	})
}

func (d *differ) publication(before, after *Publication) {
	const why = "Replication asks no policy: each subscriber gets the rows of all tenants."
	if before == nil {
		before = &Publication{Name: after.Name}
	}
	if after == nil {
		after = &Publication{Name: before.Name}
	}
	object := "publication " + after.Name
	d.flag(object, "all tables", before.All, after.All, Dangerous, Safe, why)
	match(before.Tables, after.Tables, func(s string) string { return s }, func(b, a *string) {
		switch {
		case a == nil:
			d.add(Safe, object, "table", *b, "", why)
		case b == nil && d.after.tenant(*a):
			d.add(Dangerous, object, "table", "", *a, why)
		case b == nil:
			d.add(Neutral, object, "table", "", *a, "It is no tenant table.")
		}
	})
}

// oneLine joins the lines of an expression.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
