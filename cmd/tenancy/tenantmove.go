package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// moveOptions are the options of tenant move alone.
type moveOptions struct {
	to, standard      string
	servers           map[string]string // the variables of their DSNs
	ttl, stop, grace  time.Duration
	backOut, eraseOld bool

	s streams
}

const moveDetails = `
    tenancy tenant move --tenant acme --to second --default first --server first=FIRST_URL --server second=SECOND_URL
                                                     move the tenant to another server while it works
    tenancy tenant move --tenant acme --back-out …   end a move that has not switched, and erase the copy
    tenancy tenant move --tenant acme --erase-old …  erase what a move has left on the old server

For move, --dsn or DATABASE_URL is the database with the table tenant_placements, by a login that may write it. FIRST_URL and SECOND_URL are variables of the
environment, each with the DSN of a server. The tenant is locked out for a moment at the end. A move that was interrupted goes on when it is called again.
`

func (m *moveOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&m.to, "to", "", "with move, the `name` of the server that the tenant is to live on")
	fs.StringVar(&m.standard, "default", "", "with move, the `name` of the server of tenants without a placement, as in the application")
	fs.Func("server", "with move, a server and the variable of the environment that has its DSN: `name=VARIABLE`; can be repeated", func(entry string) error {
		name, variable, _ := strings.Cut(entry, "=")
		if name == "" || !variableName.MatchString(variable) {
			return errors.New("must be name=VARIABLE")
		}
		if m.servers == nil {
			m.servers = map[string]string{}
		}
		m.servers[name] = variable
		return nil
	})
	fs.DurationVar(&m.ttl, "ttl", 0, "with move, the longest placement.Config.TTL of all applications, as a `duration` (default 1s)")
	fs.DurationVar(&m.stop, "stop-timeout", 0, "with move, how long the tenant may be locked out until the move is backed out, as a `duration` (default 10s)")
	fs.DurationVar(&m.grace, "grace", 0, "with --erase-old, how long after the move the rows are kept at least, as a `duration` (default 1m)")
	fs.BoolVar(&m.backOut, "back-out", false, "with move, let the tenant work where it lives, and erase the copy on the other server; with isolate, drop the copies")
	fs.BoolVar(&m.eraseOld, "erase-old", false, "with move, erase the rows on the server where the tenant lived, if they are as they were moved; with --to, after the move")
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// given reports whether there is any of the options that no other action has.
func (m *moveOptions) given() bool {
	return m.to != "" || m.standard != "" || m.servers != nil || m.ttl != 0 || m.stop != 0 || m.grace != 0 || m.eraseOld
}

// moved is the result of tenant move.
type moved struct {
	Move   *placement.Report `json:"move,omitempty"`
	Erased *lifecycle.Report `json:"erased,omitempty"` // of --back-out and --erase-old
}

func (c *tenantCommand) moveTenant(ctx context.Context, l lifecycle.Tenants) (tenantOutcome, error) {
	switch {
	case c.move.to == "" && !c.move.backOut && !c.move.eraseOld:
		return tenantOutcome{}, misused("move needs --to, --back-out or --erase-old")
	case c.move.backOut && (c.move.to != "" || c.move.eraseOld):
		return tenantOutcome{}, misused("--back-out is for itself")
	case len(c.move.servers) == 0:
		return tenantOutcome{}, misused("move needs --server for each server")
	}
	m, done, err := c.mover(ctx, l)
	defer done()
	if err != nil {
		return tenantOutcome{}, err
	}
	var (
		result moved
		text   strings.Builder
	)
	if c.move.to != "" {
		report, err := m.Move(ctx, c.tenant, c.move.to)
		if err != nil {
			return tenantOutcome{}, err
		}
		result.Move = &report
		fmt.Fprintf(&text, "Moved %s from %s to %s. The tenant was locked out for %s.\n", strings.ToLower(count(int(report.Rows), "row")),
			line(report.From), line(report.To), report.Stop.Round(time.Millisecond))
		if !c.move.eraseOld {
			fmt.Fprintf(&text, "The old rows are still on %s: erase them with --erase-old.\n", line(report.From))
		}
	}
	if c.move.eraseOld || c.move.backOut {
		erase, verb := m.EraseOld, "Erased the old rows:"
		if c.move.backOut {
			erase, verb = m.BackOut, "The tenant works where it lived. Erased the copy:"
		}
		report, err := erase(ctx, c.tenant)
		if err != nil {
			_ = write(c.move.s, text.String()) // what was done
			return tenantOutcome{}, err
		}
		result.Erased = &report
		text.WriteString(tablesAsText(verb, report.Tables, report.Left))
	}
	return tenantOutcome{result, text.String(), exitClean, result.Move != nil && result.Move.Rows == 0}, nil
}

// mover opens the servers. The function closes them.
func (c *tenantCommand) mover(ctx context.Context, l lifecycle.Tenants) (placement.Mover, func(), error) {
	m := placement.Mover{
		Catalog: l.DB, Servers: map[string]*sql.DB{}, Default: c.move.standard, TTL: c.move.ttl, StopTimeout: c.move.stop, Grace: c.move.grace,
		Isolation: l.Isolation, Actor: l.Actor, Skip: l.Skip, OnEvent: l.OnEvent, Logger: l.Logger, Progress: l.Progress,
		OnStep: func(s placement.Step) error {
			_, err := io.WriteString(c.bar, "step="+string(s)+"\n")
			return err
		},
	}
	done := func() {
		for _, pool := range m.Servers {
			_ = pool.Close()
		}
	}
	for name, variable := range c.move.servers {
		dsn := c.move.s.env(variable)
		if dsn == "" {
			return m, done, misused("--server: the variable %s is not set", variable)
		}
		pool, err := openDSN(ctx, dsn, variable)
		if err != nil {
			return m, done, err
		}
		m.Servers[name] = pool
	}
	return m, done, nil
}
