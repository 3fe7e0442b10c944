package main

import (
	"flag"

	"github.com/gormtenancy/tenancy/rls"
)

// dataOptions are those of "sql --data".
type dataOptions struct {
	wanted bool
	tables []string
}

func (o *dataOptions) flags(fs *flag.FlagSet) {
	fs.BoolVar(&o.wanted, "data", false, "print the SQL that goes before and after statements of a migration that change rows of all tenants; no\n"+
		"        database is needed. Without it, forced policies hide the rows from the owner")
	fs.Func("as-owner", "with --data, work on this `table` as its owner rather than as --admin-role, and lock it; can be repeated", func(table string) error {
		o.tables = append(o.tables, table)
		return nil
	})
}

// dataSQL returns the SQL around a data migration.
func (c *sqlCommand) dataSQL() (string, error) {
	isolation := rls.Isolation{AdminRole: c.adminRole, Column: c.column, Setting: c.setting}
	var options []rls.DataOption
	switch {
	case len(c.data.tables) > 0:
		options = append(options, rls.AsOwner(c.data.tables...))
	case c.adminRole == "":
		return "", misused("--data needs --admin-role, or --as-owner")
	}
	before, after, err := isolation.DataMigrationSQL(options...)
	return before + "\n-- Here the statements that change rows.\n\n" + after, err
}
