package apikey_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey/apikeytest"
)

var pepper = []byte("a pepper of thirty-two bytes, or more")

// memory is a store that counts what it is asked, and can fail. That in PostgreSQL is tested in tests/web.
type memory struct {
	mu    sync.Mutex
	keys  map[string]apikey.Key
	asked []string
	fail  error
	block chan struct{} // Used waits for it
}

func newMemory() *memory { return &memory{keys: map[string]apikey.Key{}} }

func (m *memory) ask(what string) error {
	m.asked = append(m.asked, what)
	return m.fail
}

func (m *memory) Tenant(ctx context.Context, id string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, has := tenancy.TenantFromContext(ctx); has {
		return "", errors.New("a lookup must not have a tenant")
	}
	if err := m.ask("tenant"); err != nil {
		return "", err
	}
	key, ok := m.keys[id]
	if !ok {
		return "", apikey.ErrNotFound
	}
	return key.TenantID, nil
}

func (m *memory) own(ctx context.Context, id string) (apikey.Key, error) {
	tenant, _ := tenancy.TenantFromContext(ctx)
	key, ok := m.keys[id]
	if !ok || key.TenantID != tenant {
		return apikey.Key{}, apikey.ErrNotFound
	}
	return key, nil
}

func (m *memory) Key(ctx context.Context, id string) (apikey.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("key"); err != nil {
		return apikey.Key{}, err
	}
	return m.own(ctx, id)
}

func (m *memory) Create(_ context.Context, key *apikey.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.keys[key.ID]; ok {
		return errors.New("duplicate")
	}
	m.keys[key.ID] = *key
	return nil
}

func (m *memory) Revoke(ctx context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, err := m.own(ctx, id)
	if err == nil && key.RevokedAt == nil {
		key.RevokedAt = &at
		m.keys[id] = key
	}
	return err
}

func (m *memory) Used(ctx context.Context, id string, at time.Time) error {
	if m.block != nil {
		<-m.block
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ask("used"); err != nil {
		return err
	}
	key, err := m.own(ctx, id)
	if err == nil && (key.LastUsedAt == nil || key.LastUsedAt.Before(at)) {
		key.LastUsedAt = &at
		m.keys[id] = key
	}
	return err
}

// since returns what was asked after f.
func (m *memory) since(f func()) []string {
	m.mu.Lock()
	m.asked = nil
	m.mu.Unlock()
	f()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func newKeys(t testing.TB, store apikey.Store, change ...func(*apikey.Config)) *apikey.Keys {
	t.Helper()
	config := apikey.Config{
		Prefix: "shop", Environment: "live", Peppers: []apikey.Pepper{{Version: 1, Secret: pepper}}, Store: store, LastUsedEvery: -1,
	}
	for _, c := range change {
		c(&config)
	}
	keys, err := apikey.New(config)
	require.NoError(t, err)
	return keys
}

func create(t testing.TB, keys *apikey.Keys, tenant string, scopes ...string) string {
	t.Helper()
	key, _, err := keys.Create(tenancy.WithTenant(t.Context(), tenant), apikey.Options{Name: "test", Scopes: scopes})
	require.NoError(t, err)
	return key
}

func TestStoreOfTestsKeepsTheContract(t *testing.T) { apikeytest.Run(t, newMemory(), "acme", "globex") }

// TestKeyFindsItsTenant: whatever the context says.
func TestKeyFindsItsTenant(t *testing.T) {
	keys := newKeys(t, newMemory())
	key := create(t, keys, "acme", "read", "write")
	for _, ctx := range []context.Context{t.Context(), tenancy.WithoutTenant(t.Context()), tenancy.WithTenant(t.Context(), "globex")} {
		got, err := keys.Verify(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "acme", got.TenantID)
		require.True(t, got.Allows("read") && got.Allows("write"))
		require.False(t, got.Allows("rea") || got.Allows("") || got.Allows("read write"))
		require.Nil(t, got.Hash)
	}
	_, _, err := keys.Create(tenancy.WithoutTenant(t.Context()), apikey.Options{})
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	_, _, err = keys.Create(tenancy.WithTenant(t.Context(), "acme"), apikey.Options{Scopes: []string{"read admin"}})
	require.ErrorContains(t, err, "scope")
}

// TestWrongKeyCostsTheSame: what the store is asked must not show which keys exist; and what is no key asks nothing.
func TestWrongKeyCostsTheSame(t *testing.T) {
	store := newMemory()
	keys := newKeys(t, store)
	mine, theirs := create(t, keys, "acme"), create(t, keys, "globex")
	other := newKeys(t, newMemory(), func(c *apikey.Config) { c.Environment = "test" })
	elsewhere := newKeys(t, newMemory()) // the same form, and another database

	// The secret of one key behind the id of another, with the right checksum: made by a store that forgets nothing.
	mixed := forge(t, mine, theirs)
	for name, wrong := range map[string]string{
		"unknown":          create(t, elsewhere, "acme"),
		"another's secret": mixed,
	} {
		for range 2 { // before a real id was seen, and after
			var err error
			asked := store.since(func() { _, err = keys.Verify(t.Context(), wrong) })
			require.ErrorIs(t, err, apikey.ErrInvalid, name)
			require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
			require.Equal(t, []string{"tenant", "key"}, asked, name)
			_, err = keys.Verify(t.Context(), mine)
			require.NoError(t, err)
		}
	}
	for name, wrong := range map[string]string{
		"empty":             "",
		"garbage":           "garbage",
		"other environment": create(t, other, "acme"),
		"upper case":        strings.ToUpper(mine),
		"wrong checksum":    mine[:len(mine)-1] + string("ab"[btoi(mine[len(mine)-1] == 'a')]),
		"cut off":           mine[:len(mine)-1],
		"longer":            mine + "a",
		"spaces":            " " + mine,
		"SQL":               "shop_live_' OR true --",
		"NUL":               strings.Replace(mine, "_", "\x00", 1),
		"long":              strings.Repeat("a", 1<<20),
	} {
		var err error
		asked := store.since(func() { _, err = keys.Verify(t.Context(), wrong) })
		require.ErrorIs(t, err, apikey.ErrInvalid, name)
		require.Empty(t, asked, name)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestHashBelongsToItsKey: who can write the table without the pepper, or copy hashes, makes no valid key.
func TestHashBelongsToItsKey(t *testing.T) {
	store := newMemory()
	keys := newKeys(t, store)
	acme, globex := create(t, keys, "acme"), create(t, keys, "globex")
	id := func(key string) string {
		id := strings.Split(key, "_")[2]
		return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
	}
	victim := store.keys[id(globex)]
	attacked := victim
	attacked.Hash = store.keys[id(acme)].Hash
	store.keys[id(globex)] = attacked
	_, err := keys.Verify(t.Context(), forge(t, acme, globex))
	require.ErrorIs(t, err, apikey.ErrInvalid, "acme's secret behind the id of globex's key")
	store.keys[id(globex)] = victim

	attacked.Hash, attacked.Pepper = nil, 99
	store.keys[id(globex)] = attacked
	_, err = keys.Verify(t.Context(), globex)
	require.ErrorIs(t, err, apikey.ErrInvalid, "a version that does not exist")
	for _, h := range [][]byte{nil, {}, make([]byte, 32)} {
		attacked.Hash, attacked.Pepper = h, 1
		store.keys[id(globex)] = attacked
		_, err = keys.Verify(t.Context(), globex)
		require.ErrorIs(t, err, apikey.ErrInvalid)
	}
}

func TestPeppersRotate(t *testing.T) {
	store := newMemory()
	one, two := apikey.Pepper{Version: 1, Secret: pepper}, apikey.Pepper{Version: 2, Secret: []byte(strings.Repeat("n", 32))}
	with := func(peppers ...apikey.Pepper) *apikey.Keys {
		return newKeys(t, store, func(c *apikey.Config) { c.Peppers = peppers })
	}
	old := create(t, with(one), "acme")
	both := with(two, one)
	_, err := both.Verify(t.Context(), old)
	require.NoError(t, err)
	renewed := create(t, both, "acme")
	_, err = with(two).Verify(t.Context(), renewed)
	require.NoError(t, err)
	_, err = with(two).Verify(t.Context(), old)
	require.ErrorIs(t, err, apikey.ErrInvalid)
}

func TestKeyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t, newMemory())
		acme := tenancy.WithTenant(t.Context(), "acme")
		short, _, err := keys.Create(acme, apikey.Options{ExpiresAt: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		long, stored, err := keys.Create(acme, apikey.Options{})
		require.NoError(t, err)
		time.Sleep(time.Minute - time.Nanosecond)
		_, err = keys.Verify(acme, short)
		require.NoError(t, err)
		time.Sleep(time.Nanosecond)
		_, err = keys.Verify(acme, short)
		require.ErrorIs(t, err, apikey.ErrExpired)

		require.ErrorIs(t, keys.Revoke(tenancy.WithTenant(acme, "globex"), stored.ID), apikey.ErrNotFound, "another tenant's")
		_, err = keys.Verify(acme, long)
		require.NoError(t, err)
		require.ErrorIs(t, keys.Revoke(acme, "7"), apikey.ErrNotFound, "no id")
		require.NoError(t, keys.Revoke(acme, stored.ID))
		_, err = keys.Verify(acme, long)
		require.ErrorIs(t, err, apikey.ErrRevoked)
		for _, err := range []error{apikey.ErrExpired, apikey.ErrRevoked, apikey.ErrInvalid} {
			require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(err))
		}
	})
}

// TestLastUseIsWrittenSometimes: not more often than asked, not in the way of the request, and again after a while.
func TestLastUseIsWrittenSometimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		store.block = make(chan struct{})
		keys := newKeys(t, store, func(c *apikey.Config) { c.LastUsedEvery = time.Minute })
		key := create(t, keys, "acme")
		uses := func() (n int) {
			store.mu.Lock()
			defer store.mu.Unlock()
			for _, what := range store.asked {
				n += btoi(what == "used")
			}
			return n
		}
		verify := func() {
			_, err := keys.Verify(t.Context(), key)
			require.NoError(t, err) // though Used is blocked
		}
		for range 10 {
			verify()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, keys.Flush(ctx), context.DeadlineExceeded)
		close(store.block)
		require.NoError(t, keys.Flush(t.Context()))
		require.Equal(t, 1, uses())
		verify()
		require.NoError(t, keys.Flush(t.Context()))
		require.Equal(t, 1, uses())
		time.Sleep(time.Minute)
		verify()
		require.NoError(t, keys.Flush(t.Context()))
		require.Equal(t, 2, uses())

		second := newKeys(t, store, func(c *apikey.Config) { c.LastUsedEvery = time.Minute })
		_, err := second.Verify(t.Context(), key)
		require.NoError(t, err)
		require.NoError(t, second.Flush(t.Context()))
		require.Equal(t, 2, uses(), "another server has written it")
	})
}

// TestStoreThatFails: an error of the server is not the client's.
func TestStoreThatFails(t *testing.T) {
	store := newMemory()
	keys := newKeys(t, store)
	key := create(t, keys, "acme")
	store.fail = errors.New("gone")
	_, err := keys.Verify(t.Context(), key)
	require.ErrorIs(t, err, store.fail)
	require.NotErrorIs(t, err, tenanthttp.ErrUnauthenticated)
}

func TestResolver(t *testing.T) {
	keys := newKeys(t, newMemory())
	reader, writer := create(t, keys, "acme", "read"), create(t, keys, "acme", "read", "write")
	handler := tenanthttp.Middleware(tenanthttp.FirstOf(keys.Resolver(), tenanthttp.Cookie("session")), tenanthttp.DangerouslyTrustResolver())(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tenant, _ := tenancy.TenantFromContext(r.Context())
			key, ok := apikey.FromContext(r.Context())
			fmt.Fprint(w, tenant, " ", ok, " ", key.Scopes)
			if ok {
				_, other := apikey.FromContext(tenancy.WithTenant(r.Context(), "globex"))
				_, none := apikey.FromContext(tenancy.WithoutTenant(r.Context()))
				if other || none {
					t.Error("the key is acme's")
				}
			}
		}))
	writes := tenanthttp.Middleware(tenanthttp.FirstOf(keys.Resolver(), tenanthttp.Cookie("session")), tenanthttp.DangerouslyTrustResolver())(
		tenanthttp.Require(apikey.RequireScope("write"))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	send := func(h http.Handler, values ...string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["X-Api-Key"] = values
		r.AddCookie(&http.Cookie{Name: "session", Value: "acme"})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, w.Header().Values("Vary"), "X-Api-Key")
		return w.Code, w.Body.String()
	}
	_, body := send(handler, reader)
	require.Equal(t, "acme true read", body)
	_, body = send(handler)
	require.Equal(t, "acme false ", body, "by the cookie")
	code, _ := send(handler, "garbage")
	require.Equal(t, http.StatusUnauthorized, code, "no second way for a wrong key")
	code, _ = send(handler, reader, reader)
	require.Equal(t, http.StatusBadRequest, code)
	code, _ = send(writes, writer)
	require.Equal(t, http.StatusOK, code)
	code, _ = send(writes, reader)
	require.Equal(t, http.StatusForbidden, code)
	code, _ = send(writes)
	require.Equal(t, http.StatusForbidden, code, "a cookie has no scopes")
}
