package tenancyriver

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/gormtenancy/tenancy"
)

// ErrUnknownTenant is the error of a job whose tenant Config.Known does not know any more.
var ErrUnknownTenant = errors.New("tenancy: the tenant of the job is not known")

// Config says how workers run jobs.
type Config struct {
	// Isolation is what river_job was migrated with. New compares the two.
	Isolation Isolation

	// WithoutTenant are the kinds of jobs that may run for no tenant, such as a periodic job that fans out to all. Empty means none.
	WithoutTenant []string

	// Known, if not nil, reports whether a tenant still exists. A job of one that does not is cancelled, with ErrUnknownTenant. An error is
	// that of the job, which River tries again. The context is one of tenancy.WithoutTenant.
	Known func(ctx context.Context, tenant string) (bool, error)

	// FeedInterval is how often jobs that wait for a slot are given to workers, if Isolation.Slots is not zero. Zero means 50 milliseconds.
	FeedInterval time.Duration

	// Logger gets an error for each job that is refused; slog.Default() if nil.
	Logger *slog.Logger
}

// Jobs is how jobs are worked for their tenants: NewClient makes River's client of it. It is safe for concurrent use, and by several clients.
type Jobs struct {
	pool          *sql.DB
	isolation     Isolation
	withoutTenant []string
	known         func(context.Context, string) (bool, error)
	interval      time.Duration
	logger        *slog.Logger
}

// New returns what NewClient needs. The pool is the workers' own, whose login is Isolation.WorkerRole; it is not closed. New asks PostgreSQL whether river_job is isolated as Isolation says, and returns ErrNotIsolated if it is not: workers believe what the
// metadata of a job say.
func New(ctx context.Context, pool *sql.DB, cfg Config) (*Jobs, error) {
	isolation, err := cfg.Isolation.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := isolation.check(ctx, pool); err != nil {
		return nil, err
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.Default()
	}
	interval := cfg.FeedInterval
	if interval <= 0 {
		interval = 50 * time.Millisecond
	}
	return &Jobs{
		pool: pool, isolation: isolation, withoutTenant: slices.Clone(cfg.WithoutTenant), known: cfg.Known, interval: interval, logger: logger,
	}, nil
}

// worker is the middleware of a Client, which is not exported: with River's own client it would run no job that waits for a slot.
type worker struct {
	inserter
	*Jobs
}

// Work implements rivertype.WorkerMiddleware: it works a job under tenancy.WithTenant. A job that has no tenant, and is not of Config.WithoutTenant, is not worked: it is cancelled with
// tenancy.ErrNoTenant, and logged.
func (j *worker) Work(ctx context.Context, job *rivertype.JobRow, doInner func(context.Context) error) error {
	ctx, err := j.tenantOf(ctx, job)
	switch {
	case errors.Is(err, tenancy.ErrNoTenant), errors.Is(err, ErrUnknownTenant):
		j.logger.ErrorContext(ctx, "tenancy: job refused", "job", job.ID, "kind", job.Kind, "error", err)
		return river.JobCancel(err)
	case err != nil:
		return err
	}
	return doInner(ctx)
}

// tenantOf returns the context that a job is worked under.
func (j *Jobs) tenantOf(ctx context.Context, job *rivertype.JobRow) (context.Context, error) {
	var metadata map[string]json.RawMessage // and no struct, to which "TENANCY:TENANT" would be the tenant, too
	if err := json.Unmarshal(job.Metadata, &metadata); err != nil {
		return ctx, fmt.Errorf("%w: the metadata of the job do not say it", tenancy.ErrNoTenant)
	}
	none := tenancy.WithoutTenant(ctx)
	named, ok := metadata[tenantKey]
	if !ok {
		if string(metadata[withoutKey]) == "true" && slices.Contains(j.withoutTenant, job.Kind) {
			return none, nil
		}
		return ctx, fmt.Errorf("%w: the job has none, and its kind is not one of Config.WithoutTenant", tenancy.ErrNoTenant)
	}
	var tenant string
	if err := json.Unmarshal(named, &tenant); err != nil {
		return ctx, fmt.Errorf("%w: the id in the metadata of the job is not a text", tenancy.ErrNoTenant)
	}
	of := tenancy.WithTenant(ctx, tenant)
	if id, ok := tenancy.TenantFromContext(of); !ok || id != tenant {
		return ctx, fmt.Errorf("%w: the id in the metadata of the job is not one", tenancy.ErrNoTenant)
	}
	if j.known == nil {
		return of, nil
	}
	switch known, err := j.known(none, tenant); {
	case err != nil:
		return ctx, fmt.Errorf("tenancy: look up the tenant of a job: %w", err)
	case !known:
		return ctx, ErrUnknownTenant
	}
	return of, nil
}
