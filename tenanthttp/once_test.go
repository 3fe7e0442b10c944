package tenanthttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

func newOnce(t *testing.T, store tenanthttp.OnceStore) *tenanthttp.Propagator {
	t.Helper()
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{secret}, Once: store})
	require.NoError(t, err)
	return propagator
}

// TestTokenIsUsedOnce: of 50 that replay a token, a request and a message at the same time, one is accepted each.
func TestTokenIsUsedOnce(t *testing.T) {
	receiver := newOnce(t, tenanthttp.NewOnceMemory(0))
	sender := newPropagator(t, secret) // which needs no store
	acme := tenancy.WithTenant(t.Context(), "acme")
	token := must(sender.Inject(acme, "mail"))
	sent := sentThrough(t, sender, http.MethodPost, "https://orders.internal/orders").Header
	m := tenanthttp.Message{Topic: "invoices", Body: []byte("pay 7")}
	carrier := tenanthttp.MapCarrier{}
	require.NoError(t, sender.InjectMessage(acme, carrier, m))
	for name, replay := range map[string]func() error{
		"token": func() error {
			_, err := receiver.Extract(t.Context(), token, "mail")
			return err
		},
		"request": func() error {
			r := httptest.NewRequest(http.MethodPost, "https://orders.internal/orders", nil)
			r.Header = sent
			_, err := receiver.Resolver("orders.internal")(r)
			return err
		},
		"message": func() error {
			_, err := receiver.ExtractMessage(t.Context(), carrier, m)
			return err
		},
	} {
		var accepted, replayed atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				switch err := replay(); {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, tenanthttp.ErrReplayed) && errors.Is(err, tenanthttp.ErrUnauthenticated):
					replayed.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, accepted.Load(), name)
		require.EqualValues(t, 49, replayed.Load(), name)
	}
	_, err := receiver.Extract(t.Context(), must(sender.Inject(acme, "mail")), "mail")
	require.NoError(t, err, "another token for the same")
}

// TestTokenWithoutIDIsRefused where it is to be accepted once.
func TestTokenWithoutIDIsRefused(t *testing.T) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "tenancy", "aud": "token mail", "tenant": "acme", "exp": time.Now().Add(time.Minute).Unix(),
	})
	token.Header["typ"] = "tenancy+jwt"
	signed := must(token.SignedString(secret))
	_, err := newPropagator(t, secret).Extract(t.Context(), signed, "mail")
	require.NoError(t, err)
	_, err = newOnce(t, tenanthttp.NewOnceMemory(0)).Extract(t.Context(), signed, "mail")
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
}

type brokenStore struct{ err error }

func (s brokenStore) Use(context.Context, string, time.Time) error { return s.err }

// TestTokenIsRefusedWithoutStore: if what was used cannot be known, nothing is accepted.
func TestTokenIsRefusedWithoutStore(t *testing.T) {
	away := errors.New("the database is away")
	propagator := newOnce(t, brokenStore{away})
	ctx, err := propagator.Extract(t.Context(), must(propagator.Inject(tenancy.WithTenant(t.Context(), "acme"), "mail")), "mail")
	require.ErrorIs(t, err, away)
	require.Nil(t, ctx)
	require.Equal(t, http.StatusInternalServerError, tenanthttp.Status(err), "the client is not to blame")

	var answered atomic.Bool
	handler := tenanthttp.Middleware(propagator.Resolver("example.com"), tenanthttp.DangerouslyTrustResolver())(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered.Store(true) }))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = sentThrough(t, propagator, http.MethodGet, "https://example.com/").Header
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.False(t, answered.Load())
}

// TestOnceMemoryIsBounded: it forgets tokens that have expired, and accepts none that it could not remember.
func TestOnceMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tenanthttp.NewOnceMemory(3)
		for minute := range 100 {
			expires := time.Now().Add(time.Minute)
			for n := range 3 {
				require.NoError(t, store.Use(t.Context(), strings.Repeat("a", minute)+strconv.Itoa(n), expires))
			}
			err := store.Use(t.Context(), "one more", expires)
			require.Error(t, err)
			require.NotErrorIs(t, err, tenanthttp.ErrUnauthenticated)
			require.ErrorIs(t, store.Use(t.Context(), strings.Repeat("a", minute)+"0", expires), tenanthttp.ErrReplayed)
			time.Sleep(time.Minute)
			err = store.Use(t.Context(), strings.Repeat("a", minute)+"0", expires)
			require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, "it was verified before it expired, and is forgotten")
		}
	})
}
