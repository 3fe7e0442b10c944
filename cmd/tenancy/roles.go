package main

import (
	"context"
	"errors"
	"flag"
)

// roles are the names of the roles with a purpose, empty for none.
type roles struct{ adminRole, readOnly, lookup string }

func (r *roles) flags(fs *flag.FlagSet, c *connection) {
	fs.StringVar(&c.appRole, "app-role", "", "the `role` of the application: its login, or Config.AppRole (default: the role of the DSN)")
	fs.StringVar(&r.adminRole, "admin-role", "", "the `role` that may read and write the rows of all tenants")
	fs.StringVar(&r.readOnly, "read-only-role", "", "the `role` that may read the rows of all tenants, and write none")
	fs.StringVar(&r.lookup, "lookup-role", "", "the `role` that looks up the tenant of a login, an API key or a domain")
}

// mustExist refuses roles that do not exist.
func (r *roles) mustExist(ctx context.Context, db querier, appRole string) error {
	return errors.Join(mustExist(ctx, db, "--app-role", appRole), mustExist(ctx, db, "--admin-role", r.adminRole),
		mustExist(ctx, db, "--read-only-role", r.readOnly), mustExist(ctx, db, "--lookup-role", r.lookup))
}
