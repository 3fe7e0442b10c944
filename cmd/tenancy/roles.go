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

// signature is what policies are to ask for beside the tenant.
type signature struct{ signed, either bool }

func (s *signature) flags(fs *flag.FlagSet, consequence string) {
	fs.BoolVar(&s.signed, "signed", false, "policies are to demand a signature of the tenant (rls.Isolation.Signed)"+consequence)
	fs.BoolVar(&s.either, "dangerously-accept-unsigned", false, "with --signed, policies may take statements without a signature too, while an application changes over")
}

// validate refuses one option without the other.
func (s *signature) validate() error {
	if s.either && !s.signed {
		return misused("--dangerously-accept-unsigned is for --signed")
	}
	return nil
}

// mustExist refuses roles that do not exist.
func (r *roles) mustExist(ctx context.Context, db querier, appRole string) error {
	return errors.Join(mustExist(ctx, db, "--app-role", appRole), mustExist(ctx, db, "--admin-role", r.adminRole),
		mustExist(ctx, db, "--read-only-role", r.readOnly), mustExist(ctx, db, "--lookup-role", r.lookup))
}
