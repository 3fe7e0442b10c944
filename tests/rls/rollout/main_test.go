// Package rollout_test tests how a new version of an application, with tenants, takes over from one that knows none.
package rollout_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// The models of both versions: the older one has no field for the tenant, and so the new one needs it in the root alone.
type (
	Account struct {
		ID   int64
		Name string
	}
	NewAccount struct {
		ID       int64
		TenantID string
		Name     string
	}
	Project struct {
		ID        int64
		AccountID int64
		Account   *NewAccount `gorm:"foreignKey:AccountID"`
		Code      string      `gorm:"uniqueIndex"`
	}
	Task struct {
		ID        int64
		ProjectID int64
		Project   *Project
		Title     string
	}
	Comment struct {
		ID     int64
		TaskID int64
		Task   *Task
		Body   string
	}
	File struct {
		ID        int64
		ProjectID int64
		Project   *Project
		Name      string
	}
	Event struct {
		ID     int64
		TaskID int64
		Task   *Task
		Kind   string
	}
)

func (NewAccount) TableName() string { return "accounts" }

var (
	models = []any{&NewAccount{}, &Project{}, &Task{}, &Comment{}, &File{}, &Event{}}
	tables = []string{"accounts", "projects", "tasks", "comments", "files", "events"}
)

// accounts is how many tenants there are.
const accounts = 20

var logins atomic.Int64

// database is an application of before: its login is bound by nothing.
type database struct {
	*testdb.Database
	old string // the older version's login
}

// newDatabase makes the tables as the older version has made them, with this many rows in each table but the first.
func newDatabase(t *testing.T, rows int) database {
	t.Helper()
	d := database{Database: testdb.New(t)}
	require.NoError(t, d.OwnerDB.AutoMigrate(&Account{}))
	require.NoError(t, d.OwnerDB.AutoMigrate(models[1:]...))
	d.AsOwner(t, "ALTER TABLE accounts DROP COLUMN IF EXISTS tenant_id")
	d.AsOwner(t, fmt.Sprintf("INSERT INTO accounts (name) SELECT 'a' || i FROM generate_series(1, %d) i", accounts),
		fmt.Sprintf("INSERT INTO projects (account_id, code) SELECT 1 + i %% %d, 'p' || i FROM generate_series(1, %d) i", accounts, rows),
		fmt.Sprintf("INSERT INTO tasks (project_id, title) SELECT i, 't' FROM generate_series(1, %d) i", rows),
		fmt.Sprintf("INSERT INTO comments (task_id, body) SELECT i, 'c' FROM generate_series(1, %d) i", rows),
		fmt.Sprintf("INSERT INTO files (project_id, name) SELECT i, 'f' FROM generate_series(1, %d) i", rows),
		fmt.Sprintf("INSERT INTO events (task_id, kind) SELECT i, 'e' FROM generate_series(1, %d) i", rows),
		"ANALYZE")
	d.old = fmt.Sprintf("%s_old_%d", d.Name, logins.Add(1))
	d.AsSuperuser(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%[1]s'", d.old))
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+d.old+" CASCADE", "DROP ROLE "+d.old) })
	d.AsOwner(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+d.old,
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+d.old)
	return d
}

// isolation is that of a stage.
func (d database) isolation(stage rls.Stage) rls.Isolation {
	i := d.Isolation()
	i.Stage, i.OldRole = stage, d.old
	i.Fills = []rls.Fill{{Model: &NewAccount{}, Tenant: "id::text"}}
	return i
}

// to takes the database to a stage.
func (d database) to(t *testing.T, stage rls.Stage) []rls.Change {
	t.Helper()
	return d.Migrate(t, d.isolation(stage), models...)
}

func (d database) oldDSN() string { return testdb.WithLogin(d.App.DSN, d.old, d.old) }
