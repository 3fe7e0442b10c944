package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Order is what handlers create.
type Order struct {
	ID       int64
	TenantID string
	Item     string
}

// shop is a server that creates orders, each with the item in the body.
type shop struct {
	d       *testdb.Database
	db      *gorm.DB
	config  idempotency.Config
	runs    int
	handler func(w http.ResponseWriter, r *http.Request, db *gorm.DB)
}

func newShop(t *testing.T) *shop {
	t.Helper()
	d, db := migrated(t, nil, &Order{}, &idempotency.Record{})
	return &shop{d: d, db: db, config: idempotency.Config{
		DB: db, Sender: func(r *http.Request) string { return r.Header.Get("X-User") },
	}, handler: func(w http.ResponseWriter, _ *http.Request, _ *gorm.DB) {
		w.Header().Set("Location", "/orders/1")
		w.Header().Add("Set-Cookie", "session=secret")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "created")
	}}
}

// ServeHTTP creates an order, and then does what the test wants.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.runs++
	db := idempotency.DB(r.Context(), s.db)
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = db.Create(&Order{Item: string(body)}).Error
	}
	if err != nil {
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	s.handler(w, r, db)
}

// attempt is a request of acme's user ann with the key "k" and the body "book", unless a test changes it.
type attempt struct{ tenant, user, key, method, url, body string }

func (s *shop) send(t *testing.T, change ...func(*attempt)) *httptest.ResponseRecorder {
	t.Helper()
	a := attempt{acme, "ann", `"k"`, http.MethodPost, "/orders?x=1", "book"}
	for _, c := range change {
		c(&a)
	}
	r := httptest.NewRequest(a.method, a.url, strings.NewReader(a.body)).WithContext(t.Context())
	r.Header.Set("X-Tenant", a.tenant)
	r.Header.Set("X-User", a.user)
	if a.key != "" {
		r.Header["Idempotency-Key"] = strings.Split(a.key, "|")
	}
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", fmt.Sprint("attempt after ", s.runs)) // by a middleware around
	tenanthttp.Middleware(tenanthttp.Header("X-Tenant"), tenanthttp.DangerouslyTrustResolver())(
		idempotency.Middleware(s.config)(s)).ServeHTTP(w, r)
	if w.Code >= http.StatusBadRequest && w.Body.String() != "failed\n" && !strings.HasPrefix(w.Body.String(), "own") {
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), w.Body.String())
	}
	return w
}

func (s *shop) orders(t *testing.T, tenant string) (n int64) {
	t.Helper()
	require.NoError(t, s.db.WithContext(testdb.As(tenant)).Model(&Order{}).Count(&n).Error)
	return n
}

func (s *shop) records(t *testing.T, tenant string) (n int64) {
	t.Helper()
	require.NoError(t, s.db.WithContext(testdb.As(tenant)).Model(&idempotency.Record{}).Count(&n).Error)
	return n
}

func TestIdempotencyReplays(t *testing.T) { testdb.InBothForms(t, testIdempotencyReplays) }

func testIdempotencyReplays(t *testing.T) {
	s := newShop(t)
	first := s.send(t)
	require.Equal(t, http.StatusCreated, first.Code)
	require.Equal(t, "session=secret", first.Header().Get("Set-Cookie"))
	for _, key := range []string{`"k"`, "k"} {
		again := s.send(t, func(a *attempt) { a.key = key })
		require.Equal(t, http.StatusCreated, again.Code)
		require.Equal(t, "created", again.Body.String())
		require.Equal(t, "/orders/1", again.Header().Get("Location"))
		require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
		require.Equal(t, "attempt after 1", again.Header().Get("X-Request-Id"), "of this attempt")
		require.Equal(t, "private", again.Header().Get("Cache-Control"))
		require.Empty(t, again.Header().Get("Set-Cookie"), "a credential is not stored")
	}
	require.Equal(t, 1, s.runs)
	require.EqualValues(t, 1, s.orders(t, acme))
}

// TestIdempotencyKeyIsForOneRequest: and for one tenant and sender, who are served as if the others did not exist.
func TestIdempotencyKeyIsForOneRequest(t *testing.T) {
	testdb.InBothForms(t, testIdempotencyKeyIsForOneRequest)
}

func testIdempotencyKeyIsForOneRequest(t *testing.T) {
	s := newShop(t)
	require.Equal(t, http.StatusCreated, s.send(t).Code)
	for name, change := range map[string]func(*attempt){
		"body": func(a *attempt) { a.body = "pen" }, "path": func(a *attempt) { a.url = "/payments?x=1" },
		"query": func(a *attempt) { a.url = "/orders?x=2" }, "method": func(a *attempt) { a.method = http.MethodPatch },
	} {
		require.Equal(t, http.StatusUnprocessableEntity, s.send(t, change).Code, name)
	}
	require.Equal(t, 1, s.runs)
	for i, change := range []func(*attempt){
		func(a *attempt) { a.tenant = globex }, func(a *attempt) { a.tenant, a.body = globex, "pen"; a.user = "bob" },
		func(a *attempt) { a.user = "bob" }, func(a *attempt) { a.key = `"K"` },
	} {
		w := s.send(t, change)
		require.Equal(t, http.StatusCreated, w.Code)
		require.Empty(t, w.Header().Get("Idempotent-Replayed"), "another's answer")
		require.Equal(t, i+2, s.runs)
	}
	require.EqualValues(t, 3, s.records(t, acme))
	require.EqualValues(t, 2, s.records(t, globex), "a tenant sees its own")
}

func TestIdempotencyRefusesBadKeys(t *testing.T) {
	testdb.InBothForms(t, testIdempotencyRefusesBadKeys)
}

func testIdempotencyRefusesBadKeys(t *testing.T) {
	s := newShop(t)
	for _, key := range []string{"", `""`, `"`, `"a`, `a"`, `"a"b`, `"a";x=1`, `"a\b"`, "a b", "ä", `"ä"`, "a,b", `"a"|"b"`, "a|a", strings.Repeat("k", 256), `"a` + "\n" + `"`} {
		require.Equal(t, http.StatusBadRequest, s.send(t, func(a *attempt) { a.key = key }).Code, key)
	}
	require.Zero(t, s.runs)
	s.config.MaxBody = 3
	require.Equal(t, http.StatusRequestEntityTooLarge, s.send(t).Code)
	require.Zero(t, s.runs)

	s.config.MaxBody, s.config.Optional = 0, true
	for range 2 {
		require.Equal(t, http.StatusCreated, s.send(t, func(a *attempt) { a.key = "" }).Code)
	}
	require.EqualValues(t, 2, s.orders(t, acme), "without a key each counts")
	require.Equal(t, http.StatusBadRequest, s.send(t, func(a *attempt) { a.key = "a b" }).Code, "a wrong key is not none")

	w := httptest.NewRecorder()
	idempotency.Middleware(s.config)(s).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusBadRequest, w.Code, "no tenant")
	require.Panics(t, func() { idempotency.Middleware(idempotency.Config{DB: s.db}) })
	require.Panics(t, func() { idempotency.Middleware(idempotency.Config{Sender: idempotency.AnySender}) })
}

// TestIdempotencyAnswersOneAtATime: a second attempt is refused while the first is under way, on another server as well.
func TestIdempotencyAnswersOneAtATime(t *testing.T) {
	testdb.InBothForms(t, testIdempotencyAnswersOneAtATime)
}

func testIdempotencyAnswersOneAtATime(t *testing.T) {
	s := newShop(t)
	other := *s
	config := s.d.Config()
	other.db = s.d.Open(t, config)
	other.config.DB = other.db
	created := s.handler
	s.handler = func(w http.ResponseWriter, r *http.Request, db *gorm.DB) {
		for range 2 {
			require.Equal(t, http.StatusConflict, other.send(t).Code)
		}
		require.Equal(t, http.StatusCreated, other.send(t, func(a *attempt) { a.tenant = globex }).Code, "another tenant waits for none")
		created(w, r, db)
	}
	require.Equal(t, http.StatusCreated, s.send(t).Code)
	require.Equal(t, 1, other.runs, "globex's")
	again := other.send(t)
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.EqualValues(t, 1, s.orders(t, acme))
}

// sendUntilFree sends a request until its key is free, and returns the status, or 0 after a panic. A backend that ends tells its client
// first and gives up its locks then, so that the next attempt may still find the key in use.
func (s *shop) sendUntilFree(t *testing.T) (status int) {
	t.Helper()
	defer func() { _ = recover() }()
	for status = http.StatusConflict; status == http.StatusConflict; {
		status = 0
		status = s.send(t).Code
	}
	return status
}

// TestIdempotencyRollsBack: whatever goes wrong, neither rows nor record are left, and the next attempt succeeds.
func TestIdempotencyRollsBack(t *testing.T) { testdb.InBothForms(t, testIdempotencyRollsBack) }

func testIdempotencyRollsBack(t *testing.T) {
	s := newShop(t)
	created := s.handler
	s.config.MaxResponse = 100
	for name, test := range map[string]struct {
		handler func(w http.ResponseWriter, r *http.Request, db *gorm.DB)
		status  int
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request, _ *gorm.DB) {
			http.Error(w, "own", http.StatusInternalServerError)
		}, 500},
		"422": {func(w http.ResponseWriter, _ *http.Request, _ *gorm.DB) {
			http.Error(w, "own", http.StatusUnprocessableEntity)
		}, 422},
		"too large": {func(w http.ResponseWriter, _ *http.Request, _ *gorm.DB) {
			for range 20 {
				_, _ = io.WriteString(w, "0123456789")
			}
		}, 500},
		"failed statement": {func(w http.ResponseWriter, _ *http.Request, db *gorm.DB) {
			_ = db.Exec("SELECT 1/0").Error // and the handler does not care
			_, _ = io.WriteString(w, "fine")
		}, 500},
		"connection lost": {func(w http.ResponseWriter, _ *http.Request, db *gorm.DB) {
			_ = db.Exec("SELECT pg_terminate_backend(pg_backend_pid())").Error
			_, _ = io.WriteString(w, "fine")
		}, 500},
		"panic": {func(http.ResponseWriter, *http.Request, *gorm.DB) { panic(http.ErrAbortHandler) }, 0},
	} {
		s.handler = test.handler
		require.Equal(t, test.status, s.sendUntilFree(t), name)
		require.Zero(t, s.orders(t, acme), name)
		require.Zero(t, s.records(t, acme), name)
	}
	s.handler = created
	require.Equal(t, http.StatusCreated, s.sendUntilFree(t))
	require.EqualValues(t, 1, s.orders(t, acme))
}

// TestIdempotencyAnswersAfterCommit: a stream would have told the client before.
func TestIdempotencyAnswersAfterCommit(t *testing.T) {
	testdb.InBothForms(t, testIdempotencyAnswersAfterCommit)
}

func testIdempotencyAnswersAfterCommit(t *testing.T) {
	s := newShop(t)
	s.handler = func(w http.ResponseWriter, _ *http.Request, db *gorm.DB) {
		_, _ = io.WriteString(w, "first")
		require.ErrorIs(t, http.NewResponseController(w).Flush(), http.ErrNotSupported)
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		require.False(t, flushes || hijacks)
		require.Zero(t, s.orders(t, acme), "not committed yet")
		require.True(t, errors.Is(tenancy.Bypass(db, "test").Exec("SELECT 1").Error, tenancy.ErrInTransaction))
	}
	w := s.send(t)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "first", w.Body.String())
	get := httptest.NewRequest(http.MethodGet, "/", nil)
	idempotency.Middleware(s.config)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		require.Implements(t, (*http.Flusher)(nil), w, "other methods pass as they are")
	})).ServeHTTP(httptest.NewRecorder(), get)
}

func TestIdempotencyExpires(t *testing.T) { testdb.InBothForms(t, testIdempotencyExpires) }

func testIdempotencyExpires(t *testing.T) {
	s := newShop(t)
	s.config.TTL = time.Nanosecond
	for run := range 3 {
		require.Equal(t, http.StatusCreated, s.send(t).Code)
		require.Equal(t, run+1, s.runs)
	}
	require.Equal(t, http.StatusCreated, s.send(t, func(a *attempt) { a.tenant = globex }).Code)
	s.config.TTL = 0
	require.Equal(t, http.StatusCreated, s.send(t, func(a *attempt) { a.key = "kept" }).Code)
	deleted, err := idempotency.Cleanup(testdb.As(acme), s.db)
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted, "its own")
	deleted, err = idempotency.Cleanup(t.Context(), tenancy.Bypass(s.db, "clean up"))
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted, "globex's")
	require.EqualValues(t, 1, s.records(t, acme))
}
