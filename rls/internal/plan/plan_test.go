package plan

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

var (
	isolation = Planner{Config: policy.Config{Setting: "app.tenant_id", Column: "tenant_id", AppRole: "app", AdminRole: "admin"}}

	predicate = policy.Expression{Text: `(tenant_id = ( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid AS "nullif"))`}
	everyRow  = policy.Expression{Text: "true"}

	finished = map[string]policy.Stored{
		policy.Tenant: {Command: "*", Permissive: true, Roles: []string{""}, Using: &predicate, Check: &predicate},
		policy.Admin:  {Command: "*", Permissive: true, Roles: []string{"admin"}, Using: &everyRow, Check: &everyRow},
	}
	filledIn = isolation.WrittenDefault("uuid")
)

func TestPlanOfAnUntouchedTable(t *testing.T) {
	plan := isolation.Plan([]Table{{
		Relation: catalog.Relation{Schema: "shop", Table: "orders", Owner: "owner", Column: &catalog.Column{Type: "uuid"},
			Sequences: []catalog.Sequence{{Schema: "shop", Name: "orders_id_seq"}}},
		columnType: "uuid",
		index:      "idx_orders_tenant_id",
	}})
	var statements []string
	for _, change := range plan {
		require.Equal(t, "shop.orders", change.Table)
		statements = append(statements, change.SQL)
	}
	require.Equal(t, []string{
		`ALTER TABLE "shop"."orders" ALTER COLUMN "tenant_id" SET NOT NULL`,
		`ALTER TABLE "shop"."orders" ALTER COLUMN "tenant_id" SET DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid`,
		`CREATE INDEX IF NOT EXISTS "idx_orders_tenant_id" ON "shop"."orders" ("tenant_id")`,
		`CREATE POLICY "tenant_isolation" ON "shop"."orders" FOR ALL TO PUBLIC ` +
			`USING ("tenant_id" = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid)) ` +
			`WITH CHECK ("tenant_id" = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid))`,
		`CREATE POLICY "tenant_admin" ON "shop"."orders" FOR ALL TO "admin" USING (true) WITH CHECK (true)`,
		`ALTER TABLE "shop"."orders" ENABLE ROW LEVEL SECURITY`,
		`ALTER TABLE "shop"."orders" FORCE ROW LEVEL SECURITY`,
		`GRANT USAGE ON SCHEMA "shop" TO "app"`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "shop"."orders" TO "app"`,
		`GRANT USAGE, SELECT ON SEQUENCE "shop"."orders_id_seq" TO "app"`,
		`GRANT USAGE ON SCHEMA "shop" TO "admin"`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "shop"."orders" TO "admin"`,
		`GRANT USAGE, SELECT ON SEQUENCE "shop"."orders_id_seq" TO "admin"`,
	}, statements)
}

func TestPlanOfAFinishedTable(t *testing.T) {
	grants := map[string][]string{"app": {"SELECT", "INSERT", "UPDATE", "DELETE"}, "admin": {"SELECT", "INSERT", "UPDATE", "DELETE"}}
	require.Empty(t, isolation.Plan([]Table{{
		Relation: catalog.Relation{
			Enabled: true, Forced: true, Policies: finished, Grants: grants, Usable: []string{"admin", "app"},
			Column: &catalog.Column{Type: "uuid", NotNull: true, Default: filledIn, Indexes: [][]string{{"tenant_id", "id"}}},
		},
		columnType: "uuid",
	}}))
	require.Empty(t, isolation.Plan([]Table{{
		Relation: catalog.Relation{Grants: grants, Usable: []string{"admin", "app"}},
	}}), "a shared table")
}

func TestPlanGrantsASchemaOnce(t *testing.T) {
	i := Planner{Config: policy.Config{AppRole: "app"}}
	plan := i.Plan([]Table{
		{Relation: catalog.Relation{Schema: "shop", Table: "a"}},
		{Relation: catalog.Relation{Schema: "shop", Table: "b"}},
		{Relation: catalog.Relation{Schema: "other", Table: "a"}},
	})
	schemas := 0
	for _, change := range plan {
		if strings.HasPrefix(change.Description, "grant USAGE on schema") {
			schemas++
		}
	}
	require.Equal(t, 2, schemas)
}

func TestPlanLeavesAnAdminWhoOwnsTheTableAlone(t *testing.T) {
	require.Empty(t, Planner{Config: policy.Config{AdminRole: "admin"}}.Plan([]Table{{Relation: catalog.Relation{Owner: "admin"}}}))
}

// parentAndChild are two tenant tables, of which one refers to the other.
func parentAndChild(version int, r model.Reference) []Table {
	done := func(name string) catalog.Relation {
		return catalog.Relation{Schema: "shop", Table: name, Version: version, Enabled: true, Forced: true, Policies: finished,
			Column:  &catalog.Column{Type: "uuid", NotNull: true, Default: filledIn, Indexes: [][]string{{"tenant_id", "id"}}},
			Primary: []string{"id"}, Uniques: []catalog.UniqueIndex{{Name: name, Columns: []string{"tenant_id", "id"}, Whole: true}}}
	}
	r.Name, r.Parent, r.Columns, r.Keys = "fk", `"parents"`, []string{"parent_id"}, []string{"id"}
	return []Table{
		{Relation: done("children"), name: `"children"`, columnType: "uuid", references: []model.Reference{r}},
		{Relation: done("parents"), name: `"parents"`, columnType: "uuid"},
	}
}

func TestPlanOfAForeignKey(t *testing.T) {
	const prefix = `ALTER TABLE "shop"."children" ADD CONSTRAINT "fk" FOREIGN KEY ("tenant_id", "parent_id") ` +
		`REFERENCES "shop"."parents" ("tenant_id", "id")`
	for name, test := range map[string]struct {
		version int
		model.Reference
		sql string
	}{
		"plain":                  {150000, model.Reference{}, ""},
		"actions":                {140000, model.Reference{OnDelete: "CASCADE", OnUpdate: "RESTRICT"}, " ON DELETE CASCADE ON UPDATE RESTRICT"},
		"set null":               {150000, model.Reference{OnDelete: "SET NULL"}, ` ON DELETE SET NULL ("parent_id")`},
		"set default":            {150000, model.Reference{OnDelete: "SET DEFAULT"}, ` ON DELETE SET DEFAULT ("parent_id")`},
		"set null before 15":     {140000, model.Reference{OnDelete: "SET NULL"}, " ON DELETE NO ACTION"},
		"set null on update":     {150000, model.Reference{OnUpdate: "SET NULL"}, " ON UPDATE NO ACTION"},
		"both, and cascade also": {140000, model.Reference{OnDelete: "SET DEFAULT", OnUpdate: "CASCADE"}, " ON DELETE NO ACTION ON UPDATE CASCADE"},
	} {
		t.Run(name, func(t *testing.T) {
			planner := Planner{Config: policy.Config{Setting: "app.tenant_id", Column: "tenant_id", AdminRole: "admin"}}
			var statements []string
			for _, change := range planner.Plan(parentAndChild(test.version, test.Reference)) {
				if !strings.HasPrefix(change.SQL, "GRANT") {
					statements = append(statements, change.SQL)
				}
			}
			require.Equal(t, []string{
				`ALTER TABLE "shop"."children" NO FORCE ROW LEVEL SECURITY`,
				`ALTER TABLE "shop"."parents" NO FORCE ROW LEVEL SECURITY`,
				prefix + test.sql + " NOT VALID",
				`ALTER TABLE "shop"."children" VALIDATE CONSTRAINT "fk"`,
				`ALTER TABLE "shop"."children" FORCE ROW LEVEL SECURITY`,
				`ALTER TABLE "shop"."parents" FORCE ROW LEVEL SECURITY`,
			}, statements)
		})
	}
}
