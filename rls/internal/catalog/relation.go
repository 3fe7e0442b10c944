package catalog

import (
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Relation is a table as the catalog of PostgreSQL shows it.
type Relation struct {
	Schema, Table, Owner string
	Enabled, Forced      bool                     // ROW LEVEL SECURITY
	Column               *Column                  // the tenant column, nil if there is none
	Policies             map[string]policy.Stored // those of our names
	Grants               map[string][]string      // role to the privileges granted to it directly
	ColumnGrants         []string                 // roles that are granted something on single columns
	Lookups              []string                 // the columns that LookupRole may read, granted to it one by one
	Usable               []string                 // those of the roles asked about that may use the schema
	Sequences            []Sequence               // those the table's columns own
	Partitioned          bool
	Partition            bool
	PartedByTenant       string                  // ByHash or ByList, if it is partitioned so by the tenant column, and by no other
	Parts                []Part                  // its partitions, on all levels
	Audits               map[string]AuditTrigger // those that record changes, by name
	Size                 Size                    // with its parts
	Required             map[string]bool         // the constraints of RequiredPrefix, and whether all rows are known to meet them
	Giver                *string                 // the body of the function of RolloutTrigger, nil if there is none
	Primary              []string                // the columns of the primary key
	PrimaryName          string                  // of its constraint
	PrimaryType          string                  // of its column, if it has one
	Uniques              []UniqueIndex           // all that is unique, the primary key too
	Indexes              map[string]bool         // all of them, and whether CREATE INDEX CONCURRENTLY left them unfinished
	ForeignKeys          map[string]ForeignKey
	Distributed          *string `json:"-"` // the column by which Citus distributes it, empty for a table that is whole on each node; nil without Citus
	Version              int     // of the server, as server_version_num
}

// How a table is partitioned.
const (
	ByHash = "h"
	ByList = "l"
)

// Default is the bound of the partition that has what no other one has.
const Default = "DEFAULT"

// Part is a partition.
type Part struct {
	OID, Of        int64 // its own, and that of the table that it is a partition of
	Level          int   // 1 for a partition of the table itself
	Schema, Table  string
	Bound          string // as PostgreSQL writes it
	Partitioned    bool
	PartedByTenant string // as in Relation
	Bytes          int64
}

// Quoted returns the qualified name of the partition for use in SQL.
func (p Part) Quoted() string { return Relation{Schema: p.Schema, Table: p.Table}.Quoted() }

// Size is how large a table and its parts are.
type Size struct {
	Bytes  int64
	Blocks int64 // of the largest part
	Rows   int64 // an estimate, as the planner makes it; -1 where a part was never analyzed
}

// Column is the tenant column of a table.
type Column struct {
	Type    string // without length: a cast to varchar(n) would cut a tenant's id off, and make it another tenant's
	NotNull bool
	Default string     // as PostgreSQL writes it, empty if there is none
	Indexes [][]string // the columns of each valid, complete B-tree that leads with it; "" is an expression
	Loose   bool       // its collation takes texts of different bytes for equal
	Kept    bool       `json:"-"` // its type, if it is there already, whatever the model says
}

// UniqueIndex is a unique index.
type UniqueIndex struct {
	Name       string
	Columns    []string // "" is an expression
	Constraint bool     // the index belongs to a constraint of the same name
	Whole      bool     // foreign keys can refer to it: neither partial, nor of expressions, nor deferrable
	Primary    bool
	Method     string // such as btree
	Definition string // of the constraint, or of the index from its first column on, as PostgreSQL writes it
}

// ForeignKey is a foreign key constraint. Actions are letters, see pg_constraint.confdeltype.
type ForeignKey struct {
	Schema, Table      string // the one it refers to
	Columns, Keys      []string
	OnDelete, OnUpdate string
	Nulled             []string // the columns that ON DELETE SET NULL is about, empty for all
	Valid              bool
	Tenant             bool // the other table has the tenant column
}

// Sequence feeds a column of its table.
type Sequence struct {
	Schema, Name string
	Grants       map[string][]string
}

// Quoted returns the qualified name of the table for use in SQL.
func (r Relation) Quoted() string { return r.Sibling(r.Table) }

// Sibling returns the qualified name of an object in the table's schema.
func (r Relation) Sibling(name string) string {
	if r.Schema == "" {
		return sqltext.Ident(name) // that of the search_path
	}
	return sqltext.Ident(r.Schema, name)
}

// String returns the qualified name of the table for people.
func (r Relation) String() string {
	if r.Schema == "" {
		return r.Table
	}
	return r.Schema + "." + r.Table
}

// Unique returns the table's unique index of this name.
func (r Relation) Unique(name string) (UniqueIndex, bool) {
	for _, u := range r.Uniques {
		if u.Name == name {
			return u, true
		}
	}
	return UniqueIndex{}, false
}
