package check

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// On Citus the rows of a table are in shards, tables on other servers, each with row-level security and policies of its own. Citus
// makes them like those of the table, and what is done on a worker afterwards it does not see.

// security is the row-level security of a table or a shard.
type security struct {
	Enabled, Forced bool
	Policies        map[string]string // the definitions by name, as in CREATE POLICY behind the name of the table
}

// securityOf is the SQL for one. The table is the alias of a row of pg_class. It runs on workers, too, whose search_path is not known.
func securityOf(table string) string {
	return strings.ReplaceAll(`pg_catalog.json_build_object(
	'enabled',  @t.relrowsecurity,
	'forced',   @t.relforcerowsecurity,
	'policies', (
		SELECT pg_catalog.json_object_agg(p.polname, pg_catalog.concat(
			'AS ', CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
			' FOR ', CASE p.polcmd::pg_catalog.text WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
			' TO ', (
				SELECT pg_catalog.string_agg(coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'), ', ' ORDER BY r.rolname)
				FROM pg_catalog.unnest(p.polroles) o (oid) LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) o.oid),
			' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
			' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')'))
		FROM pg_catalog.pg_policy p WHERE p.polrelid OPERATOR(pg_catalog.=) @t.oid))`, "@t", table)
}

// shardsQuery describes distributed tables and where their shards are. $1 are the schemas to look at, all if empty.
var shardsQuery = `
SELECT coalesce(json_agg(json_build_object(
	'schema',   n.nspname,
	'table',    c.relname,
	'security', ` + securityOf("c") + `,
	'shards',   (
		SELECT json_agg(json_build_object('id', shardid, 'node', nodeid, 'at', nodename || ':' || nodeport,
			'name', shard_name(c.oid, shardid)) ORDER BY shardid, nodeid)
		FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node node USING (groupid)
		WHERE logicalrelid = c.oid AND noderole = 'primary')) ORDER BY n.nspname, c.relname), '[]')::text
FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[])`

// askShards asks each node of its shards.
const (
	askShards = `SELECT coalesce(json_agg(json_build_object('node', nodeid, 'success', success, 'answer', CASE WHEN success THEN result END)), '[]')::text FROM run_command_on_all_nodes($1)`
	canAskSQL = `SELECT to_regproc('pg_catalog.run_command_on_all_nodes') IS NOT NULL`
)

// ofShards is what each node is asked: the security of the named shards that it has. Expressions are written with all names in full, which
// set_config sees to before they are.
func ofShards(names []string) string {
	literals := make([]string, len(names))
	for n, name := range names {
		literals[n] = sqltext.Literal(name)
	}
	return `SELECT shards.found FROM (SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)) path (set)
CROSS JOIN LATERAL (
	SELECT coalesce(pg_catalog.json_object_agg(named.name, ` + securityOf("named") + `), '{}')::pg_catalog.text
	FROM (
		SELECT c.*, pg_catalog.format(CASE n.nspname::pg_catalog.text WHEN 'public' THEN '%2$I' ELSE '%1$I.%2$I' END, n.nspname, c.relname) AS name -- as shard_name does
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
		WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p']::pg_catalog."char"[])
	) named
	WHERE path.set IS NOT NULL AND named.name OPERATOR(pg_catalog.=) ANY (ARRAY[` + strings.Join(literals, ", ") + `]::pg_catalog.text[])
) shards (found)`
}

// sharded is a distributed table whose shards have another security than it has.
type sharded struct {
	catalog.Relation
	Security security
	Shards   []shard

	open, unforced, differing []string // the shards, for people
	policies                  []string // the names of those that differ
}

type shard struct {
	ID   int64
	Node int64
	At   string // host and port
	Name string // as in SQL
}

func (s shard) String() string { return fmt.Sprintf("%d at %s", s.ID, s.At) }

// compare notes how a shard differs.
func (t *sharded) compare(s shard, has security) {
	want := t.Security
	if want.Enabled && !has.Enabled {
		t.open = append(t.open, s.String())
	}
	if want.Forced && !has.Forced {
		t.unforced = append(t.unforced, s.String())
	}
	if maps.Equal(want.Policies, has.Policies) {
		return
	}
	t.differing = append(t.differing, s.String())
	for _, policies := range []map[string]string{want.Policies, has.Policies} {
		for name := range policies {
			wanted, isWanted := want.Policies[name]
			if is, exists := has.Policies[name]; (exists != isWanted || is != wanted) && !slices.Contains(t.policies, name) {
				t.policies = append(t.policies, name)
			}
		}
	}
	slices.Sort(t.policies)
}

func (t *sharded) alter(action string) []string {
	return []string{"ALTER TABLE " + t.Quoted() + " " + action}
}

// replacePolicies makes policies of the table again, and Citus those of its shards. A restrictive one it would make permissive: it is dropped.
// run_command_on_shards would do that too, but waits forever for what the same transaction has done to the table before.
func (t *sharded) replacePolicies() []string {
	steps := []string{"SET LOCAL citus.multi_shard_modify_mode = 'sequential'"}
	for _, name := range t.policies {
		steps = append(steps, policy.Drop(name, t.Quoted()))
		if definition, wanted := t.Security.Policies[name]; wanted && !strings.HasPrefix(definition, restrictive) {
			steps = append(steps, fmt.Sprintf("CREATE POLICY %s ON %s %s", sqltext.Ident(name), t.Quoted(), definition))
		}
	}
	return steps
}

// restrictive begins the definition of a restrictive policy.
const restrictive = "AS RESTRICTIVE "

// someOf names shards, but not all of many.
func someOf(shards []string) string {
	const most = 3
	if len(shards) <= most {
		return strings.Join(shards, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(shards[:most], ", "), len(shards)-most)
}

var shardRules = []rule[*sharded]{
	{
		code: ShardNotEnabled, severity: Critical,
		found:   func(_ *checker, t *sharded) bool { return len(t.open) > 0 },
		problem: "Row level security is off on shards of it (%s): each tenant reads and changes the rows of all there.",
		detail:  func(_ *checker, t *sharded) string { return someOf(t.open) },
		fix:     func(_ *checker, t *sharded) []string { return t.alter("ENABLE ROW LEVEL SECURITY") },
	},
	{
		code: ShardNotForced, severity: High,
		found:   func(_ *checker, t *sharded) bool { return len(t.unforced) > 0 },
		problem: "Policies do not apply to the owner on shards of it (%s): what a tenant reaches with the owner's rights shows the rows of all there.",
		detail:  func(_ *checker, t *sharded) string { return someOf(t.unforced) },
		fix:     func(_ *checker, t *sharded) []string { return t.alter("FORCE ROW LEVEL SECURITY") },
	},
	{
		code: ShardPoliciesDiffer, severity: Critical,
		found: func(_ *checker, t *sharded) bool { return len(t.differing) > 0 },
		problem: "Policies on shards of it (%s) are not those of the table: there, tenants see and change what these let through, which may be the " +
			"rows of all.",
		detail: func(_ *checker, t *sharded) string { return someOf(t.differing) },
		fix:    func(_ *checker, t *sharded) []string { return t.replacePolicies() },
	},
}

// readShards asks the nodes of a cluster of Citus about their shards.
func (c *checker) readShards(ctx context.Context, conn gorm.ConnPool) error {
	if !c.Inline {
		return nil
	}
	var can bool
	if err := conn.QueryRowContext(ctx, canAskSQL).Scan(&can); err != nil {
		return err
	}
	if !can {
		c.unseen = append(c.unseen, "Shards were not looked at, because this version of Citus has no run_command_on_all_nodes: it comes with Citus 11.")
		return nil
	}
	var tables []*sharded
	if err := catalog.ReadJSON(ctx, conn, &tables, shardsQuery, append([]string{}, c.schemas...)); err != nil {
		return err
	}
	var names []string
	for _, t := range tables {
		for _, s := range t.Shards {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	found, err := c.askNodes(ctx, conn, slices.Compact(names))
	if err != nil {
		return err
	}
	var silent, missing []string
	for _, t := range tables {
		for _, s := range t.Shards {
			shards, answered := found[s.Node]
			has, exists := shards[s.Name]
			switch {
			case !answered:
				silent = append(silent, s.At)
			case !exists:
				missing = append(missing, s.String())
			default:
				t.compare(s, has)
			}
		}
	}
	slices.Sort(silent)
	for _, at := range slices.Compact(silent) {
		c.unseen = append(c.unseen, "The shards at "+at+" were not looked at, because the node did not answer: let the coordinator in there as the role that checks.")
	}
	if len(missing) > 0 {
		c.unseen = append(c.unseen, "Shards were not looked at, because their nodes do not show them: "+someOf(missing)+".")
	}
	c.facts.sharded = tables
	return nil
}

// askNodes returns the security of the shards that each node has. One that did not answer is not in it.
func (c *checker) askNodes(ctx context.Context, conn gorm.ConnPool, names []string) (map[int64]map[string]security, error) {
	var answers []struct {
		Node    int64
		Success bool
		Answer  string
	}
	if err := catalog.ReadJSON(ctx, conn, &answers, askShards, ofShards(names)); err != nil {
		return nil, err
	}
	found := map[int64]map[string]security{}
	for _, a := range answers {
		if !a.Success {
			continue
		}
		var shards map[string]security
		if err := json.Unmarshal([]byte(a.Answer), &shards); err != nil {
			return nil, err
		}
		found[a.Node] = shards
	}
	return found, nil
}
