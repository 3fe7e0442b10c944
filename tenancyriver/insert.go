package tenancyriver

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// ErrTenantInMetadata is the error of inserting a job whose InsertOpts.Metadata names a tenant, other than the context's.
var ErrTenantInMetadata = errors.New("tenancy: the metadata of a job names its tenant, which comes from the context")

// Insert returns the middleware of clients that insert jobs. It writes the tenant of the context into the metadata of each job. Without
// one the error is tenancy.ErrNoTenant. Under tenancy.WithoutTenant the job is one for no tenant, which only WorkerRole and AdminRole may
// insert; PostgreSQL refuses it to the application's role.
//
// A job that is inserted without the middleware has no tenant, so that PostgreSQL refuses it.
func Insert() rivertype.JobInsertMiddleware { return &inserter{} }

type inserter struct{ river.MiddlewareDefaults }

// InsertMany implements rivertype.JobInsertMiddleware.
func (*inserter) InsertMany(
	ctx context.Context, params []*rivertype.JobInsertParams, doInner func(context.Context) ([]*rivertype.JobInsertResult, error),
) ([]*rivertype.JobInsertResult, error) {
	key, value := tenantKey, any(nil)
	tenant, decided := guard.Tenant(ctx)
	switch {
	case !decided:
		return nil, fmt.Errorf("%w: a job cannot be inserted", tenancy.ErrNoTenant)
	case tenant == "":
		key, value = withoutKey, true
	default:
		value = tenant
	}
	for _, p := range params {
		if err := mark(p, key, value); err != nil {
			return nil, err
		}
	}
	return doInner(ctx)
}

// mark writes into the metadata which tenant a job is for.
func mark(p *rivertype.JobInsertParams, key string, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("tenancy: metadata of a job: %w", err)
	}
	metadata := map[string]json.RawMessage{}
	if len(p.Metadata) > 0 {
		if err := json.Unmarshal(p.Metadata, &metadata); err != nil {
			return errors.New("tenancy: the metadata of a job is not a JSON object")
		}
	}
	for _, reserved := range []string{tenantKey, withoutKey} {
		if given, ok := metadata[reserved]; ok && (reserved != key || string(given) != string(encoded)) {
			return ErrTenantInMetadata
		}
	}
	if metadata == nil {
		metadata = map[string]json.RawMessage{} // the metadata were null
	}
	metadata[key] = encoded
	p.Metadata, err = json.Marshal(metadata)
	return err
}

// InsertTx inserts a job in a transaction of GORM, for the tenant of the transaction's context: the job is there if and only if the
// transaction commits. The client has the middleware of Insert. It returns tenancy.ErrNoTenant without a tenant, gorm.ErrInvalidTransaction
// outside of a transaction, and PostgreSQL's error, with which the transaction must end.
func InsertTx(tx *gorm.DB, client *river.Client[*sql.Tx], args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error) {
	pool := tx.Statement.ConnPool
	if prepared, ok := pool.(*gorm.PreparedStmtTX); ok {
		pool = prepared.Tx
	}
	sqlTx, ok := pool.(*sql.Tx)
	if !ok {
		return nil, fmt.Errorf("tenancy: insert a job: %w", gorm.ErrInvalidTransaction)
	}
	return client.InsertTx(tx.Statement.Context, sqlTx, args, opts)
}

// FanOut inserts one job for each of the tenants, in a transaction of WorkerRole or AdminRole: from a periodic job, for instance. The jobs
// must be unique, so that a fan-out that is worked twice inserts them once: without opts.UniqueOpts it is an error. For an id that is no
// tenant (see tenancy.WithTenant) the error is tenancy.ErrNoTenant; the transaction must end then.
func FanOut[TTx any, T tenancy.ID](
	ctx context.Context, client *river.Client[TTx], tx TTx, tenants []T, args river.JobArgs, opts river.InsertOpts,
) error {
	u := opts.UniqueOpts
	if !u.ByArgs && !u.ByQueue && u.ByPeriod == 0 && u.ByState == nil {
		return errors.New("tenancy: the jobs of FanOut must be unique: set InsertOpts.UniqueOpts")
	}
	for n, tenant := range tenants {
		if _, err := client.InsertTx(tenancy.WithTenant(ctx, tenant), tx, args, &opts); err != nil {
			return fmt.Errorf("tenancy: job of tenant %d of the list: %w", n, err)
		}
	}
	return nil
}
