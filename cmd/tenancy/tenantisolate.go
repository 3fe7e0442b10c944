package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

const isolateDetails = `
    tenancy tenant isolate --tenant huge             move the tenant's rows into partitions of its own, while the application works
    tenancy tenant isolate --tenant huge --back-out  drop what an isolate that has not ended has made

For isolate, tables are those that rls.Partitioned.ByList has made. Each is locked for a moment at the end, for all tenants: --max-lock bounds it. An isolate that was
interrupted goes on when it is called again.
`

// isolateOptions are the options of tenant isolate alone.
type isolateOptions struct {
	maxLock    time.Duration
	allowEmpty bool
}

func (i *isolateOptions) flags(fs *flag.FlagSet) {
	fs.DurationVar(&i.maxLock, "max-lock", 0, "with isolate, how long a table may be locked at the end, as a `duration`; what takes longer is rolled back (default 5s)")
	fs.BoolVar(&i.allowEmpty, "allow-empty", false, "with isolate, make partitions for a tenant that has no rows yet. There is no way back")
}

// given reports whether there is any of the options that no other action has.
func (i *isolateOptions) given() bool { return i.maxLock != 0 || i.allowEmpty }

// isolated is the result of tenant isolate.
type isolated struct {
	Isolate *lifecycle.IsolateReport `json:"isolate,omitempty"`
	Dropped []string                 `json:"dropped,omitempty"` // by --back-out
}

func (c *tenantCommand) isolateTenant(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	l.DB.SetMaxOpenConns(2) // one reads, and one writes
	var text strings.Builder
	if c.move.backOut {
		dropped, err := l.BackOutIsolate(ctx, c.tenant)
		fmt.Fprintf(&text, "Dropped %s of rows. Tables that have the partition keep it.\n", copies(len(dropped)))
		return tenantOutcome{isolated{Dropped: dropped}, text.String(), exitClean, false}, err
	}
	report, err := l.Isolate(ctx, c.tenant, lifecycle.IsolateOptions{MaxLock: c.isolate.maxLock, AllowEmpty: c.isolate.allowEmpty, OnStep: func(s lifecycle.IsolateStep, table string) error {
		_, err := io.WriteString(c.bar, "step="+string(s)+" table="+line(table)+"\n")
		return err
	}})
	for _, t := range report.Tables {
		switch {
		case t.Already:
			fmt.Fprintf(&text, "%s: the tenant has a partition of its own already.\n", line(t.Name))
		default:
			fmt.Fprintf(&text, "%s: moved %s into %s. The table was locked for %s.\n", line(t.Name), strings.ToLower(count(int(t.Rows), "row")),
				line(t.Partition), t.Lock.Round(time.Millisecond))
		}
	}
	if err != nil {
		if len(report.Tables) > 0 {
			_ = write(c.move.s, text.String()) // what was done
		}
		switch {
		case errors.Is(err, lifecycle.ErrLocked):
			err = fmt.Errorf("%w; allow more by --max-lock, at an hour at which that is no harm", err)
		case errors.Is(err, lifecycle.ErrNoRows):
			err = fmt.Errorf("%w (--allow-empty)", err)
		}
		return tenantOutcome{}, err
	}
	return tenantOutcome{isolated{Isolate: &report}, text.String(), exitClean, false}, nil
}

func copies(n int) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", n)
}
