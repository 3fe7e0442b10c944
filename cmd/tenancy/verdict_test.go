package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// indexed is a tenant table with all that it needs.
var indexed = map[string]tenantTable{"public.t": {secured: true, leading: []string{"t_tenant"}}}

// verdicts are what is expected of findings.
var verdicts = map[string]struct {
	plan   string
	tables map[string]tenantTable
	says   []string
}{
	"index": {
		plan:   `{"Node Type": "Index Scan", "Schema": "public", "Relation Name": "t", "Index Name": "t_tenant", "Index Cond": "(t.tenant_id = (InitPlan 1).col1)"}`,
		tables: indexed,
		says:   []string{"Yes: public.t is read through the index t_tenant"},
	},
	"bitmap, below another node": {
		plan: `{"Node Type": "Sort", "Plans": [{"Node Type": "Bitmap Heap Scan", "Schema": "public", "Relation Name": "t", "Plans": [
			{"Node Type": "BitmapAnd", "Plans": [
				{"Node Type": "Bitmap Index Scan", "Index Name": "t_name", "Index Cond": "(t.name = 'x')"},
				{"Node Type": "Bitmap Index Scan", "Index Name": "t_tenant", "Index Cond": "(t.tenant_id = $0)"}]}]}]}`,
		tables: indexed,
		says:   []string{"Yes: public.t"},
	},
	"the index in its order only": {
		plan: `{"Node Type": "Index Scan", "Schema": "public", "Relation Name": "t", "Index Name": "t_tenant", "Index Cond": "(t.other_tenant_id = 1)",
			"Filter": "(t.tenant_id = $0)"}`,
		tables: indexed,
		says:   []string{"No: public.t is read by Index Scan of t_tenant, although t_tenant leads"},
	},
	"another index": {
		plan:   `{"Node Type": "Bitmap Heap Scan", "Schema": "public", "Relation Name": "t", "Filter": "(t.tenant_id = $0)", "Recheck Cond": "(t.name = 'x')"}`,
		tables: indexed,
		says:   []string{"No: public.t is read by Bitmap Heap Scan, although t_tenant leads with tenant_id. PostgreSQL prefers that"},
	},
	"a policy that lets all through": {
		plan:   `{"Node Type": "Seq Scan", "Schema": "public", "Relation Name": "t", "Filter": "(t.name = 'tenant_ids')"}`,
		tables: indexed,
		says:   []string{"No: public.t is read by Seq Scan, without a condition on tenant_id: the policies for role app let the rows of all tenants through."},
	},
	"no index, no policy": {
		plan:   `{"Node Type": "Seq Scan", "Schema": "public", "Relation Name": "t"}`,
		tables: map[string]tenantTable{"public.t": {}},
		says:   []string{"No: public.t is read by Seq Scan, and no index leads", "Attention: no policy applies to role app on public.t"},
	},
	"a shared table": {
		plan: `{"Node Type": "Seq Scan", "Schema": "public", "Relation Name": "t"}`,
		says: []string{"no table that has the column tenant_id"},
	},
	"written, not read": {
		plan:   `{"Node Type": "ModifyTable", "Schema": "public", "Relation Name": "t", "Plans": [{"Node Type": "Result"}]}`,
		tables: indexed,
		says:   []string{"no table that has the column tenant_id"},
	},
}

func TestVerdict(t *testing.T) {
	for name, c := range verdicts {
		t.Run(name, func(t *testing.T) {
			var plan node
			require.NoError(t, json.Unmarshal([]byte(c.plan), &plan))
			said := verdict(plan.scans(), c.tables, "tenant_id", "app")
			for _, part := range c.says {
				require.Contains(t, said, part)
			}
		})
	}
}

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		condition, column string
		found             bool
	}{
		{"(tenant_id = $0)", "tenant_id", true},
		{"((t.id = 1) AND (t.tenant_id = $0))", "tenant_id", true},
		{`(t."Org ""x""" = $0)`, `Org "x"`, true},
		{"(t.tenant_id2 = $0)", "tenant_id", false},
		{"(t.my_tenant_id = $0)", "tenant_id", false},
		{"", "tenant_id", false},
	} {
		require.Equal(t, c.found, mentions(c.condition, c.column), c.condition)
	}
}
