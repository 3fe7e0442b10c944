package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"gorm.io/gorm"
)

// backend is the server's process for one connection, if it runs on this machine.
type backend struct {
	pid uint32
	why string // it is out of reach
}

// newBackend looks at the title of the process: a server in a container, or on another machine, has processes with the
// same numbers as others here.
func newBackend(pid uint32, d *database) *backend {
	p := &backend{pid: pid}
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(title), d.Name) {
		p.why = "the server's processes can't be seen from here."
	}
	return p
}

// backend finds the process for the subject's only connection.
func (s *subject) backend(ctx context.Context) (*backend, error) {
	var pid uint32
	err := s.as(ctx, reader).do(false, func(db *gorm.DB) error {
		return db.Raw("SELECT pg_backend_pid()").Scan(&pid).Error
	})
	return newBackend(pid, s.database), err
}

// time is how long the process has run on a processor so far, and whether that is known. Linux tells in nanoseconds
// (https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html).
func (p *backend) time() (ran time.Duration, known bool) {
	if p.why != "" {
		return 0, false
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", p.pid))
	if err != nil {
		return 0, false
	}
	_, err = fmt.Sscan(string(content), &ran)
	return ran, err == nil
}
