package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/signing"
)

// node is a node of a plan, as EXPLAIN (VERBOSE, FORMAT JSON) writes it.
type node struct {
	Type    string `json:"Node Type"`
	Schema  string `json:"Schema"`
	Table   string `json:"Relation Name"`
	Index   string `json:"Index Name"`
	Cond    string `json:"Index Cond"`
	Recheck string `json:"Recheck Cond"`
	Filter  string `json:"Filter"`
	Plans   []node `json:"Plans"`

	Relation string   `json:"Parent Relationship"`
	Output   []string `json:"Output"`
}

// scan describes how a plan reads a table.
type scan struct {
	schema, table string
	how           string // the type of the node
	indexes       []node // the nodes that use an index for it
	conditions    []string
}

func (s scan) name() string { return s.schema + "." + s.table }

// scans returns how the plan reads its tables.
func (n node) scans() []scan {
	var found []scan
	if n.Table != "" && strings.HasSuffix(n.Type, "Scan") {
		found = append(found, scan{schema: n.Schema, table: n.Table, how: n.Type, indexes: n.indexNodes(),
			conditions: []string{n.Cond, n.Recheck, n.Filter}})
	}
	for _, below := range n.Plans {
		found = append(found, below.scans()...)
	}
	return found
}

// verifies counts where the plan verifies a proof: once for the statement, or for each row that a node reads.
func (n node) verifies() (once, forRows int) {
	calls := func(text string) bool { return strings.Contains(text, signing.Schema+".") }
	if n.Relation == "InitPlan" && slices.ContainsFunc(n.Output, calls) {
		once++
	}
	if slices.ContainsFunc([]string{n.Cond, n.Recheck, n.Filter}, calls) {
		forRows++
	}
	for _, below := range n.Plans {
		o, r := below.verifies()
		once, forRows = once+o, forRows+r
	}
	return once, forRows
}

// indexNodes returns the node itself if it uses an index, and for a bitmap those it is made of.
func (n node) indexNodes() []node {
	if n.Index != "" {
		return []node{n}
	}
	var found []node
	for _, below := range n.Plans {
		if strings.HasPrefix(below.Type, "Bitmap") {
			found = append(found, below.indexNodes()...)
		}
	}
	return found
}

// tenantTable describes a table with the tenant column.
type tenantTable struct {
	signed  bool     // its policies for the role verify a proof
	secured bool     // its policies apply to the role, or those of the parent it is read through
	leading []string // the indexes that lead with the column
}

const tenantTableQuery = `
SELECT
	row_security_active(c.oid)
		OR EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a WHERE row_security_active(a.relid::oid))
		OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid AND row_security_active(h.inhparent)),
	(SELECT coalesce(json_agg(i.relname ORDER BY i.relname), '[]')::text
		FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
		WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum AND x.indisvalid),
	EXISTS (
		SELECT FROM pg_policy p WHERE (p.polrelid = c.oid
				OR p.polrelid IN (SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a UNION ALL SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid))
			AND EXISTS (SELECT FROM unnest(p.polroles) r (oid) WHERE r.oid = 0 OR pg_has_role(current_user, r.oid, 'USAGE'))
			AND strpos(pg_get_expr(p.polqual, p.polrelid), '` + signing.Schema + `.') > 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1 AND c.relname = $2`

// tenantTables returns the scanned tables that have the tenant column, by name.
func (c *explainCommand) tenantTables(ctx context.Context, tx *sql.Tx, scans []scan) (map[string]tenantTable, error) {
	tables := map[string]tenantTable{}
	for _, s := range scans {
		var (
			t       tenantTable
			leading string
		)
		err := tx.QueryRowContext(ctx, tenantTableQuery, s.schema, s.table, c.column).Scan(&t.secured, &leading, &t.signed)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err != nil:
			return nil, err
		}
		if err := json.Unmarshal([]byte(leading), &t.leading); err != nil {
			return nil, err
		}
		tables[s.name()] = t
	}
	return tables, nil
}
