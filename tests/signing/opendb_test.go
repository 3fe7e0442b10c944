package signing_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestOpenDBSigns: a pool that is guarded before GORM has it signs as others do, and counts for the plugin only where both have the same keys.
// A plugin without keys asks about no wall, so that a pool that signs is no reason to trust it.
func TestOpenDBSigns(t *testing.T) {
	d := testdb.NewSigned(t, models...)
	connect, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	use := func(pool, plugin tenancy.Config) (*gorm.DB, error) {
		opened := tenancy.OpenDB(stdlib.GetConnector(*connect), pool)
		db := testdb.OpenPlain(t, "", testdb.Pool(opened))
		return db, db.Use(tenancy.New(plugin))
	}
	good := d.Config()
	db, err := use(good, good)
	require.NoError(t, err)
	for _, tenant := range []string{"a", "b"} {
		require.NoError(t, db.WithContext(testdb.As(tenant)).Create(&Page{Text: tenant}).Error)
		var texts []string
		require.NoError(t, db.WithContext(testdb.As(tenant)).Model(&Page{}).Pluck("text", &texts).Error)
		require.Equal(t, []string{tenant}, texts)
	}

	with := func(change func(c *tenancy.Config)) tenancy.Config {
		cfg := d.Config()
		change(&cfg)
		return cfg
	}
	const named = "another SigningKeys, ProofLifetime or DangerouslyUnboundProofs"
	for name, other := range map[string]tenancy.Config{
		"no keys":    {Logger: testdb.Quiet},
		"other keys": with(func(c *tenancy.Config) { c.SigningKeys = tenancy.FixedSigningKeys(d.AddKey(t, "second", 's')) }),
		"lifetime":   with(func(c *tenancy.Config) { c.ProofLifetime = time.Hour }),
		"unbound":    with(func(c *tenancy.Config) { c.DangerouslyUnboundProofs = true }),
	} {
		_, err := use(good, other)
		require.ErrorContains(t, err, named, name)
		_, err = use(other, good)
		require.ErrorContains(t, err, named, name)
	}
	failing := with(func(c *tenancy.Config) {
		c.SigningKeys = func(context.Context) ([]tenancy.SigningKey, error) { return nil, errors.New("no file") }
	})
	_, err = use(failing, good)
	require.ErrorContains(t, err, "tenancy: read the signing keys: no file")
	require.NotContains(t, err.Error(), "tenancy: tenancy:")
}
