package rls

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	isolation = Isolation{Setting: "app.tenant_id", Column: "tenant_id", AppRole: "app", AdminRole: "admin"}

	finished = pattern{
		columnType:    "uuid",
		columnDefault: "the default",
		policies:      map[string]policy{tenantPolicy: {Using: "the predicate"}, adminPolicy: {Using: "true"}},
	}
)

func TestPlanOfAnUntouchedTable(t *testing.T) {
	plan := isolation.plan([]table{{
		relation: relation{Schema: "shop", Table: "orders", Owner: "owner", Column: &column{Type: "uuid"},
			Sequences: []sequence{{Schema: "shop", Name: "orders_id_seq"}}},
		isolated: &finished,
		index:    "idx_orders_tenant_id",
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
	grants := map[string][]string{"app": tablePrivileges, "admin": tablePrivileges}
	require.Empty(t, isolation.plan([]table{{
		relation: relation{
			Enabled: true, Forced: true, Policies: finished.policies, Grants: grants, Usable: []string{"admin", "app"},
			Column: &column{Type: "uuid", NotNull: true, Default: "the default", Indexed: true},
		},
		isolated: &finished,
	}}))
	require.Empty(t, isolation.plan([]table{{
		relation: relation{Grants: grants, Usable: []string{"admin", "app"}},
	}}), "a shared table")
}

func TestPlanGrantsASchemaOnce(t *testing.T) {
	i := Isolation{AppRole: "app"}
	plan := i.plan([]table{
		{relation: relation{Schema: "shop", Table: "a"}},
		{relation: relation{Schema: "shop", Table: "b"}},
		{relation: relation{Schema: "other", Table: "a"}},
	})
	schemas := 0
	for _, change := range plan {
		if strings.HasPrefix(change.What, "grant USAGE on schema") {
			schemas++
		}
	}
	require.Equal(t, 2, schemas)
}

func TestPlanLeavesAnAdminWhoOwnsTheTableAlone(t *testing.T) {
	require.Empty(t, Isolation{AdminRole: "admin"}.plan([]table{{relation: relation{Owner: "admin"}}}))
}
