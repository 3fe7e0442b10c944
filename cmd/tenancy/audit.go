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

// auditCommand looks after the records of changes.
type auditCommand struct {
	connection
	retention rls.Retention
	dry       bool
	format    string
	set       *flag.FlagSet // options may follow the action
}

const auditDetails = `
    tenancy audit maintain --keep 24 --dry-run    show what would be done
    tenancy audit maintain --keep 24              do it

It makes the next monthly partitions of the table tenancy_audit, moves records to them that have come without one, and drops those with records
that are older than --keep months. Without --keep it drops none. Run it once a month, as the owner of the tables. A second run does nothing, and
two at once take turns. It is one transaction: a run that is interrupted has done nothing.
`

func (c *auditCommand) flags(fs *flag.FlagSet) {
	c.set = fs
	c.databaseFlag(fs)
	fs.StringVar(&c.column, "column", defaultColumn, "the `column` that holds the tenant of a row (default tenant_id)")
	fs.IntVar(&c.retention.Keep, "keep", 0, "how many `months` before the current one are kept (default all)")
	fs.IntVar(&c.retention.Ahead, "ahead", 0, "how many `months` after the current one get a partition (default 3)")
	fs.BoolVar(&c.dry, "dry-run", false, "show what would be done, and change nothing")
	textOrJSON(fs, &c.format)
}

// textOrJSON adds the option for the format.
func textOrJSON(fs *flag.FlagSet, format *string) {
	*format = "text"
	fs.Func("format", "the `format` of the result: text or json (default text)", func(name string) error {
		if name != "text" && name != "json" {
			return errors.New("must be text or json")
		}
		*format = name
		return nil
	})
}

// jsonMaintenance is what was done, or would be, for programs.
type jsonMaintenance struct {
	DryRun  bool         `json:"dry_run"`
	Changes []jsonChange `json:"changes"`
}

type jsonChange struct {
	Table       string `json:"table"`
	Description string `json:"description"`
	SQL         string `json:"sql"`
}

func (c *auditCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if len(args) == 0 || args[0] != "maintain" {
		return 0, misused("say what to do: maintain")
	}
	if err := parseRest(c.set, args[1:]); err != nil {
		return 0, err
	}
	if c.retention.Keep < 0 || c.retention.Ahead < 0 {
		return 0, misused("--keep and --ahead are numbers of months, and not negative")
	}
	pool, err := c.open(ctx, s)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return 0, err
	}
	isolation := rls.Isolation{Column: c.column}
	do := isolation.MaintainAudit
	if c.dry {
		do = isolation.PlanMaintainAudit
	}
	changes, err := do(ctx, db, c.retention)
	if err != nil {
		return 0, err
	}
	text := c.asText(changes)
	if c.format == "json" {
		result := jsonMaintenance{DryRun: c.dry, Changes: []jsonChange{}}
		for _, change := range changes {
			result.Changes = append(result.Changes, jsonChange(change))
		}
		if text, err = indented(result); err != nil {
			return 0, err
		}
	}
	return exitClean, write(s, text)
}

func (c *auditCommand) asText(changes []rls.Change) string {
	var b strings.Builder
	for _, change := range changes {
		fmt.Fprintf(&b, "%s\n", line(change.String()))
	}
	switch {
	case len(changes) == 0:
		b.WriteString("Nothing is to be done.\n")
	case c.dry:
		fmt.Fprintf(&b, "\nNothing was changed. Without --dry-run, %s.\n", strings.ToLower(count(len(changes), "change")))
	default:
		fmt.Fprintf(&b, "\n%s.\n", count(len(changes), "change"))
	}
	return b.String()
}
