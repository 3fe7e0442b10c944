package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/rls"
)

// subject is what a database is checked for, as the command line says.
type subject struct {
	connection
	adminRole string
	readOnly  string // the read-only role
	options   []rls.CheckOption
}

func (c *subject) flags(fs *flag.FlagSet) {
	c.connection.flags(fs)
	fs.StringVar(&c.appRole, "app-role", "", "the `role` that the application logs in as; that of the DSN if not given")
	fs.StringVar(&c.adminRole, "admin-role", "", "the `role` that may see every tenant's rows")
	fs.StringVar(&c.readOnly, "read-only-role", "", "the `role` that may read every tenant's rows")
	fs.Func("schema", "a `schema` to look at, instead of all; can be repeated", func(name string) error {
		c.options = append(c.options, rls.Schemas(name))
		return nil
	})
	fs.Func("allow", "tolerate a finding: `code=object=reason`, as the report names them; can be repeated. The code shared-table\n"+
		"        tells of a table with the tenant column that all tenants share", func(entry string) error {
		parts := strings.SplitN(entry, "=", 3)
		if len(parts) < 3 {
			return errors.New("must be code=object=reason")
		}
		c.options = append(c.options, rls.Allow(rls.Code(parts[0]), parts[1], parts[2]))
		return nil
	})
}

// check checks the database.
func (c *subject) check(ctx context.Context, s streams) (rls.Report, error) {
	pool, err := c.open(ctx, s)
	if err != nil {
		return rls.Report{}, err
	}
	defer pool.Close()
	err = errors.Join(mustExist(ctx, pool, "--app-role", c.appRole), mustExist(ctx, pool, "--admin-role", c.adminRole),
		mustExist(ctx, pool, "--read-only-role", c.readOnly))
	if err != nil {
		return rls.Report{}, err
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return rls.Report{}, err
	}
	isolation := rls.Isolation{Setting: c.setting, Column: c.column, AppRole: c.appRole, AdminRole: c.adminRole, ReadOnlyRole: c.readOnly}
	report, err := isolation.Check(ctx, db, c.options...)
	if err == nil && report.Tables == 0 {
		err = fmt.Errorf("no table has the column %q, so there is nothing to check: is this the database, "+
			"have its tables been migrated, and are --column and --schema right?", c.column)
	}
	return report, err
}
