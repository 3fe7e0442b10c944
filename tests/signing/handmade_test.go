package signing_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestCheckRefusesPoliciesThatReadTheSetting: those of a table that no model has, so that the plugin does not ask about it, are open to SQL that names
// another tenant. Where no policy demands a proof, they are as good as any.
func TestCheckRefusesPoliciesThatReadTheSetting(t *testing.T) {
	testdb.InBothForms(t, func(t *testing.T) {
		d := testdb.New(t, models...)
		const current = `tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::text)`
		d.AsOwner(t, `CREATE TABLE marginalia (id bigint GENERATED ALWAYS AS IDENTITY, tenant_id text NOT NULL
			DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::text, text text, PRIMARY KEY (tenant_id, id))`,
			`CREATE POLICY tenant_isolation ON marginalia USING (`+current+`) WITH CHECK (`+current+`)`,
			`ALTER TABLE marginalia ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`,
			`GRANT SELECT, INSERT ON marginalia TO `+d.App.Role)
		db := d.Open(t, d.Config())
		for _, tenant := range []string{"a", "b"} {
			require.NoError(t, db.WithContext(testdb.As(tenant)).Exec(`INSERT INTO marginalia (text) VALUES (current_setting('app.tenant_id'))`).Error)
		}
		var texts []string
		require.NoError(t, db.WithContext(testdb.As("a")).Raw(
			`WITH s AS MATERIALIZED (SELECT set_config('app.tenant_id', 'b', true)) SELECT text FROM s, marginalia`).Scan(&texts).Error)
		require.Equal(t, []string{"b"}, texts, "which is why")

		cfg := d.Config()
		cfg.Check = tenancy.CheckRefuse
		_, err := testdb.OpenGuarded(t, d.App.DSN, cfg)
		if !d.Signed() {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
		require.ErrorContains(t, err, "marginalia")
	})
}
