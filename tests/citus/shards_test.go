package citus

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// shardStandIns are what of Citus a check asks: two shards of each table, in a schema that stands for two workers, and a third node, which is
// down if it is named so. make_shards does what Citus does to shards when their table is changed, and leaves AS RESTRICTIVE out, as it does.
var shardStandIns = []string{
	`SET allow_system_table_mods = on;
	CREATE SCHEMA pg_shards;
	CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint);
	CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint, groupid int);
	CREATE TABLE pg_catalog.pg_dist_node (nodeid int, groupid int, nodename text, nodeport int, noderole text);
	GRANT SELECT ON pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_node TO PUBLIC;
	INSERT INTO pg_catalog.pg_dist_node VALUES (11, 1, 'first', 5432, 'primary'), (12, 2, 'second', 5432, 'primary')`,
	`CREATE FUNCTION pg_catalog.shard_name(t regclass, shardid bigint) RETURNS text LANGUAGE sql AS
		$$ SELECT format('pg_shards.%I', relname || '_' || shardid) FROM pg_class WHERE oid = t $$`,
	`CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text, OUT nodeid int, OUT success bool, OUT result text) RETURNS SETOF record
	LANGUAGE plpgsql AS $$ DECLARE node record; BEGIN
		FOR node IN SELECT * FROM pg_dist_node n LOOP
			nodeid := node.nodeid; success := node.nodename <> 'down'; result := 'connection refused';
			IF success THEN EXECUTE command INTO result; END IF;
			RETURN NEXT;
		END LOOP;
	END $$`,
	`CREATE FUNCTION make_shards() RETURNS void LANGUAGE plpgsql AS $$ DECLARE shard record; p record; BEGIN
		INSERT INTO pg_dist_shard SELECT logicalrelid, 2 * row_number() OVER (ORDER BY logicalrelid) + 102000 + n FROM pg_dist_partition, generate_series(0, 1) n
			WHERE logicalrelid NOT IN (SELECT logicalrelid FROM pg_dist_shard);
		INSERT INTO pg_dist_placement SELECT shardid, 1 + shardid % 2 FROM pg_dist_shard WHERE shardid NOT IN (SELECT shardid FROM pg_dist_placement);
		FOR shard IN SELECT c.*, shard_name(logicalrelid, shardid) AS name FROM pg_dist_shard JOIN pg_class c ON c.oid = logicalrelid LOOP
			EXECUTE format('DROP TABLE IF EXISTS %s', shard.name);
			EXECUTE format('CREATE TABLE %s (LIKE %s)', shard.name, shard.oid::regclass);
			EXECUTE format('ALTER TABLE %s OWNER TO %I', shard.name, pg_get_userbyid(shard.relowner));
			IF shard.relrowsecurity THEN EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', shard.name); END IF;
			IF shard.relforcerowsecurity THEN EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', shard.name); END IF;
			FOR p IN SELECT * FROM pg_policies WHERE schemaname = 'public' AND tablename = shard.relname LOOP
				EXECUTE format('CREATE POLICY %I ON %s FOR %s TO %s%s%s', p.policyname, shard.name, p.cmd, array_to_string(p.roles, ', '),
					' USING (' || p.qual || ')', ' WITH CHECK (' || p.with_check || ')');
			END LOOP;
		END LOOP;
	END $$`,
}

// cluster is one whose shards are tried.
type cluster struct {
	isolation  rls.Isolation
	ownerDSN   string
	owner, app *gorm.DB
	onShard    func(t *testing.T, sql string) // runs SQL on the shard of projects that acme is on, named %s, as if at its worker
	passOn     func(t *testing.T)             // does to shards what Citus would do by itself
	others     func(t *testing.T) int         // how many rows of acme another tenant sees, nil where shards have none
}

func TestCheckLooksAtShardsOnFake(t *testing.T) {
	f := newFake(t)
	f.AsSuperuser(t, append(standIns, shardStandIns...)...)
	_, err := isolation(f.Database).Migrate(t.Context(), f.OwnerDB, models...)
	require.NoError(t, err)
	f.AsSuperuser(t, "GRANT USAGE, CREATE ON SCHEMA pg_shards TO "+f.Owner.Role)
	checkShards(t, cluster{
		isolation: isolation(f.Database), ownerDSN: f.Owner.DSN, owner: f.OwnerDB, app: f.client(t),
		onShard: func(t *testing.T, sql string) {
			f.AsSuperuser(t, fmt.Sprintf(sql, "pg_shards.projects_"+f.shardOf(t, "projects")))
		},
		passOn: func(t *testing.T) { f.AsSuperuser(t, "SELECT make_shards()") },
	})

	f.AsSuperuser(t, "UPDATE pg_catalog.pg_dist_node SET nodename = 'down' WHERE nodeid = 12")
	report, err := isolation(f.Database).Check(t.Context(), f.OwnerDB)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Len(t, report.NotChecked, 1)
	require.Contains(t, report.NotChecked[0], "The shards at down:5432 were not looked at")
	require.NotContains(t, report.NotChecked[0], "refused")
	f.AsSuperuser(t, "UPDATE pg_catalog.pg_dist_node SET nodename = 'up'; DROP TABLE pg_shards.tasks_"+f.shardOf(t, "tasks"))
	report, err = isolation(f.Database).Check(t.Context(), f.OwnerDB)
	require.NoError(t, err)
	require.Len(t, report.NotChecked, 1)
	require.Contains(t, report.NotChecked[0], f.shardOf(t, "tasks"))
}

func TestCheckLooksAtShardsOnCluster(t *testing.T) {
	if !testdb.HasCluster() {
		return // the fake shows the same
	}
	c, app := openCluster(t)
	seed(t, app)
	var id int64
	require.NoError(t, c.OwnerDB.Raw("SELECT get_shard_id_for_distribution_column('projects', ?::text)", acme).Scan(&id).Error)
	var at string
	require.NoError(t, c.OwnerDB.Raw("SELECT nodename || ':' || nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE shardid = ?", id).Scan(&at).Error)
	worker, err := url.Parse(c.DSN)
	require.NoError(t, err)
	worker.Host = at
	conn, err := pgx.Connect(t.Context(), worker.String())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "SET citus.enable_manual_changes_to_shards = on")
	require.NoError(t, err)
	checkShards(t, cluster{
		isolation: c.Isolation, ownerDSN: c.DSN, owner: c.OwnerDB, app: app,
		onShard: func(t *testing.T, sql string) {
			_, err := conn.Exec(t.Context(), fmt.Sprintf(sql, fmt.Sprintf("projects_%d", id)))
			require.NoError(t, err)
		},
		passOn: func(*testing.T) {},
		others: func(t *testing.T) (n int) {
			require.NoError(t, app.WithContext(as(globex)).Raw("SELECT count(*) FROM projects WHERE tenant_id = 'acme'").Scan(&n).Error)
			return n
		},
	})
}

func (f *fake) shardOf(t *testing.T, table string) (id string) {
	t.Helper()
	require.NoError(t, f.OwnerDB.Raw("SELECT min(shardid)::text FROM pg_dist_shard WHERE logicalrelid = ?::regclass", table).Scan(&id).Error)
	return id
}

// checkShards spoils a shard in each way, has it found, and runs the fix.
func checkShards(t *testing.T, c cluster) {
	t.Helper()
	findings := func() []check.Finding {
		t.Helper()
		var all [][]check.Finding
		for _, db := range []*gorm.DB{c.owner, c.app} { // any role will do
			report, err := c.isolation.Check(t.Context(), db, check.ModelsOnly(models...))
			require.NoError(t, err)
			require.Empty(t, report.NotChecked)
			all = append(all, report.Findings)
		}
		require.Equal(t, all[0], all[1])
		return all[0]
	}
	fix := func(found []check.Finding) {
		t.Helper()
		testdb.RunScript(t, c.ownerDSN, check.Report{Findings: found}.SQL())
	}
	c.passOn(t)
	require.Empty(t, findings())
	for spoil, code := range map[string]check.Code{
		"ALTER TABLE %s DISABLE ROW LEVEL SECURITY":                       check.ShardNotEnabled,
		"ALTER TABLE %s NO FORCE ROW LEVEL SECURITY":                      check.ShardNotForced,
		"DROP POLICY tenant_isolation ON %s":                              check.ShardPoliciesDiffer,
		"CREATE POLICY everything ON %s USING (name LIKE '%%')":           check.ShardPoliciesDiffer,
		"ALTER POLICY tenant_isolation ON %s USING (true)":                check.ShardPoliciesDiffer,
		"ALTER POLICY tenant_isolation ON %s TO " + c.isolation.AdminRole: check.ShardPoliciesDiffer,
	} {
		c.onShard(t, spoil)
		if opens := strings.Contains(spoil, "DISABLE") || strings.Contains(spoil, "USING"); opens && c.others != nil {
			require.Equal(t, 1, c.others(t), spoil)
		}
		found := findings()
		require.Len(t, found, 1, spoil)
		require.Equal(t, code, found[0].Code, spoil)
		require.Equal(t, "public.projects", found[0].Object)
		fix(found)
		require.Contains(t, found[0].Fix, ` "public"."projects"`, "the table, and Citus its shards")
		c.passOn(t)
		require.Empty(t, findings(), spoil)
		if c.others != nil {
			require.Zero(t, c.others(t), spoil)
		}
	}

	// A restrictive policy is permissive on shards, and opens them.
	projects := func() error { return c.app.WithContext(as(acme)).Find(&[]Project{}).Error }
	require.NoError(t, projects())
	require.NoError(t, c.owner.Exec(`CREATE POLICY narrow ON projects AS RESTRICTIVE USING (name <> '50%')`).Error)
	c.passOn(t)
	if c.others != nil {
		require.Equal(t, 1, c.others(t), "Citus has a remedy: then take the refusal of restrictive policies away")
	}
	found := findings()
	require.Len(t, found, 2)
	require.ElementsMatch(t, []check.Code{check.PolicyRestrictiveOpens, check.ShardPoliciesDiffer}, []check.Code{found[0].Code, found[1].Code})
	fix(found)
	c.passOn(t)
	require.Empty(t, findings(), found)

	// One that isolates by itself opens nothing. Citus cannot have it, either.
	require.NoError(t, c.owner.Exec(`CREATE POLICY narrow ON projects AS RESTRICTIVE USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::text)`).Error)
	c.passOn(t)
	found = findings()
	require.Len(t, found, 1)
	require.Equal(t, check.ShardPoliciesDiffer, found[0].Code)
	fix(found)
	c.passOn(t)
	require.Empty(t, findings(), found)
}
