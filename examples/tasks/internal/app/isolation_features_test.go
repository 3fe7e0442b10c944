package app

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/event"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/purge"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// shop is an application with two tenants, and a receiver of their webhooks.
type shop struct {
	app          *App
	super        *gorm.DB // sees all rows
	acme, globex client
	receiver     *httptest.Server
	mu           sync.Mutex
	got          map[string][]string // bodies, by path
}

func newShop(t *testing.T, d *pgserver.Database) *shop {
	s := &shop{super: superuser(t, d), got: map[string][]string{}}
	s.receiver = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got[r.URL.Path] = append(s.got[r.URL.Path], string(body))
	}))
	t.Cleanup(s.receiver.Close)
	return s
}

func (s *shop) open(t *testing.T, a *App) {
	s.app = a
	s.acme, s.globex = clients(t, a)
}

// received are the bodies that have come to a path.
func (s *shop) received(path string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[path])
}

// endpoint registers one of a client.
func (s *shop) endpoint(c client, path string, types ...string) answer {
	return c.want(http.StatusCreated, http.MethodPost, "/v1/webhooks/endpoints", object{"url": s.receiver.URL + path, "types": types})
}

// delivery makes a delivery of acme's, with its endpoint, that has been delivered.
func (s *shop) delivery(t *testing.T) (endpoint, delivery answer) {
	endpoint = s.endpoint(s.acme, "/test", "webhook.test")
	delivery = s.acme.want(http.StatusAccepted, http.MethodPost, "/v1/webhooks/endpoints/"+endpoint.id()+"/test", nil)
	require.Eventually(t, func() bool {
		return s.acme.want(http.StatusOK, http.MethodGet, "/v1/webhooks/deliveries/"+delivery.id(), nil).body["status"] == "delivered"
	}, time.Minute, 10*time.Millisecond)
	return endpoint, delivery
}

// drop deletes an endpoint of acme's, because a tenant can have 20.
func (s *shop) drop(endpoint answer) {
	s.acme.do(http.MethodDelete, "/v1/webhooks/endpoints/"+endpoint.id(), nil)
}

// person adds one to acme, and returns the address.
func (s *shop) person() (email string) {
	email = fresh() + "@acme.example"
	s.acme.want(http.StatusCreated, http.MethodPost, "/v1/members", object{"email": email, "name": "x"})
	return email
}

// onEndpoint tries something with an endpoint of acme's.
func onEndpoint(method, path string, body any) func(*testing.T, *shop) bool {
	return func(_ *testing.T, s *shop) bool {
		endpoint := s.endpoint(s.acme, "/x", "nothing.happens")
		defer s.drop(endpoint)
		return through(s.globex, s.globex.do(method, "/v1/webhooks/endpoints/"+endpoint.id()+path, body))
	}
}

// onDelivery tries something with a delivery of acme's.
func onDelivery(method, path string) func(*testing.T, *shop) bool {
	return func(t *testing.T, s *shop) bool {
		endpoint, delivery := s.delivery(t)
		defer s.drop(endpoint)
		return through(s.globex, s.globex.do(method, "/v1/webhooks/deliveries/"+delivery.id()+path, nil))
	}
}

// featureAttacks are what globex tries with the features of acme beside its rows. Each reports whether it got through.
var featureAttacks = map[string]func(*testing.T, *shop) bool{
	"get an endpoint":      onEndpoint(http.MethodGet, "", nil),
	"redirect an endpoint": onEndpoint(http.MethodPut, "", object{"url": "http://127.0.0.1:1/globex", "types": []string{"*"}}),
	"delete an endpoint":   onEndpoint(http.MethodDelete, "", nil),
	"learn a secret":       onEndpoint(http.MethodPost, "/rotate", object{"overlap_seconds": 60}),
	"test an endpoint":     onEndpoint(http.MethodPost, "/test", nil),
	"redeliver since":      onEndpoint(http.MethodPost, "/redeliver", object{"since": time.Now().Add(-time.Hour)}),
	"list endpoints": func(_ *testing.T, s *shop) bool {
		endpoint := s.endpoint(s.acme, "/x", "nothing.happens")
		defer s.drop(endpoint)
		return slices.Contains(s.globex.names("/v1/webhooks/endpoints", "id"), endpoint.id())
	},
	"get a delivery": onDelivery(http.MethodGet, ""),
	"list attempts":  onDelivery(http.MethodGet, "/attempts"),
	"redeliver":      onDelivery(http.MethodPost, "/redeliver"),
	"list deliveries": func(t *testing.T, s *shop) bool {
		endpoint, delivery := s.delivery(t)
		defer s.drop(endpoint)
		return slices.Contains(s.globex.names("/v1/webhooks/deliveries?limit=100", "id"), delivery.id())
	},
	"list overrides of flags": func(_ *testing.T, s *shop) bool {
		name := fresh()
		s.acme.want(http.StatusNoContent, http.MethodPut, "/v1/flags/theme/override", object{"variant": "dark", "subject": name})
		return strings.Contains(s.globex.want(http.StatusOK, http.MethodGet, "/v1/flags/overrides", nil).text, name)
	},
	"clear an override of a flag": func(_ *testing.T, s *shop) bool {
		name := fresh()
		s.acme.want(http.StatusNoContent, http.MethodPut, "/v1/flags/theme/override", object{"variant": "dark", "subject": name})
		return s.globex.do(http.MethodDelete, "/v1/flags/theme/override?subject="+name, nil).status == http.StatusNoContent
	},
	"get a flag as another tenant": func(t *testing.T, s *shop) bool {
		s.acme.want(http.StatusNoContent, http.MethodPut, "/v1/flags/page-size/override", object{"variant": "large"})
		s.globex.want(http.StatusNoContent, http.MethodPut, "/v1/flags/beta/override", object{"variant": "on"}) // so that nothing is in the cache
		value, _ := flagOf(t, s.app.Handler(), GlobexKey, "page-size")
		return value != 20.0
	},
	"list roles": func(_ *testing.T, s *shop) bool {
		name := "key:" + fresh()
		s.acme.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": name, "role": "viewer"})
		return strings.Contains(s.globex.want(http.StatusOK, http.MethodGet, "/v1/roles", nil).text, name)
	},
	"revoke a role": func(_ *testing.T, s *shop) bool {
		name := "key:" + fresh()
		s.acme.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": name, "role": "viewer"})
		return s.globex.do(http.MethodDelete, "/v1/roles?role=viewer&subject="+name, nil).status == http.StatusNoContent
	},
	"have a role that another tenant has granted": func(t *testing.T, s *shop) bool {
		key := s.globex.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": "x", "scopes": []string{"tasks:read"}})
		s.acme.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + key.id(), "role": "viewer"})
		s.globex.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + fresh(), "role": "viewer"}) // so that nothing is in the cache
		return client{t, s.globex.h, key.body["key"].(string)}.do(http.MethodGet, "/v1/tasks", nil).status == http.StatusOK
	},
	"count in a summary": func(t *testing.T, s *shop) bool {
		s.acme.project(fresh())
		var own int64
		require.NoError(t, s.super.Model(&model.Project{}).Where("tenant_id = 'globex'").Count(&own).Error)
		return s.globex.want(http.StatusOK, http.MethodGet, "/v1/summary", nil).body["projects"] != float64(own)
	},
	"list the people of another tenant": func(_ *testing.T, s *shop) bool {
		email := s.person()
		return slices.Contains(s.globex.names("/v1/members?limit=100", "email"), email)
	},
	"export a person of another tenant": func(_ *testing.T, s *shop) bool {
		return s.globex.do(http.MethodPost, "/v1/privacy/exports", object{"email": s.person()}).status != http.StatusNotFound
	},
	"erase a person of another tenant": func(_ *testing.T, s *shop) bool {
		return s.globex.do(http.MethodPost, "/v1/privacy/erasures", object{"email": s.person(), "dry_run": true}).status != http.StatusNotFound
	},
	"purge what another tenant has deleted": func(t *testing.T, s *shop) bool {
		project := s.acme.project(fresh())
		s.acme.remove("projects", project.id())
		require.NoError(t, purge.Rows(tenancy.WithTenant(t.Context(), "globex"), s.app.db, time.Now()))
		return s.acme.do(http.MethodPost, "/v1/projects/"+project.id()+"/restore", nil).status == http.StatusNotFound
	},
}

// closedOtherwise are attacks on features that policies alone do not keep out: they fail without them, too.
var closedOtherwise = map[string]func(*testing.T, *shop) bool{
	// The foreign keys of a delivery have the tenant: none joins the event of one to the endpoint of another.
	"receive an event of another tenant": func(t *testing.T, s *shop) bool {
		path := "/" + fresh()
		endpoint := s.endpoint(s.globex, path, "project.created")
		defer s.globex.do(http.MethodDelete, "/v1/webhooks/endpoints/"+endpoint.id(), nil)
		project := s.acme.project(fresh())
		var state string
		require.Eventually(t, func() bool { // the job has made deliveries, or has failed
			err := s.super.Raw(`SELECT state FROM river_job WHERE kind = 'webhook_fan_out' AND tenant_id = 'acme' AND (state = 'completed' OR errors IS NOT NULL)
				AND args ->> 'event' IN (SELECT id::text FROM webhook_events WHERE body LIKE ?)`, "%"+project.id()+"%").Scan(&state).Error
			return err == nil && state != ""
		}, time.Minute, 10*time.Millisecond)
		var deliveries int64
		require.NoError(t, s.super.Table("webhook_deliveries").Where("endpoint_id = ?", endpoint.id()).Count(&deliveries).Error)
		return deliveries > 0 || len(s.received(path)) > 0
	},
	// A bucket is in memory, under the tenant that the key proves.
	"use up another tenant's requests": func(_ *testing.T, s *shop) bool {
		left := func(c client) int {
			header := c.want(http.StatusOK, http.MethodGet, "/v1/flags", nil).header.Get("RateLimit")
			n, err := strconv.Atoi(remaining.FindStringSubmatch(header)[1])
			require.NoError(c.t, err, header)
			return n
		}
		before := left(s.acme)
		for range 20 {
			s.globex.want(http.StatusOK, http.MethodGet, "/v1/flags", nil)
		}
		return left(s.acme) != before-1
	},
}

var remaining = regexp.MustCompile(`"tenant";r=(\d+)`)

// neverAgain is a bucket that does not fill up within a test.
var neverAgain = limit.Rate{Burst: 100_000, Every: time.Hour}

// TestFeaturesAreApart: no attack gets through.
func TestFeaturesAreApart(t *testing.T) {
	d, cfg := configure(t)
	cfg.DangerouslyAllowLoopbackWebhooks, cfg.Limits.Tenant = true, neverAgain
	s := newShop(t, d)
	s.open(t, run(t, cfg))
	for _, attacks := range []map[string]func(*testing.T, *shop) bool{featureAttacks, closedOtherwise} {
		for _, name := range slices.Sorted(maps.Keys(attacks)) {
			require.False(t, attacks[name](t, s), name)
		}
	}
}

// TestFeaturesAreNotApartWithoutPolicies: each attack gets through where neither policies bind nor the plugin adds its condition, so that
// TestFeaturesAreApart shows what they are good for. Those that something else keeps out say what.
func TestFeaturesAreNotApartWithoutPolicies(t *testing.T) {
	d, cfg := configure(t)
	cfg.DangerouslyAllowLoopbackWebhooks, cfg.Limits.Tenant = true, neverAgain
	first, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, first.Close()) // with its workers, which are isolated
	cfg.Demo, cfg.open = false, withoutPolicies(t, d)
	s := newShop(t, d)
	s.open(t, run(t, cfg))
	for _, name := range slices.Sorted(maps.Keys(featureAttacks)) {
		require.True(t, featureAttacks[name](t, s), name)
	}
	for _, name := range slices.Sorted(maps.Keys(closedOtherwise)) {
		require.False(t, closedOtherwise[name](t, s), name)
	}
}

// TestFeaturesNeedATenant: what keeps tenants apart in memory asks the context whose request it is, and refuses without an answer, as it is
// where the middleware is taken out.
func TestFeaturesNeedATenant(t *testing.T) {
	a, none := start(t), t.Context()
	_, err := a.roles.Allows(none, "key:x", "tasks:read", "tasks")
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	_, err = a.flags.Overrides(none)
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	require.False(t, a.flag(none, "board-view"))
	require.ErrorIs(t, purge.Rows(none, a.db, time.Now()), tenancy.ErrNoTenant)
	require.ErrorIs(t, a.api.Events.Emit(a.db.WithContext(none), event.Event{Type: "task.created"}), tenancy.ErrNoTenant)
	_, err = page.Find(none, a.db, a.api.Cursors, page.Spec[model.Project]{
		Sort: "id", Key: page.Field[model.Project]{SQL: "id", Type: "uuid"},
		Fields: map[string]page.Field[model.Project]{"id": {SQL: "id", Type: "uuid", Of: func(p model.Project) string { return p.ID }}},
	}, page.Query{Limit: 1})
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
}
