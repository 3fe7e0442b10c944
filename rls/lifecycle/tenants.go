package lifecycle

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls"
)

// Tenants works on the rows of one tenant at a time. DB and Actor must be set.
type Tenants struct {
	// DB is a pool of pgx (sql.Open with "pgx", or DB of GORM's postgres driver) without the plugin. Log in as the owner of the tables,
	// on which policies are forced: it is bound by them, and may set sequences. A login that they do not bind, such as a superuser, needs
	// Isolation.AppRole, and takes that role.
	DB *sql.DB

	// Isolation is how the database keeps tenants apart. Of its fields, Setting, Column and AppRole count.
	Isolation rls.Isolation

	// Actor is who wants it, for the record of the run.
	Actor string

	// Skip has the tables, as "schema.table", that are left out of exports, imports and comparisons, and kept by Erase; and the reason
	// of each, which is in the manifest and the report. It is for tables that the law demands, or that no policy isolates.
	Skip map[string]string

	// NewKeys has Import give rows new primary keys, so that a copy can be beside the original: numbers of sequences, and UUIDs, but not those of
	// keys that include the tenant. References follow. Diff then compares such a copy. Other keys that do not include the tenant, as an
	// e-mail address that is unique in the database, are ErrConflict before a row is written.
	NewKeys bool

	// BatchSize is how many rows Erase deletes in a transaction. Zero means 1,000.
	BatchSize int

	// OnEvent gets the record of each run, when it has ended. Logger gets the same at the level Info; nil means slog.Default. One of the two
	// must hear it: otherwise a run is refused.
	OnEvent func(ctx context.Context, e Event)
	Logger  *slog.Logger

	// Progress is called after each thousand rows or batch, in the goroutine of the run. It may be nil.
	Progress func(Progress)
}

// Event is the record of a run. It holds no values of rows.
type Event struct {
	Operation Operation
	Actor     string // that of Tenants or Subjects
	Tenant    string // its id
	Request   string // of a run for one person: that of Subjects. The person's key is in no record
	Tables    int    // that were worked on
	Rows      int64  // that were counted, read or written. Of an Erase that failed, those of the batches that were committed
	Duration  time.Duration
	Err       error // nil for success
}

// Operation is a kind of run.
type Operation string

// The operations.
const (
	OpCount  Operation = "count"
	OpExport Operation = "export"
	OpImport Operation = "import"
	OpErase  Operation = "erase"
	OpPlan   Operation = "erase plan"
	OpDiff   Operation = "diff"

	OpSubjectExport Operation = "subject export"
	OpSubjectErase  Operation = "subject erase"
	OpSubjectPlan   Operation = "subject erase plan"
)

// Progress says how far a run is with a table.
type Progress struct {
	Operation   Operation
	Table       string
	Done, Total int64 // in rows. Total is zero where it is not known
}

// Table is what a run found of a table.
type Table struct {
	Name   string `json:"name"` // schema.table, without quotes
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256,omitempty"` // of the rows as they are exported; empty where they were only counted
}

// Left is what a run has left alone.
type Left struct {
	Object string `json:"object"`         // such as a table, as schema.table
	Reason string `json:"reason"`         // in English, or as Skip gives it
	Rows   int64  `json:"rows,omitempty"` // of the tenant, in a tenant table that Erase has kept
}

// Report says what a run has done.
type Report struct {
	Tenant string  `json:"tenant"`
	Tables []Table `json:"tables"`         // in the order of foreign keys, parents first
	Left   []Left  `json:"left,omitempty"` // what it has not worked on
}

// Rows returns the sum of the rows.
func (r Report) Rows() int64 {
	var sum int64
	for _, t := range r.Tables {
		sum += t.Rows
	}
	return sum
}

const defaultBatch = 1000

// reportEvery is after how many rows Progress is called.
const reportEvery = 1000

// run checks t and the tenant, does the work on one connection, and reports it.
func (t Tenants) run(ctx context.Context, op Operation, tenant string, do func(s *session) error) (err error) {
	config, err := t.config(ctx)
	if err != nil {
		return fmt.Errorf("tenancy: %w", err)
	}
	if tenant == "" || strings.ContainsRune(tenant, 0) {
		return fmt.Errorf("tenancy: %s: name the tenant", op)
	}
	s := &session{Tenants: t, config: config, op: op, tenant: tenant}
	began := time.Now()
	defer func() {
		t.report(ctx, Event{
			Operation: op, Actor: t.Actor, Tenant: tenant, Request: s.request, Tables: s.tables, Rows: s.rows, Duration: time.Since(began), Err: err,
		})
	}()
	if err := s.on(ctx, do); err != nil {
		return fmt.Errorf("tenancy: %s: %w", op, explain(err))
	}
	return nil
}

// config checks the fields.
func (t Tenants) config(ctx context.Context) (policy.Config, error) {
	i := t.Isolation
	config := policy.Config{Setting: i.Setting, Column: i.Column, AppRole: i.AppRole}.WithDefaults()
	switch {
	case t.DB == nil:
		return config, errors.New("Tenants.DB is nil")
	case strings.TrimSpace(t.Actor) == "":
		return config, errors.New("Tenants.Actor is empty: say who works on all rows of a tenant")
	case t.BatchSize < 0:
		return config, errors.New("Tenants.BatchSize cannot be negative")
	case t.OnEvent == nil && !t.logger().Enabled(ctx, slog.LevelInfo):
		return config, errors.New("the run would leave no trace: set Tenants.OnEvent, or a Logger that is enabled for slog.LevelInfo")
	}
	for table, reason := range t.Skip {
		if strings.TrimSpace(reason) == "" {
			return config, fmt.Errorf("Tenants.Skip has no reason for %s", table)
		}
	}
	return config, config.Validate()
}

func (t Tenants) logger() *slog.Logger {
	if t.Logger == nil {
		return slog.Default()
	}
	return t.Logger
}

// report passes the record on.
func (t Tenants) report(ctx context.Context, e Event) {
	attrs := []slog.Attr{
		slog.String("operation", string(e.Operation)), slog.String("actor", e.Actor), slog.String("tenant", e.Tenant),
		slog.Int("tables", e.Tables), slog.Int64("rows", e.Rows), slog.Duration("duration", e.Duration),
	}
	if e.Request != "" {
		attrs = append(attrs, slog.String("request", e.Request))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	t.logger().LogAttrs(ctx, slog.LevelInfo, "tenancy: life cycle", attrs...)
	if t.OnEvent != nil {
		t.OnEvent(ctx, e)
	}
}
