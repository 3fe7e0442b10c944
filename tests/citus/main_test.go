// Package citus tests the engine Citus. In every run it does so on a fake: a proxy that records the messages to a PostgreSQL server, and
// passes on no more of a tenant than a coordinator tells its workers. Where TENANCY_CITUS_DSN names the coordinator of a cluster, the same
// is done there.
package citus

import (
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type (
	// Country is shared: a reference table.
	Country struct {
		Code string `gorm:"primaryKey"`
		Name string
	}

	// Project is a tenant's.
	Project struct {
		ID       int64
		TenantID string
		Name     string `gorm:"uniqueIndex"`
		Tasks    []Task
	}

	// Task is one, too, and refers to a project.
	Task struct {
		ID        int64
		TenantID  string
		Title     string
		ProjectID int64
		Project   *Project
	}
)

var models = []any{&Country{}, &Project{}, &Task{}}

const (
	acme   = testdb.Acme
	globex = testdb.Globex
)

var as = testdb.As
