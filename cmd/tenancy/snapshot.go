package main

import (
	"context"
	"database/sql"
	"flag"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/snapshot"
)

// record holds the options of what is recorded of a database.
type record struct {
	connection
	roles
	signed  bool
	schemas []string
}

func (c *record) flags(fs *flag.FlagSet) {
	c.nameFlags(fs)
	c.roles.flags(fs, &c.connection)
	fs.BoolVar(&c.signed, "signed", false, "policies are to demand a signature of the tenant (rls.Isolation.Signed): diff then takes one that does not for dangerous.\n"+
		"        Where a policy before demands one, it does so by itself")
	fs.Func("schema", "record this `schema` only; can be repeated", func(name string) error {
		c.schemas = append(c.schemas, name)
		return nil
	})
}

// take records a database.
func (c *record) take(ctx context.Context, pool *sql.DB) (snapshot.Snapshot, error) {
	if err := c.roles.mustExist(ctx, pool, c.appRole); err != nil {
		return snapshot.Snapshot{}, err
	}
	form := policy.Unsigned
	if c.signed {
		form = policy.Signed
	}
	return snapshot.Read(ctx, pool, policy.Config{
		Form:    form,
		Setting: c.setting, Column: c.column,
		AppRole: c.appRole, AdminRole: c.adminRole, ReadOnlyRole: c.readOnly, LookupRole: c.lookup,
	}, c.schemas)
}

// snapshotCommand writes down how a database keeps tenants apart.
type snapshotCommand struct{ record }

func (c *snapshotCommand) flags(fs *flag.FlagSet) {
	c.databaseFlag(fs)
	c.record.flags(fs)
}

func (c *snapshotCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if err := none(args); err != nil {
		return 0, err
	}
	pool, err := c.open(ctx, s)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	taken, err := c.take(ctx, pool)
	if err != nil {
		return 0, err
	}
	text, err := taken.JSON()
	if err != nil {
		return 0, err
	}
	return exitClean, write(s, text)
}
