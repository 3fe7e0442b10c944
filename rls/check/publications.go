package check

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// publication sends tenant tables to its subscribers.
type publication struct {
	Name    string
	All     bool     // FOR ALL TABLES
	Tables  []string // published by name, quoted
	Schemas []string // published as a whole, quoted
}

const publicationsQuery = `
SELECT json_agg(json_build_object('name', name, 'all', everything, 'tables', tables, 'schemas', schemas) ORDER BY name)
FROM (
	SELECT p.pubname AS name, p.puballtables AS everything,
		json_agg(DISTINCT format('%I.%I', t.nspname, t.relname)) FILTER (WHERE r.oid IS NOT NULL) AS tables,
		json_agg(DISTINCT quote_ident(t.nspname)) FILTER (WHERE r.oid IS NULL) AS schemas
	FROM pg_publication p
	JOIN pg_publication_tables published ON published.pubname = p.pubname
	JOIN tenants named ON named.nspname = published.schemaname AND named.relname = published.tablename
	LEFT JOIN LATERAL (
		SELECT r.oid, r.prrelid FROM pg_publication_rel r
		WHERE r.prpubid = p.oid AND (r.prrelid = named.oid OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(named.oid)))
	) r ON true
	LEFT JOIN tenants t ON t.oid = coalesce(r.prrelid, named.oid)
	GROUP BY 1, 2
) publications`

func (p publication) String() string { return "publication " + p.Name }

var publicationRules = []rule[publication]{{
	code: TablePublished, severity: Medium,
	found:   func(*checker, publication) bool { return true },
	problem: "Replication asks no policy: each subscriber gets the rows of all tenants.",
	fix: func(_ *checker, p publication) []string {
		name := sqltext.Ident(p.Name)
		if p.All {
			return []string{"DROP PUBLICATION " + name}
		}
		var steps []string
		if len(p.Tables) > 0 {
			steps = append(steps, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", name, join(p.Tables)))
		}
		if len(p.Schemas) > 0 {
			steps = append(steps, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLES IN SCHEMA %s", name, join(p.Schemas)))
		}
		return steps
	},
}}
