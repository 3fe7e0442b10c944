package queues

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/once"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func (c *consumer) message(t *testing.T, tenant string) (tenanthttp.Carrier, tenanthttp.Message) {
	t.Helper()
	carrier, m := tenanthttp.MapCarrier{}, tenanthttp.Message{Topic: "orders", Body: []byte("book")}
	require.NoError(t, c.propagator.InjectMessage(testdb.As(tenant), carrier, m))
	return carrier, m
}

// TestMessageIsWorkedOnce: 20 replays at the same time, after a delivery whose transaction was rolled back.
func TestMessageIsWorkedOnce(t *testing.T) { testdb.InBothForms(t, testMessageIsWorkedOnce) }

func testMessageIsWorkedOnce(t *testing.T) {
	c := newConsumer(t)
	carrier, m := c.message(t, testdb.Acme)
	crash := errors.New("the consumer has crashed")
	require.ErrorIs(t, c.work(carrier, m, crash), crash)
	require.Empty(t, c.orders(t))
	var worked, replayed atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch err := c.work(carrier, m, nil); {
			case err == nil:
				worked.Add(1)
			case errors.Is(err, tenanthttp.ErrReplayed):
				replayed.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, worked.Load())
	require.EqualValues(t, 19, replayed.Load())
	require.Equal(t, map[string][]string{testdb.Acme: {"book"}}, c.orders(t))
}

// TestTokenIsUsedOnceOutsideOfTransaction, as for requests.
func TestTokenIsUsedOnceOutsideOfTransaction(t *testing.T) {
	testdb.InBothForms(t, testTokenIsUsedOnceOutsideOfTransaction)
}

func testTokenIsUsedOnceOutsideOfTransaction(t *testing.T) {
	c := newConsumer(t)
	token, err := c.propagator.Inject(testdb.As(testdb.Acme), "mail")
	require.NoError(t, err)
	var accepted atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := c.propagator.Extract(t.Context(), token, "mail")
			if err == nil {
				accepted.Add(1)
				return
			}
			if !errors.Is(err, tenanthttp.ErrReplayed) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, accepted.Load())
}

// TestTenantCannotUseUpTokenOfOther, nor see which were used, nor free one that was.
func TestTenantCannotUseUpTokenOfOther(t *testing.T) {
	testdb.InBothForms(t, testTenantCannotUseUpTokenOfOther)
}

func testTenantCannotUseUpTokenOfOther(t *testing.T) {
	c := newConsumer(t)
	carrier, m := c.message(t, testdb.Globex)
	require.NoError(t, c.work(carrier, m, nil))
	var used once.Token
	require.NoError(t, c.AdminDB.First(&used).Error)
	require.Equal(t, testdb.Globex, used.TenantID)

	acme := c.db.WithContext(testdb.As(testdb.Acme))
	var n int64
	require.NoError(t, acme.Model(&once.Token{}).Count(&n).Error)
	require.Zero(t, n)
	require.NoError(t, acme.Exec("DELETE FROM used_tokens").Error)
	require.ErrorIs(t, c.work(carrier, m, nil), tenanthttp.ErrReplayed)

	c.AsSuperuser(t, "DELETE FROM used_tokens")
	require.NoError(t, acme.Exec("INSERT INTO used_tokens (id, expires_at) VALUES (?, now())", used.ID).Error)
	require.NoError(t, c.work(carrier, m, nil), "what acme has written down is acme's")
	require.Error(t, acme.Exec("INSERT INTO used_tokens (tenant_id, id, expires_at) VALUES ('globex', 'x', now())").Error)
}

// TestTokenIsRefusedIfStoreFails: the store's table cannot be written.
func TestTokenIsRefusedIfStoreFails(t *testing.T) {
	c := newConsumer(t)
	carrier, m := c.message(t, testdb.Acme)
	c.AsSuperuser(t, "REVOKE INSERT ON used_tokens FROM "+c.App.Role)
	err := c.work(carrier, m, nil)
	require.ErrorContains(t, err, "cannot be known whether a token was used")
	require.NotErrorIs(t, err, tenanthttp.ErrUnauthenticated, "so that the message is delivered again")
	require.Empty(t, c.orders(t))
	c.AsSuperuser(t, "GRANT INSERT ON used_tokens TO "+c.App.Role)
	require.NoError(t, c.work(carrier, m, nil))
}

// TestUsedTokensAreBounded: those that expired an hour ago are deleted while others are used, 100 for each 50.
func TestUsedTokensAreBounded(t *testing.T) { testdb.InBothForms(t, testUsedTokensAreBounded) }

func testUsedTokensAreBounded(t *testing.T) {
	c := newConsumer(t)
	insert := "INSERT INTO used_tokens (tenant_id, id, expires_at) SELECT ?, n::text, ? FROM generate_series(1, ?) n"
	now := time.Now()
	require.NoError(t, c.AdminDB.Exec(insert, testdb.Acme, now.Add(-2*time.Hour), 150).Error)
	require.NoError(t, c.AdminDB.Exec(insert, testdb.Globex, now.Add(-2*time.Hour), 7).Error)
	require.NoError(t, c.AdminDB.Exec(insert, "initech", now.Add(-time.Minute), 3).Error)
	store := once.NewStore(c.db)
	count := func(tenant string) (n int64) {
		require.NoError(t, c.AdminDB.Model(&once.Token{}).Where("tenant_id = ?", tenant).Count(&n).Error)
		return n
	}
	for n := range 100 {
		require.NoError(t, store.Use(testdb.As(testdb.Acme), "new"+time.Duration(n).String(), now.Add(time.Minute)))
	}
	require.EqualValues(t, 100, count(testdb.Acme))
	require.EqualValues(t, 7, count(testdb.Globex))
	n, err := once.Cleanup(t.Context(), tenancy.Bypass(c.db, "used tokens"))
	require.NoError(t, err)
	require.EqualValues(t, 7, n)
	require.EqualValues(t, 3, count("initech"), "a receiver whose clock is behind may still accept them")
}
