package rls

import (
	"strings"
	"testing"
	"unicode/utf8"

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
			Column: &column{Type: "uuid", NotNull: true, Default: "the default", Indexes: [][]string{{"tenant_id", "id"}}},
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
		if strings.HasPrefix(change.Description, "grant USAGE on schema") {
			schemas++
		}
	}
	require.Equal(t, 2, schemas)
}

func TestPlanLeavesAnAdminWhoOwnsTheTableAlone(t *testing.T) {
	require.Empty(t, Isolation{AdminRole: "admin"}.plan([]table{{relation: relation{Owner: "admin"}}}))
}

// parentAndChild are two tenants' tables, of which one refers to the other.
func parentAndChild(version int, r reference) []table {
	done := func(name string) relation {
		return relation{Schema: "shop", Table: name, Version: version, Enabled: true, Forced: true, Policies: finished.policies,
			Column:  &column{Type: "uuid", NotNull: true, Default: "the default", Indexes: [][]string{{"tenant_id", "id"}}},
			Primary: []string{"id"}, Uniques: []uniqueIndex{{Name: name, Columns: []string{"tenant_id", "id"}, Whole: true}}}
	}
	r.name, r.parent, r.columns, r.keys = "fk", `"parents"`, []string{"parent_id"}, []string{"id"}
	return []table{
		{relation: done("children"), name: `"children"`, isolated: &finished, references: []reference{r}},
		{relation: done("parents"), name: `"parents"`, isolated: &finished},
	}
}

func TestPlanOfAForeignKey(t *testing.T) {
	const prefix = `ALTER TABLE "shop"."children" ADD CONSTRAINT "fk" FOREIGN KEY ("tenant_id", "parent_id") ` +
		`REFERENCES "shop"."parents" ("tenant_id", "id")`
	for name, test := range map[string]struct {
		version int
		reference
		sql string
	}{
		"plain":                  {150000, reference{}, ""},
		"actions":                {140000, reference{onDelete: "CASCADE", onUpdate: "RESTRICT"}, " ON DELETE CASCADE ON UPDATE RESTRICT"},
		"set null":               {150000, reference{onDelete: "SET NULL"}, ` ON DELETE SET NULL ("parent_id")`},
		"set default":            {150000, reference{onDelete: "SET DEFAULT"}, ` ON DELETE SET DEFAULT ("parent_id")`},
		"set null before 15":     {140000, reference{onDelete: "SET NULL"}, " ON DELETE NO ACTION"},
		"set null on update":     {150000, reference{onUpdate: "SET NULL"}, " ON UPDATE NO ACTION"},
		"both, and cascade also": {140000, reference{onDelete: "SET DEFAULT", onUpdate: "CASCADE"}, " ON DELETE NO ACTION ON UPDATE CASCADE"},
	} {
		t.Run(name, func(t *testing.T) {
			var statements []string
			for _, change := range (Isolation{Column: "tenant_id", AdminRole: "admin"}).plan(parentAndChild(test.version, test.reference)) {
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

func TestNamesFitPostgreSQL(t *testing.T) {
	require.Equal(t, "uni_orders_tenant_id_id", keyName("orders", []string{"tenant_id", "id"}))
	long := strings.Repeat("ä", 40)
	name := keyName(long, []string{"tenant_id", "id"})
	require.LessOrEqual(t, len(name), maxIdentifier)
	require.True(t, utf8.ValidString(name))
	require.NotEqual(t, name, keyName(long, []string{"tenant_id", "code"}))
	require.Equal(t, strings.Repeat("ä", 31), cut(long, maxIdentifier))
}
