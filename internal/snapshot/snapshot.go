// Package snapshot records how a database keeps tenants apart, and compares two such records.
//
// A snapshot is what the catalog says of tables, policies, grants, roles, keys, views and functions. It holds no row of a table
// and no credentials, and two snapshots of the same state are the same text. Package rls/check reads what is wrong, for one
// role; a snapshot is about what there is, so it has queries of its own.
package snapshot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Version is the version of the format. A later one is refused.
const Version = 1

// Snapshot is the isolation of a database. Names of objects are qualified, and quoted where SQL needs it.
type Snapshot struct {
	Version      int           `json:"version"`
	PostgreSQL   int           `json:"postgresql"` // the major version, which decides how expressions are written
	Setting      string        `json:"setting"`
	Column       string        `json:"column"`
	Signed       bool          `json:"signed,omitempty"` // policies are to demand a signature of the tenant
	Purposes     Purposes      `json:"purposes"`
	Roles        []Role        `json:"roles"`
	Settings     []Setting     `json:"settings,omitempty"`
	Database     Grants        `json:"database,omitempty"` // on the database as a whole
	Parameters   []Parameter   `json:"parameters,omitempty"`
	Servers      []Server      `json:"foreign_servers,omitempty"`
	Schemas      []Schema      `json:"schemas"`
	Tables       []Table       `json:"tables"`
	Views        []View        `json:"views,omitempty"`
	Functions    []Function    `json:"functions,omitempty"`
	Sequences    []Sequence    `json:"sequences,omitempty"`
	Defaults     []Default     `json:"default_privileges,omitempty"`
	Publications []Publication `json:"publications,omitempty"`
}

// Purposes are the names of the roles with a purpose, empty for none.
type Purposes struct {
	App      string `json:"app"`
	Admin    string `json:"admin,omitempty"`
	ReadOnly string `json:"read_only,omitempty"`
	Lookup   string `json:"lookup,omitempty"`
}

// Role is a role with a purpose, one that such a role can become, or one that owns something.
type Role struct {
	Name        string       `json:"name"`
	Superuser   bool         `json:"superuser"`
	BypassRLS   bool         `json:"bypass_rls"`
	CreateRole  bool         `json:"create_role"`
	Replication bool         `json:"replication"`
	Login       bool         `json:"login"`
	MemberOf    []Membership `json:"member_of,omitempty"`
}

// Membership is in another role.
type Membership struct {
	Role    string `json:"role"`
	Inherit bool   `json:"inherit"` // it has the rights of the other without SET ROLE
	Set     bool   `json:"set"`     // it can take the other by SET ROLE
	Admin   bool   `json:"admin"`   // it can grant the other
}

// Setting is one that sessions begin with (ALTER ROLE … SET, ALTER DATABASE … SET).
type Setting struct {
	Role     string `json:"role,omitempty"` // empty for all
	Database bool   `json:"database"`       // in this database only
	Name     string `json:"name"`
	Value    string `json:"value,omitempty"` // of those that decide about policies; others may be secret
}

// Grants are the privileges of PUBLIC and of the roles that are not only owners, by role. One on a column ends with its name
// in parentheses.
type Grants map[string][]string

// Schema is a schema.
type Schema struct {
	Name   string `json:"name"`
	Owner  string `json:"owner"`
	Grants Grants `json:"grants,omitempty"`
}

// Table is a table, partitioned table or foreign table: a tenant table if it has the column.
type Table struct {
	Name        string       `json:"name"`
	Kind        string       `json:"kind"`
	Owner       string       `json:"owner"`
	Column      *Column      `json:"tenant_column,omitempty"`
	Enabled     bool         `json:"row_security"`
	Forced      bool         `json:"forced"`
	Policies    []Policy     `json:"policies,omitempty"`
	Grants      Grants       `json:"grants,omitempty"`
	Uniques     []Unique     `json:"unique_keys,omitempty"`
	ForeignKeys []ForeignKey `json:"foreign_keys,omitempty"`
	Parents     []string     `json:"parents,omitempty"` // of which it is a partition, or from which it inherits
	Triggers    []Trigger    `json:"triggers,omitempty"`
	Rules       []string     `json:"rules,omitempty"`
}

// Column is the tenant column of a table.
type Column struct {
	Type    string `json:"type"`
	NotNull bool   `json:"not_null"`
	Default string `json:"default,omitempty"`
	Loose   bool   `json:"loose_collation,omitempty"` // different texts can be equal
}

// Policy is a row security policy. The expressions are as PostgreSQL writes them.
type Policy struct {
	Name       string   `json:"name"`
	Command    string   `json:"command"`
	Permissive bool     `json:"permissive"`
	Roles      []string `json:"roles"`
	Using      string   `json:"using,omitempty"`
	Check      string   `json:"with_check,omitempty"`
	UsesOthers bool     `json:"uses_others,omitempty"` // functions, operators or types that are not PostgreSQL's own
}

// Unique is a unique index, or a unique, primary key or exclusion constraint.
type Unique struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
	Tenant     bool   `json:"holds_tenant"`
}

// ForeignKey is a foreign key.
type ForeignKey struct {
	Name       string   `json:"name"`
	Columns    []string `json:"columns"`
	References string   `json:"references"`
	Keys       []string `json:"keys"`
	OnDelete   string   `json:"on_delete"`
	OnUpdate   string   `json:"on_update"`
	Valid      bool     `json:"valid"`
}

func (u Unique) primary() bool { return strings.HasPrefix(u.Definition, "PRIMARY KEY ") }

// Trigger is a trigger of a table.
type Trigger struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
	Definer    bool   `json:"security_definer"` // its function runs as its owner
	Enabled    bool   `json:"enabled"`
}

// View is a view or materialized view.
type View struct {
	Name         string   `json:"name"`
	Owner        string   `json:"owner"`
	Materialized bool     `json:"materialized"`
	Invoker      bool     `json:"security_invoker"`
	Reads        []string `json:"reads,omitempty"`
	Definition   string   `json:"definition"`
	Grants       Grants   `json:"grants,omitempty"`
	Rules        []string `json:"rules,omitempty"`
}

// Function is a function that is more than a shorthand for what its caller could do: SECURITY DEFINER, LEAKPROOF, or with
// settings of its own that decide about policies.
type Function struct {
	Name       string   `json:"name"`
	Owner      string   `json:"owner"`
	Definer    bool     `json:"security_definer"`
	Verifies   bool     `json:"verifies,omitempty"` // signatures of tenants, as this version makes the function
	Leakproof  bool     `json:"leakproof"`
	SearchPath string   `json:"search_path,omitempty"`
	Settings   []string `json:"settings,omitempty"` // the names of others
	Source     string   `json:"source"`             // a hash
	Grants     Grants   `json:"grants,omitempty"`
}

// Parameter is a setting that a role may change although it is reserved to superusers (from PostgreSQL 15 on).
type Parameter struct {
	Name   string `json:"name"`
	Grants Grants `json:"grants"`
}

// Server is a foreign server.
type Server struct {
	Name   string   `json:"name"`
	Users  []string `json:"user_mappings,omitempty"` // the roles that have a login there
	Grants Grants   `json:"grants,omitempty"`
}

// Sequence is a sequence that is granted.
type Sequence struct {
	Name   string `json:"name"`
	Grants Grants `json:"grants"`
}

// Default is what a role's default privileges give on objects that do not exist yet.
type Default struct {
	Role    string `json:"role"`
	Schema  string `json:"schema,omitempty"` // empty for all
	Objects string `json:"objects"`
	Grants  Grants `json:"grants"`
}

// Publication sends tables to other servers.
type Publication struct {
	Name   string   `json:"name"`
	All    bool     `json:"all_tables"`
	Tables []string `json:"tables,omitempty"`
}

// JSON writes the snapshot, one value a line.
func (s Snapshot) JSON() (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(s)
	return b.String(), err
}

// Parse reads what JSON has written.
func Parse(text []byte) (Snapshot, error) {
	var s Snapshot
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&s); err != nil {
		return Snapshot{}, fmt.Errorf("it is no JSON document of a snapshot: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Snapshot{}, errors.New("text follows the document")
	}
	switch {
	case s.Version == 0 || s.Column == "" || s.Setting == "" || s.Purposes.App == "":
		return Snapshot{}, errors.New("it is no snapshot: version, column, setting or the application's role is missing")
	case s.Version != Version:
		return Snapshot{}, fmt.Errorf("it has the version %d, and this command reads version %d", s.Version, Version)
	}
	s.sort()
	return s, nil
}

// sort makes the order independent of the server's collation.
func (s *Snapshot) sort() {
	by(s.Roles, func(r Role) string { return r.Name })
	by(s.Settings, func(x Setting) string { return x.key() })
	s.Database.sort()
	by(s.Parameters, func(p Parameter) string { return p.Name })
	by(s.Servers, func(x Server) string { return x.Name })
	for _, p := range s.Parameters {
		p.Grants.sort()
	}
	for _, x := range s.Servers {
		slices.Sort(x.Users)
		x.Grants.sort()
	}
	by(s.Schemas, func(x Schema) string { return x.Name })
	by(s.Tables, func(t Table) string { return t.Name })
	by(s.Views, func(v View) string { return v.Name })
	by(s.Functions, func(f Function) string { return f.Name })
	by(s.Sequences, func(x Sequence) string { return x.Name })
	by(s.Defaults, func(d Default) string { return d.key() })
	by(s.Publications, func(p Publication) string { return p.Name })
	for _, r := range s.Roles {
		by(r.MemberOf, func(m Membership) string { return m.Role })
	}
	for _, x := range s.Schemas {
		x.Grants.sort()
	}
	for _, t := range s.Tables {
		by(t.Policies, func(p Policy) string { return p.Name })
		by(t.Uniques, func(u Unique) string { return u.Name })
		by(t.ForeignKeys, func(k ForeignKey) string { return k.Name })
		by(t.Triggers, func(g Trigger) string { return g.Name })
		slices.Sort(t.Parents)
		slices.Sort(t.Rules)
		for _, p := range t.Policies {
			slices.Sort(p.Roles)
		}
		t.Grants.sort()
	}
	for _, v := range s.Views {
		slices.Sort(v.Reads)
		slices.Sort(v.Rules)
		v.Grants.sort()
	}
	for _, f := range s.Functions {
		slices.Sort(f.Settings)
		f.Grants.sort()
	}
	for _, x := range s.Sequences {
		x.Grants.sort()
	}
	for _, d := range s.Defaults {
		d.Grants.sort()
	}
	for _, p := range s.Publications {
		slices.Sort(p.Tables)
	}
}

func by[T any](list []T, key func(T) string) {
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

func (g Grants) sort() {
	for _, privileges := range g {
		slices.Sort(privileges)
	}
}

func (x Setting) key() string {
	where := "of all roles"
	if x.Role != "" {
		where = "of " + x.Role
	}
	if x.Database {
		where += " in the database"
	}
	return x.Name + " " + where
}

func (d Default) key() string {
	if d.Schema == "" {
		return d.Objects + " of " + d.Role
	}
	return d.Objects + " of " + d.Role + " in " + d.Schema
}
