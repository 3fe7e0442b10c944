package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// backends are the server's processes that work for one database, if they run on this machine.
type backends struct {
	pids []int32
	why  string // they are out of reach
}

// backendsOf finds the processes behind the open connections to a database. A server in a container, or on another
// machine, has processes with the same numbers as others here; so their titles are looked at.
func (b *bench) backendsOf(ctx context.Context, d *database) (*backends, error) {
	conn, err := pgx.Connect(ctx, b.server.DSN())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`, d.Name)
	if err != nil {
		return nil, err
	}
	found := new(backends)
	if found.pids, err = pgx.CollectRows(rows, pgx.RowTo[int32]); err != nil {
		return nil, err
	}
	for _, pid := range found.pids {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(title), d.Name) {
			found.why = "the server's processes can't be seen from here."
		}
	}
	if len(found.pids) == 0 {
		found.why = "the server does not tell its processes."
	}
	return found, nil
}

// time is how long the processes have run on a processor so far, and whether that is known. Linux tells in nanoseconds
// (https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html).
func (p *backends) time() (sum time.Duration, known bool) {
	if p.why != "" {
		return 0, false
	}
	for _, pid := range p.pids {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			return 0, false
		}
		var ran time.Duration
		if _, err := fmt.Sscan(string(content), &ran); err != nil {
			return 0, false
		}
		sum += ran
	}
	return sum, true
}
