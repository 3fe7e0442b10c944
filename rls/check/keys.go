package check

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// unique is a unique index, or a unique or exclusion constraint, on a tenant table.
type unique struct {
	OID        int64 // of the table
	Name       string
	Constraint bool
	Method     string // of the index, such as btree
	Definition string // of the constraint, or of the index from its first column on, as PostgreSQL writes it

	table *tenantTable
}

// Of a partition's indexes, those made with its parent's are fixed there. Primary keys are left out: see Run.
const uniquesQuery = `
SELECT json_agg(json_build_object(
	'oid',        t.oid::bigint,
	'name',       ix.relname,
	'constraint', con.oid IS NOT NULL,
	'method',     am.amname,
	'definition', coalesce(pg_get_constraintdef(con.oid), substr(pg_get_indexdef(ix.oid), 1 + length(format(
		'CREATE UNIQUE INDEX %I ON %s%I.%I USING %I (', ix.relname, CASE ix.relkind WHEN 'I' THEN 'ONLY ' END,
		t.nspname, t.relname, am.amname))))) ORDER BY t.nspname, ix.relname)
FROM tenants t
JOIN pg_index x ON x.indrelid = t.oid
JOIN pg_class ix ON ix.oid = x.indexrelid
JOIN pg_am am ON am.oid = ix.relam
LEFT JOIN pg_constraint con ON con.conindid = ix.oid AND con.conrelid = t.oid AND con.contype IN ('u', 'x')
WHERE (x.indisunique OR x.indisexclusion) AND NOT x.indisprimary AND NOT ix.relispartition
	AND t.attnum <> ALL ((x.indkey::int2[])[0:x.indnkeyatts - 1])`

func (u unique) String() string {
	if u.Constraint {
		return fmt.Sprintf("constraint %s on %s", u.Name, u.table)
	}
	return fmt.Sprintf("index %s.%s", u.table.Schema, u.Name)
}

var uniqueRules = []rule[unique]{{
	code: UniqueWithoutTenant, severity: Medium,
	found: func(*checker, unique) bool { return true },
	problem: "It holds across tenants: from a conflict each tenant learns which values others have, and by taking a value first " +
		"keeps others from using it.",
	fix: func(_ *checker, u unique) []string {
		with := u.table.Name
		if strings.HasPrefix(u.Definition, "EXCLUDE ") {
			with += " WITH ="
		}
		if u.Constraint {
			head, columns, _ := strings.Cut(u.Definition, "(")
			name := sqltext.Ident(u.Name)
			return []string{u.table.alter(fmt.Sprintf("DROP CONSTRAINT %s, ADD CONSTRAINT %s %s(%s, %s",
				name, name, head, with, columns))}
		}
		return []string{
			"DROP INDEX " + sqltext.Ident(u.table.Schema, u.Name),
			fmt.Sprintf("CREATE UNIQUE INDEX %s ON %s USING %s (%s, %s",
				sqltext.Ident(u.Name), u.table.Quoted(), u.Method, with, u.Definition),
		}
	},
}}

// primaryKey is one that someone chooses, on a tenant table, without the tenant column.
type primaryKey struct {
	OID     int64 // of the table
	Name    string
	Columns []string // quoted
	Used    bool     // foreign keys refer to it

	table *tenantTable
}

// What has a default or is an identity column is made up by PostgreSQL, and what refers to another table is that one's key. UUIDs, bytea
// and the types of extensions (category U) are made up by programs, and cannot be guessed. What is left are texts, numbers, dates and
// the like: GORM gives integers a default, unless a tag takes it away.
const primaryKeysQuery = `
SELECT json_agg(json_build_object(
	'oid',     t.oid::bigint,
	'name',    con.conname,
	'used',    EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = con.conindid),
	'columns', (
		SELECT json_agg(quote_ident(attname) ORDER BY n)
		FROM unnest(con.conkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum)
	) ORDER BY t.nspname, t.relname)
FROM tenants t
JOIN pg_constraint con ON con.conrelid = t.oid AND con.contype = 'p' AND con.conparentid = 0
WHERE t.attnum <> ALL (con.conkey)
	AND NOT EXISTS (
		SELECT FROM unnest(con.conkey) k (attnum)
		JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
		JOIN pg_type y ON y.oid = a.atttypid
		WHERE a.atthasdef OR a.attidentity <> '' OR y.typcategory = 'U'
			OR EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = t.oid AND f.contype = 'f' AND k.attnum = ANY (f.conkey)))`

func (k primaryKey) String() string { return fmt.Sprintf("constraint %s on %s", k.Name, k.table) }

var primaryKeyRules = []rule[primaryKey]{{
	code: PrimaryKeyNatural, severity: Low,
	found: func(*checker, primaryKey) bool { return true },
	problem: "It holds across tenants: where tenants choose it, as a name, a number or a date, one learns from a conflict which others have, " +
		"and keeps others from using the same; with the tenant column in the key, or ids made by a default, it does not.",
	fix: func(_ *checker, k primaryKey) []string {
		if k.Used {
			return nil // by foreign keys, which would have to change with it
		}
		name := sqltext.Ident(k.Name)
		return []string{k.table.alter(fmt.Sprintf("DROP CONSTRAINT %s, ADD CONSTRAINT %s PRIMARY KEY (%s, %s)",
			name, name, k.table.Name, join(k.Columns)))}
	},
}}

// foreignKey is a foreign key between tenant tables that does not hold the tenant column.
type foreignKey struct {
	Child, Parent      int64 // oids
	Name               string
	Columns            []string // quoted
	ReferencedColumns  []string // quoted
	OnUpdate, OnDelete string   // as in pg_constraint
	Deferrable         string   // and whether it is deferred at first, in SQL
	Keyed              bool     // the parent has a unique index for the key with the tenant column

	child, parent *tenantTable
}

// A foreign key is no hole while another between the same columns holds the tenant as well, unless it is not checked because of a column of its
// own that is NULL (MATCH SIMPLE).
const foreignKeysQuery = `
WITH fks AS (
	SELECT con.*, c.nspname, p.attnum AS parentattnum, c.attnum AS childattnum,
		c.attnum || '-' || p.attnum AS tenant,
		ARRAY(SELECT k || '-' || f FROM unnest(con.conkey, con.confkey) pair (k, f)) AS pairs
	FROM pg_constraint con
	JOIN tenants c ON c.oid = con.conrelid
	JOIN tenants p ON p.oid = con.confrelid
	WHERE con.contype = 'f' AND con.conparentid = 0
)
SELECT json_agg(json_build_object(
	'child',             conrelid::bigint,
	'parent',            confrelid::bigint,
	'name',              conname,
	'columns',           (
		SELECT json_agg(quote_ident(attname) ORDER BY n)
		FROM unnest(conkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.attnum),
	'referencedcolumns', (
		SELECT json_agg(quote_ident(attname) ORDER BY n)
		FROM unnest(confkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.attnum),
	'onupdate',          confupdtype,
	'ondelete',          confdeltype,
	'deferrable',        concat(CASE WHEN condeferrable THEN ' DEFERRABLE' END, CASE WHEN condeferred THEN ' INITIALLY DEFERRED' END),
	'keyed',             EXISTS (
		SELECT FROM pg_index x
		WHERE x.indrelid = confrelid AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL AND x.indexprs IS NULL
			AND x.indnkeyatts = cardinality(confkey) + 1
			AND (x.indkey::int2[])[0:x.indnkeyatts - 1] @> (confkey || parentattnum)
	)) ORDER BY nspname, conname)
FROM fks
WHERE tenant <> ALL (pairs) AND NOT EXISTS (
	SELECT FROM pg_constraint other
	WHERE other.conrelid = fks.conrelid AND other.contype = 'f' AND other.confrelid = fks.confrelid AND other.convalidated
		AND ARRAY(SELECT k || '-' || f FROM unnest(other.conkey, other.confkey) pair (k, f)) @> (pairs || tenant)
		AND (other.confmatchtype = 'f' OR NOT EXISTS (
			SELECT FROM pg_attribute a
			WHERE a.attrelid = other.conrelid AND a.attnum = ANY (other.conkey) AND a.attnum <> ALL (fks.conkey || fks.childattnum) AND NOT a.attnotnull)))`

func (k foreignKey) String() string { return fmt.Sprintf("constraint %s on %s", k.Name, k.child) }

// cascades reports whether a change of the parent reaches the child.
func (k foreignKey) cascades() bool { return strings.ContainsAny(k.OnDelete+k.OnUpdate, "cnd") }

var foreignKeyRules = []rule[foreignKey]{
	{
		code: ForeignKeyCascades, severity: High,
		found: func(_ *checker, k foreignKey) bool { return k.cascades() },
		problem: "It does not hold the tenant, and checks of foreign keys ask no policy: a row of one tenant can point at one of " +
			"another in %s, and is changed or deleted with it.",
		detail: func(_ *checker, k foreignKey) string { return k.parent.String() },
		fix:    func(c *checker, k foreignKey) []string { return k.composite(c) },
	},
	{
		code: ForeignKeyWithoutTenant, severity: Medium,
		found: func(_ *checker, k foreignKey) bool { return !k.cascades() },
		problem: "It does not hold the tenant, and checks of foreign keys ask no policy: each tenant can point at rows of others in " +
			"%s, learns from it which exist, and keeps their owners from deleting them.",
		detail: func(_ *checker, k foreignKey) string { return k.parent.String() },
		fix:    func(c *checker, k foreignKey) []string { return k.composite(c) },
	},
}

// composite replaces the foreign key by one with the tenant column.
func (k foreignKey) composite(c *checker) []string {
	const noAction = "NO ACTION"
	var steps []string
	columns, referenced := join(k.Columns), join(k.ReferencedColumns)
	if !k.Keyed {
		key := []string{c.Column}
		for _, name := range k.ReferencedColumns {
			key = append(key, unquoted(name))
		}
		steps = append(steps, fmt.Sprintf("CREATE UNIQUE INDEX IF NOT EXISTS %s ON %s (%s, %s)",
			sqltext.Ident(sqltext.UniqueIndexName(k.parent.Table, key...)),
			k.parent.Quoted(), k.parent.Name, referenced))
	}
	var on string
	if action := catalog.Action(k.OnUpdate); action != noAction && action[0] != 'S' { // the tenant must not be set to anything
		on += " ON UPDATE " + action
	}
	switch action := catalog.Action(k.OnDelete); {
	case action == noAction:
	case action[0] != 'S':
		on += " ON DELETE " + action
	case c.version >= sqltext.PostgreSQL15: // where the columns to set can be named
		on += fmt.Sprintf(" ON DELETE %s (%s)", action, columns)
	}
	// PostgreSQL checks the rows that are there as the owner, which sees none under FORCE, and calls the constraint
	// valid.
	tables := []*tenantTable{k.child}
	if k.parent != k.child {
		tables = append(tables, k.parent)
	}
	for _, t := range tables {
		steps = append(steps, t.alter("NO FORCE ROW LEVEL SECURITY"))
	}
	name := sqltext.Ident(k.Name)
	steps = append(steps, k.child.alter(fmt.Sprintf(
		"DROP CONSTRAINT %s, ADD CONSTRAINT %s FOREIGN KEY (%s, %s) REFERENCES %s (%s, %s)%s%s",
		name, name, k.child.Name, columns, k.parent.Quoted(), k.parent.Name, referenced, on, k.Deferrable)))
	for _, t := range tables {
		steps = append(steps, t.alter("FORCE ROW LEVEL SECURITY"))
	}
	return steps
}

// unquoted returns a name that PostgreSQL has quoted where it needs to be, as it is in the catalog.
func unquoted(name string) string {
	if !strings.HasPrefix(name, `"`) {
		return name
	}
	return strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
}
