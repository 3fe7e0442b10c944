package check_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/check"
)

// largeSQL makes tables that are as they should be, every tenth with a policy that must be looked at closely, a foreign key
// to the one before, and a view.
const largeSQL = `DO $$
DECLARE
	tab text;
	current text := 'NULLIF(current_setting(''app.tenant_id'', true), '''')';
BEGIN
	FOR n IN 1..%d LOOP
		tab := 'table_' || n;
		EXECUTE format('CREATE TABLE %%s (id bigint PRIMARY KEY, tenant_id text NOT NULL DEFAULT %%s, other_id bigint, UNIQUE (tenant_id, id))', tab, current);
		EXECUTE format('CREATE POLICY tenant_isolation ON %%s USING (tenant_id = (SELECT %%s)%%s)', tab, current,
			CASE WHEN n %% 10 = 0 THEN ' OR id = random()' END);
		EXECUTE format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tab);
		IF n > 1 THEN
			EXECUTE format('ALTER TABLE %%s ADD FOREIGN KEY (%%sother_id) REFERENCES table_%%s', tab,
				CASE WHEN n %% 10 <> 0 THEN 'tenant_id, ' END, n - 1 || CASE WHEN n %% 10 <> 0 THEN ' (tenant_id, id)' ELSE '' END);
		END IF;
		EXECUTE format('CREATE VIEW view_%%s AS SELECT * FROM %%s', n, tab);
		EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %%s, view_%%s TO {app}', tab, n);
	END LOOP;
END $$`

// TestCheckLargeCatalog checks 2,000 tables with as many views, and logs how long that takes.
func TestCheckLargeCatalog(t *testing.T) {
	const tables = 2000
	d := newDatabase(t)
	d.run(t, d.Owner.DSN, fmt.Sprintf(largeSQL, tables))
	db := open(t, d.app, &gorm.Config{})
	for range 3 {
		start := time.Now()
		report, err := d.isolation().Check(t.Context(), db, d.patched())
		took := time.Since(start)
		require.NoError(t, err)
		require.Equal(t, tables, report.Tables)
		t.Logf("%d tables, %d findings: %v", tables, len(report.Findings), took.Round(time.Millisecond))
	}
	report := d.check(t)
	count := map[check.Code]int{}
	for _, f := range report.Findings {
		count[f.Code]++
	}
	require.Equal(t, tables/10, count[check.PolicyOrBypass])
	require.Equal(t, tables/10, count[check.ForeignKeyWithoutTenant])
}
