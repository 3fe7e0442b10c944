package app

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls/check"
)

// catalog is the catalog with the transactions that wrote its rows.
const catalog = `
	SELECT concat_ws(' ', 'class', xmin, oid, relname, relacl) FROM pg_class WHERE relnamespace = 'public'::regnamespace
	UNION ALL SELECT concat_ws(' ', 'attribute', xmin, attrelid::regclass, attname) FROM pg_attribute
		WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
	UNION ALL SELECT concat_ws(' ', 'constraint', xmin, conname) FROM pg_constraint
	UNION ALL SELECT concat_ws(' ', 'policy', xmin, polname) FROM pg_policy
	ORDER BY 1`

func TestSecondMigrationChangesNothing(t *testing.T) {
	d := newDatabase(t)
	before := d.rows(t, catalog)
	result, err := d.isolation().Migrate(t.Context(), d.owner, models...)
	changes := result.Changes
	require.NoError(t, err)
	require.Empty(t, changes)
	require.Equal(t, before, d.rows(t, catalog))
}

func TestMigrationLeavesNoHoles(t *testing.T) {
	d := newDatabase(t)
	var version int
	require.NoError(t, d.owner.Raw("SELECT current_setting('server_version_num')::int").Scan(&version).Error)
	report, err := d.isolation().Check(t.Context(), d.owner, check.Models(models...),
		check.ServerVersion(version/10000*10000+9999)) // its patches are not what this is about
	require.NoError(t, err)
	require.NoError(t, report.Err())
}

func TestScriptMakesTheSame(t *testing.T) {
	d, other := newDatabase(t), pgserver.New(t)
	up, down, err := d.isolation().SQL(d.owner, models...)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), other.Owner.DSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	scripted := open(t, other.Owner.DSN)
	require.NoError(t, scripted.SetupJoinTable(&Person{}, "Teams", &Membership{}))
	require.NoError(t, scripted.SetupJoinTable(&Team{}, "Members", &Membership{}))
	for range 2 {
		_, err = conn.PgConn().Exec(t.Context(), up).ReadAll()
		require.NoError(t, err)
		result, err := d.isolation().Migrate(t.Context(), scripted, models...)
		changes := result.Changes
		require.NoError(t, err)
		require.Empty(t, changes)
	}
	_, err = conn.PgConn().Exec(t.Context(), down).ReadAll()
	require.NoError(t, err)
	require.False(t, scripted.Migrator().HasTable(&Order{}))
}
