package webhooks

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tenanttest"
)

// victim is what a hostile tenant knows of another: all ids.
type victim struct {
	endpoint Endpoint
	delivery Delivery
	event    string
	secret   Secret
}

// attack is what a hostile tenant does; it reports whether it has reached a row of the victim, or caused one.
type attack struct {
	name string
	do   func(f *fixture, tx *gorm.DB, v victim) (bool, error)
}

// rows makes an attack of SQL that changes or reads rows.
func rows(sql string, args func(v victim) []any) func(*fixture, *gorm.DB, victim) (bool, error) {
	return func(_ *fixture, tx *gorm.DB, v victim) (bool, error) {
		if strings.HasPrefix(sql, "SELECT") {
			var n int64
			err := tx.Raw(sql, args(v)...).Scan(&n).Error
			return n > 0, err
		}
		result := tx.Exec(sql, args(v)...)
		return result.RowsAffected > 0, result.Error
	}
}

func endpointID(v victim) []any { return []any{v.endpoint.ID} }
func deliveryID(v victim) []any { return []any{v.delivery.ID} }

var attacks = []attack{
	{"update", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		_, err := f.service.Update(tx, v.endpoint.ID, 0, Settings{URL: "http://127.0.0.1:1/stolen", Types: []string{AllTypes}})
		return err == nil, err
	}},
	{"rotate", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		_, _, err := f.service.Rotate(tx, v.endpoint.ID, 0)
		return err == nil, err
	}},
	{"test", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		_, err := f.service.Test(tx, v.endpoint.ID)
		return err == nil, err
	}},
	{"redeliver", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		_, err := f.service.Redeliver(tx, v.delivery.ID)
		return err == nil, err
	}},
	{"redeliver since", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		_, err := f.service.RedeliverSince(tx, v.endpoint.ID, time.Time{})
		return err == nil, err
	}},
	{"fan out", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		event, err := f.service.write(tx, newEvent("task.created", nil))
		if err != nil {
			return false, err
		}
		_, made, err := f.service.schedule(tx, event, v.endpoint)
		return made && err == nil, err
	}},
	{"fan out a foreign event", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		own, _, err := f.service.Create(tx, Settings{URL: "http://127.0.0.1:1", Types: []string{AllTypes}})
		if err != nil {
			return false, err
		}
		_, made, err := f.service.schedule(tx, Event{ID: v.event}, own)
		return made && err == nil, err
	}},
	{"claim", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		_, _, err := f.service.claim(tx.Statement.Context, deliverArgs{Delivery: v.delivery.ID, Round: v.delivery.Round})
		return err == nil || errors.Is(err, errNothingToDo), err
	}},
	{"read secrets", rows("SELECT count(*) FROM webhook_secrets WHERE endpoint_id = ?", endpointID)},
	{"read events", rows("SELECT count(*) FROM webhook_events WHERE id = ?", func(v victim) []any { return []any{v.event} })},
	{"read attempts", rows("SELECT count(*) FROM webhook_attempts WHERE delivery_id = ?", deliveryID)},
	{"read deliveries", rows("SELECT count(*) FROM webhook_deliveries WHERE id = ?", deliveryID)},
	{"read endpoints", rows("SELECT count(*) FROM webhook_endpoints WHERE id = ?", endpointID)},
	{"read jobs", rows("SELECT count(*) FROM river_job WHERE args->>'delivery' = ?", deliveryID)},
	{"take a secret", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		own, _, err := f.service.Create(tx, Settings{URL: "http://127.0.0.1:1", Types: []string{AllTypes}})
		if err != nil {
			return false, err
		}
		result := tx.Exec("UPDATE webhook_secrets SET endpoint_id = ? WHERE id = ?", own.ID, v.secret.ID)
		return result.RowsAffected > 0, result.Error
	}},
	{"open the breaker", rows("UPDATE webhook_breakers SET open_until = 'infinity' WHERE endpoint_id = ?", endpointID)},
	{"redirect", rows("UPDATE webhook_endpoints SET url = 'http://127.0.0.1:1' WHERE id = ?", endpointID)},
	{"add a secret", rows(`INSERT INTO webhook_secrets (id, tenant_id, endpoint_id, sealed, created_at) VALUES (gen_random_uuid(), 'acme', ?, '\x00', now())`, endpointID)},
	{"bury", rows("UPDATE webhook_deliveries SET status = 'dead' WHERE id = ?", deliveryID)},
	{"forge a job", rows(`INSERT INTO river_job (kind, queue, max_attempts, args, metadata) VALUES ('webhook_deliver', 'webhooks', 3,
		jsonb_build_object('delivery', ?::text, 'round', 0), '{"tenancy:tenant":"globex"}')`, deliveryID)},
	{"forge a job for none", rows(`INSERT INTO river_job (kind, queue, max_attempts, args, metadata) VALUES ('webhook_deliver', 'webhooks', 3,
		jsonb_build_object('delivery', ?::text, 'round', 0), '{"tenancy:without":true}')`, deliveryID)},
	{"delete", func(f *fixture, tx *gorm.DB, v victim) (bool, error) {
		err := f.service.Delete(tx, v.endpoint.ID)
		return err == nil, err
	}},
}

// prepare makes globex's rows: an endpoint with a dead delivery.
func (f *fixture) prepare(t *testing.T) (v victim) {
	t.Helper()
	tx := f.db.WithContext(as(globex))
	v.endpoint, _ = f.endpoint(t, globex, "http://127.0.0.1:1")
	require.NoError(t, tx.Transaction(func(tx *gorm.DB) error {
		event, err := f.service.write(tx, newEvent("task.created", nil))
		if err != nil {
			return err
		}
		v.event = event.ID
		if v.delivery, _, err = f.service.schedule(tx, event, v.endpoint); err != nil {
			return err
		}
		if err := v.delivery.bury(tx, "it is dead"); err != nil {
			return err
		}
		return tx.Create(&Attempt{ID: newID(), DeliveryID: v.delivery.ID, CreatedAt: time.Now()}).Error
	}))
	require.NoError(t, tx.Take(&v.secret, "endpoint_id = ?", v.endpoint.ID).Error)
	return v
}

// attacked runs all attacks as acme, each in a transaction that is rolled back, and returns the names of those that reach globex's rows.
func (f *fixture) attacked(t *testing.T, v victim) (reached []string) {
	t.Helper()
	undone := errors.New("undone")
	for _, a := range attacks {
		err := f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			ok, err := a.do(f, tx, v)
			if ok {
				reached = append(reached, a.name)
			} else if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
				var postgres *pgconn.PgError
				var cancelled *rivertype.JobCancelError
				require.True(t, errors.As(err, &postgres) && (postgres.Code == "42501" || postgres.Code == "23503") || errors.As(err, &cancelled),
					"%s: %v", a.name, err)
			}
			return undone
		})
		require.ErrorIs(t, err, undone)
	}
	return reached
}

// TestHostileTenantReachesNothing of another, though it knows all ids.
func TestHostileTenantReachesNothing(t *testing.T) {
	f := newFixture(t, testConfig())
	require.Empty(t, f.attacked(t, f.prepare(t)))
}

// TestHostileTenantWithoutPlugin reaches all: each attack of TestHostileTenantReachesNothing can succeed.
func TestHostileTenantWithoutPlugin(t *testing.T) {
	f := newTables(t)
	f.db = f.owner(t)
	require.NoError(t, f.db.AutoMigrate(Models()...))
	f.service = newService(t, f.db, testConfig())
	v := f.prepare(t)
	names := make([]string, len(attacks))
	for i, a := range attacks {
		names[i] = a.name
	}
	require.Equal(t, names, f.attacked(t, v))
}

// TestForgedJobOfOwnIsCancelled: a tenant may insert jobs of its own, with whatever arguments. One that names another's delivery finds none.
func TestForgedJobOfOwnIsCancelled(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	v := f.prepare(t)
	require.NoError(t, f.admin.Exec("UPDATE webhook_endpoints SET url = ?", r.URL).Error)
	require.NoError(t, f.admin.Exec("UPDATE webhook_deliveries SET status = 'pending'").Error)
	require.NoError(t, f.admin.Exec("DELETE FROM river_job").Error)
	insert := `INSERT INTO river_job (kind, queue, max_attempts, args, metadata) VALUES (?, 'webhooks', 3, ?::jsonb, ?)`
	tx := f.db.WithContext(as(acme))
	mine := `{"tenancy:tenant":"acme","TENANCY:TENANT":"globex"}`
	for kind, args := range map[string]string{
		deliverArgs{}.Kind(): `{"delivery":"` + v.delivery.ID + `","round":0}`,
		fanOutArgs{}.Kind():  `{"event":"` + v.event + `"}`,
	} {
		require.NoError(t, tx.Exec(insert, kind, args, mine).Error)
	}
	f.work(t)
	var cancelled int64
	eventually(t, func() bool {
		require.NoError(t, f.admin.Raw("SELECT count(*) FROM river_job WHERE state = 'cancelled'").Scan(&cancelled).Error)
		return cancelled == 2
	}, "both are cancelled")
	require.Zero(t, r.count())

	// The same job is worked if it is globex's own.
	require.NoError(t, f.db.WithContext(as(globex)).Transaction(func(tx *gorm.DB) error {
		return f.service.insertJobs(tx, []Delivery{v.delivery})
	}))
	f.waitFor(t, v.event, Delivered)
	require.Equal(t, 1, r.count())
}

// TestForgedJobOfAnotherRoundSendsNothing: neither does one that comes twice.
func TestForgedJobOfAnotherRoundSendsNothing(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	f.endpoint(t, acme, r.URL)
	f.work(t)
	id := f.emit(t, acme, "task.created", nil)
	d := f.waitFor(t, id, Delivered)
	require.NoError(t, f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		return f.service.insertJobs(tx, []Delivery{{ID: d.ID}, {ID: d.ID, Round: 7}, {ID: d.ID, Round: -1}})
	}))
	eventually(t, func() bool {
		var open int64
		require.NoError(t, f.admin.Raw("SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&open).Error)
		return open == 0
	}, "they are done")
	require.Equal(t, 1, r.count())
}

// TestJobsOfOneDeliveryTakeTurns: while one sends it, the others wait, and then find nothing to do.
func TestJobsOfOneDeliveryTakeTurns(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	release := make(chan struct{})
	r.answer(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
	})
	f.endpoint(t, acme, r.URL)
	f.work(t)
	id := f.emit(t, acme, "task.created", nil)
	eventually(t, func() bool { return r.count() == 1 }, "one sends it")
	d := f.delivery(t, id)
	require.NoError(t, f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		return f.service.insertJobs(tx, []Delivery{d, d, d})
	}))
	jobs := func(condition string) (n int64) {
		require.NoError(t, f.admin.Raw("SELECT count(*) FROM river_job WHERE "+condition).Scan(&n).Error)
		return n
	}
	eventually(t, func() bool { return jobs("metadata->>'snoozes' IS NOT NULL") == 3 || r.count() > 1 }, "the others wait")
	close(release)
	eventually(t, func() bool { return jobs("state <> 'completed'") == 0 }, "all are done")
	require.Equal(t, 1, r.count())
	require.Equal(t, Delivered, f.delivery(t, id).Status)
}

// TestModelsAreIsolated finds holes in all tables of the package.
func TestModelsAreIsolated(t *testing.T) {
	f := newFixture(t, testConfig())
	iso := rls.Isolation{AppRole: f.database.App.Role, AdminRole: f.database.Admin.Role}
	tenanttest.CheckWith(t, f.db.WithContext(tenancy.WithoutTenant(t.Context())), iso, check.Models(Models()...),
		check.Allow(check.UniqueWithoutTenant, "index public.river_job_unique_idx", "the trigger of tenancyriver puts the tenant into unique keys"),
		check.Allow(check.TenantColumnDefault, "public.river_job", "the column is generated"))
}
