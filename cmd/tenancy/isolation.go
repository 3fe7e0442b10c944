package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// subject holds the options of a check.
type subject struct {
	connection
	roles
	signature
	login   string // the role that the application logs in as, if that is not its role
	options []check.Option
}

func (c *subject) flags(fs *flag.FlagSet) {
	c.connection.flags(fs)
	c.roles.flags(fs, &c.connection)
	fs.StringVar(&c.login, "login-role", "", "the `role` that the application logs in as, where that is another than --app-role: raw SQL can go back to it by RESET ROLE")
	c.signature.flags(fs, ", and the login is to have no more rights than its statements need")
	fs.Func("schema", "check this `schema` only; can be repeated", func(name string) error {
		c.options = append(c.options, check.Schemas(name))
		return nil
	})
	fs.Func("allow", "accept a finding: `code=object=reason`, with the code and object of the report; can be repeated.\n"+
		"        The code shared-table declares a table that has the tenant column and that all tenants share", func(entry string) error {
		parts := strings.SplitN(entry, "=", 3)
		if len(parts) < 3 {
			return errors.New("must be code=object=reason")
		}
		c.options = append(c.options, check.Allow(check.Code(parts[0]), parts[1], parts[2]))
		return nil
	})
}

// check checks the database.
func (c *subject) check(ctx context.Context, s streams) (check.Report, error) {
	if err := c.validate(); err != nil {
		return check.Report{}, err
	}
	pool, err := c.open(ctx, s)
	if err != nil {
		return check.Report{}, err
	}
	defer pool.Close()
	if err := errors.Join(c.roles.mustExist(ctx, pool, c.appRole), mustExist(ctx, pool, "--login-role", c.login)); err != nil {
		return check.Report{}, err
	}
	options := c.options
	if c.login != "" {
		options = append(slices.Clip(options), check.Login(c.login))
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return check.Report{}, err
	}
	isolation := rls.Isolation{
		Setting: c.setting, Column: c.column,
		AppRole: c.appRole, AdminRole: c.adminRole, ReadOnlyRole: c.readOnly, LookupRole: c.lookup,
		Signed: c.signed, DangerouslyAcceptUnsigned: c.either,
	}
	report, err := isolation.Check(ctx, db, options...)
	if err == nil && report.Tables == 0 {
		err = fmt.Errorf("no table has the column %q, so there is nothing to check: is this the database, "+
			"have its tables been migrated, and are --column and --schema right?", c.column)
	}
	return report, err
}
