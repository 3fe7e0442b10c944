package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
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
		WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum AND x.indisvalid)
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
		err := tx.QueryRowContext(ctx, tenantTableQuery, s.schema, s.table, c.column).Scan(&t.secured, &leading)
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
