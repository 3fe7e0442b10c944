package webhooks

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// TestEventIsDelivered to the endpoints of its tenant that subscribe to its type, signed so that the library verifies it.
func TestEventIsDelivered(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	_, secret := f.endpoint(t, acme, r.URL+"/all")
	f.endpoint(t, acme, r.URL+"/created", "task.created")
	f.endpoint(t, acme, r.URL+"/deleted", "task.deleted")
	f.endpoint(t, globex, r.URL+"/globex")
	f.work(t)
	id := f.emit(t, acme, "task.created", map[string]string{"title": "Ünïcode <&>"})
	eventually(t, func() bool { return r.count() == 2 }, "two requests")
	var open int64
	eventually(t, func() bool {
		require.NoError(t, f.admin.Raw("SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&open).Error)
		return open == 0
	}, "all jobs are done")
	requests := r.all()
	require.ElementsMatch(t, []string{"/all", "/created"}, []string{requests[0].path, requests[1].path})
	for _, request := range requests {
		require.Equal(t, id, request.id)
		require.Equal(t, "application/json", request.header.Get("Content-Type"))
		var body struct {
			Type      string
			Timestamp time.Time
			Data      struct{ Title string }
		}
		require.NoError(t, json.Unmarshal(request.body, &body))
		require.Equal(t, "task.created", body.Type)
		require.Equal(t, "Ünïcode <&>", body.Data.Title)
		if request.path == "/all" {
			require.NoError(t, request.verify(secret))
			request.body = append(request.body, ' ')
			require.Error(t, request.verify(secret), "another body")
		} else {
			require.Error(t, request.verify(secret), "each endpoint has a secret of its own")
		}
	}
	var tenants []string
	require.NoError(t, f.admin.Model(&Attempt{}).Distinct().Pluck("tenant_id", &tenants).Error)
	require.Equal(t, []string{acme}, tenants)
}

// TestEventOfTransactionThatRollsBackIsNotSent, and one that is committed later comes first.
func TestEventOfTransactionThatRollsBackIsNotSent(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	f.endpoint(t, acme, r.URL)
	f.work(t)
	undone := errors.New("undone")
	require.ErrorIs(t, f.emitTx(acme, newEvent("task.created", nil), undone), undone)
	id := f.emit(t, acme, "task.created", nil)
	f.waitFor(t, id, Delivered)
	require.Len(t, r.all(), 1)
	require.Equal(t, id, r.all()[0].id)
	var events int64
	require.NoError(t, f.admin.Model(&Event{}).Count(&events).Error)
	require.EqualValues(t, 1, events)

	err := f.service.Emit(f.db.WithContext(as(acme)), newEvent("task.created", nil))
	require.ErrorIs(t, err, gorm.ErrInvalidTransaction)
	err = f.db.WithContext(t.Context()).Transaction(func(tx *gorm.DB) error { return f.service.Emit(tx, newEvent("task.created", nil)) })
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	err = f.emitTx(acme, newEvent("task.created", strings.Repeat("x", 256<<10)), nil)
	require.ErrorIs(t, err, ErrTooLarge)
}

// TestFailedDeliveryIsTriedAgain by the schedule, then it is dead, and it can be delivered again.
func TestFailedDeliveryIsTriedAgain(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	r.answer(status(http.StatusInternalServerError))
	endpoint, secret := f.endpoint(t, acme, r.URL)
	f.work(t)
	id := f.emit(t, acme, "task.created", nil)
	d := f.waitFor(t, id, Dead)
	require.Equal(t, 4, d.Attempts, "the first, and one after each pause")
	require.Equal(t, "the endpoint has answered with an error", d.Reason)
	attempts := f.attempts(t, d.ID)
	require.Len(t, attempts, 4)
	for i, attempt := range attempts {
		require.Equal(t, i+1, attempt.Number)
		require.Equal(t, http.StatusInternalServerError, attempt.Status)
		require.Equal(t, "answer 500", attempt.Excerpt)
		require.Equal(t, endpoint.URL, attempt.URL)
		if i > 0 {
			pause := testConfig().Schedule[i-1]
			require.GreaterOrEqual(t, attempt.CreatedAt.Sub(attempts[i-1].CreatedAt), pause)
		}
	}

	r.answer(status(http.StatusNoContent))
	again, err := f.service.Redeliver(f.db.WithContext(as(acme)), d.ID)
	require.NoError(t, err)
	require.Equal(t, 1, again.Round)
	d = f.waitFor(t, id, Delivered)
	require.Equal(t, 1, d.Attempts)
	require.Empty(t, d.Reason)
	requests := r.all()
	require.Len(t, requests, 5)
	require.Equal(t, id, requests[4].id, "a receiver knows it again")
	require.NoError(t, requests[4].verify(secret), "the signature is a new one")
}

// TestRedeliverSince delivers what is dead and what was missed while an endpoint was disabled, once.
func TestRedeliverSince(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	r.answer(status(http.StatusInternalServerError))
	endpoint, _ := f.endpoint(t, acme, r.URL, "task.created")
	f.work(t)
	tx := f.db.WithContext(as(acme))
	before := f.emit(t, acme, "task.created", nil)
	f.waitFor(t, before, Dead)
	since := time.Now()
	dead := f.emit(t, acme, "task.created", nil)
	f.waitFor(t, dead, Dead)
	settings := Settings{URL: r.URL, Types: endpoint.Types, Disabled: true}
	_, err := f.service.Update(tx, endpoint.ID, 0, settings)
	require.NoError(t, err)
	missed, other := f.emit(t, acme, "task.created", nil), f.emit(t, acme, "task.deleted", nil)
	var left int64
	eventually(t, func() bool {
		require.NoError(t, f.admin.Raw("SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&left).Error)
		return left == 0
	}, "nothing is left to do")
	_, err = f.service.RedeliverSince(tx, endpoint.ID, since)
	require.ErrorIs(t, err, ErrDisabled)
	_, err = f.service.Redeliver(tx, f.delivery(t, dead).ID)
	require.ErrorIs(t, err, ErrDisabled)

	settings.Disabled = false
	_, err = f.service.Update(tx, endpoint.ID, 0, settings)
	require.NoError(t, err)
	r.answer(nil)
	begun, err := f.service.RedeliverSince(tx, endpoint.ID, since)
	require.NoError(t, err)
	require.Equal(t, 2, begun)
	f.waitFor(t, dead, Delivered)
	f.waitFor(t, missed, Delivered)
	require.Equal(t, Dead, f.delivery(t, before).Status)
	require.Error(t, f.admin.Take(&Delivery{}, "event_id = ?", other).Error)
	begun, err = f.service.RedeliverSince(tx, endpoint.ID, since)
	require.NoError(t, err)
	require.Zero(t, begun)
}

// TestPendingDeliveryIsNotRedelivered: two jobs for one round would send it twice.
func TestPendingDeliveryIsNotRedelivered(t *testing.T) {
	f := newFixture(t, testConfig())
	endpoint, _ := f.endpoint(t, acme, "http://127.0.0.1:1")
	tx := f.db.WithContext(as(acme))
	delivery, err := f.service.Test(tx, endpoint.ID)
	require.NoError(t, err)
	_, err = f.service.Redeliver(tx, delivery.ID)
	require.ErrorIs(t, err, ErrPending)
}

// TestTestEvent goes to one endpoint, whatever it subscribes to.
func TestTestEvent(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	one, secret := f.endpoint(t, acme, r.URL+"/one", "task.deleted")
	f.endpoint(t, acme, r.URL+"/two")
	f.work(t)
	delivery, err := f.service.Test(f.db.WithContext(as(acme)), one.ID)
	require.NoError(t, err)
	f.waitFor(t, delivery.EventID, Delivered)
	require.Len(t, r.all(), 1)
	require.Equal(t, "/one", r.all()[0].path)
	require.NoError(t, r.all()[0].verify(secret))
}

// TestAnswerIsBounded: a body without end, redirects, headers, and secrets that an endpoint answers with.
func TestAnswerIsBounded(t *testing.T) {
	config := testConfig()
	config.Schedule = []time.Duration{time.Hour}
	config.Timeout = 500 * time.Millisecond
	f := newFixture(t, config)
	r, elsewhere := newReceiver(t), newReceiver(t)
	_, secret := f.endpoint(t, acme, r.URL)
	f.work(t)
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		problem string
		check   func(t *testing.T, a Attempt)
	}{
		{"endless body", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat("x", 1<<10))); err != nil {
					return
				}
			}
		}, "", func(t *testing.T, a Attempt) { require.Len(t, a.Excerpt, maxExcerpt) }},
		{"echo", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("\x00\xff" + secret + "|" + r.Header.Get("webhook-signature") + "|" + "\r\nend"))
		}, "", func(t *testing.T, a Attempt) { require.Equal(t, "\uFFFD[secret]|v1,[signature]|\nend", a.Excerpt) }},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
			"the endpoint redirects, which is not followed", func(t *testing.T, a Attempt) { require.Zero(t, elsewhere.count()) }},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"the endpoint has not answered in time", func(t *testing.T, a Attempt) { require.GreaterOrEqual(t, a.LatencyMS, int64(500)) }},
		{"large header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 20<<10)) },
			"the connection to the endpoint has failed", func(*testing.T, Attempt) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.answer(c.answer)
			id := f.emit(t, acme, "task.created", nil)
			var attempt Attempt
			eventually(t, func() bool {
				return f.admin.Joins("JOIN webhook_deliveries d ON d.id = delivery_id").Take(&attempt, "d.event_id = ?", id).Error == nil
			}, "an attempt")
			require.Equal(t, c.problem, attempt.Error)
			c.check(t, attempt)
		})
	}
}

// TestDeletedEndpointGetsNothing more, and its secrets are gone.
func TestDeletedEndpointGetsNothing(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	endpoint, _ := f.endpoint(t, acme, r.URL)
	tx := f.db.WithContext(as(acme))
	delivery, err := f.service.Test(tx, endpoint.ID)
	require.NoError(t, err)
	require.NoError(t, f.service.Delete(tx, endpoint.ID))
	f.work(t)
	require.Equal(t, "the endpoint was deleted", f.waitFor(t, delivery.EventID, Dead).Reason)
	require.Zero(t, r.count())
	var secrets int64
	require.NoError(t, f.admin.Model(&Secret{}).Count(&secrets).Error)
	require.Zero(t, secrets)
	require.ErrorIs(t, f.service.Delete(tx, endpoint.ID), gorm.ErrRecordNotFound)
}
