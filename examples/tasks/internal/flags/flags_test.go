package flags

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func connect(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard, TranslateError: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

// open makes a database with the table, and returns the application's client.
func open(t *testing.T) *gorm.DB {
	t.Helper()
	d := pgserver.New(t)
	_, err := rls.Isolation{AppRole: d.App.Role}.Migrate(t.Context(), connect(t, d.Owner.DSN), &Override{})
	require.NoError(t, err)
	db := connect(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	return db
}

func demo(t *testing.T) Set {
	t.Helper()
	onOff := map[string]any{"on": true, "off": false}
	set, err := NewSet(
		Definition{Key: "board", Variants: onOff, Default: "off"},
		Definition{Key: "theme", Variants: map[string]any{"light": "white", "dark": "black"}, Default: "light"},
		Definition{Key: "limit", Variants: map[string]any{"small": 10, "large": 1000}, Default: "small"},
		Definition{Key: "rate", Variants: map[string]any{"low": 0.5, "high": 2.5}, Default: "low"},
		Definition{Key: "form", Variants: map[string]any{"short": map[string]any{"fields": []any{"title"}}}, Default: "short"},
		Definition{Key: "closed", Variants: onOff, Default: "on", Disabled: true},
		Definition{Key: "half", Variants: onOff, Default: "off", Rollout: &Rollout{"on", 50, Users}},
		Definition{Key: "companies", Variants: onOff, Default: "off", Rollout: &Rollout{"on", 50, Tenants}},
	)
	require.NoError(t, err)
	return set
}

func newFlags(t *testing.T, db *gorm.DB) (*Flags, openfeature.IClient) {
	t.Helper()
	f, err := New(demo(t), db, nil)
	require.NoError(t, err)
	sdk := isolated.NewAPI()
	require.NoError(t, sdk.SetProviderAndWait(t.Context(), f.Provider()))
	t.Cleanup(func() {
		require.NoError(t, sdk.Shutdown(context.Background()))
		f.Close()
	})
	return f, sdk.NewClient()
}

func as(t *testing.T, tenant string) context.Context { return tenancy.WithTenant(t.Context(), tenant) }

func user(name string) openfeature.EvaluationContext {
	return openfeature.NewEvaluationContext(name, map[string]any{"tenant": "globex", "tenant_id": "globex"})
}

func put(t *testing.T, f *Flags, tenant string, o Override) {
	t.Helper()
	require.NoError(t, f.Put(as(t, tenant), o))
}

// TestEvaluationTakesFirstLayer: the user's override, the tenant's, the rollout, the default; as OpenFeature's SDK shows it.
func TestEvaluationTakesFirstLayer(t *testing.T) {
	f, sdk := newFlags(t, open(t))
	ctx := as(t, "acme")
	board := func(name string) openfeature.BooleanEvaluationDetails {
		details, err := sdk.BooleanValueDetails(ctx, "board", false, user(name))
		require.NoError(t, err)
		return details
	}
	require.Equal(t, openfeature.StaticReason, board("ann").Reason)
	require.False(t, board("ann").Value)

	put(t, f, "acme", Override{Flag: "board", Variant: "on", Percent: 100, SetBy: "key:1"})
	require.Equal(t, openfeature.TargetingMatchReason, board("ann").Reason)
	require.Equal(t, "on", board("ann").Variant)
	require.True(t, board("ann").Value)

	put(t, f, "acme", Override{Flag: "board", Subject: "ann", Variant: "off", Percent: 100, SetBy: "key:1"})
	require.False(t, board("ann").Value)
	require.True(t, board("bob").Value)
	require.True(t, board("").Value)

	put(t, f, "acme", Override{Flag: "board", Subject: "ann", Variant: "on", Percent: 100, SetBy: "key:2"}) // replaces
	require.True(t, board("ann").Value)
	all, err := f.Overrides(ctx)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "key:2", all[1].SetBy)

	for _, subject := range []string{"ann", ""} {
		was, err := f.Clear(ctx, "board", subject)
		require.NoError(t, err)
		require.True(t, was)
	}
	was, err := f.Clear(ctx, "board", "")
	require.NoError(t, err)
	require.False(t, was)
	require.Equal(t, openfeature.StaticReason, board("ann").Reason)
}

func TestEvaluationOfEachKind(t *testing.T) {
	f, sdk := newFlags(t, open(t))
	ctx := as(t, "acme")
	for flag, variant := range map[string]string{"theme": "dark", "limit": "large", "rate": "high", "form": "short"} {
		put(t, f, "acme", Override{Flag: flag, Variant: variant, Percent: 100})
	}
	require.Equal(t, "black", sdk.String(ctx, "theme", "", user("ann")))
	require.EqualValues(t, 1000, sdk.Int(ctx, "limit", 0, user("ann")))
	require.InDelta(t, 2.5, sdk.Float(ctx, "rate", 0, user("ann")), 0)
	form := sdk.Object(ctx, "form", nil, user("ann")).(map[string]any)
	require.Equal(t, map[string]any{"fields": []any{"title"}}, form)
	form["fields"].([]any)[0] = "changed"
	form["more"] = true
	require.Equal(t, map[string]any{"fields": []any{"title"}}, sdk.Object(as(t, "globex"), "form", nil, user("ann")), "shared with another tenant")
}

// TestEvaluationErrors: the caller's default, and a code of OpenFeature.
func TestEvaluationErrors(t *testing.T) {
	db := open(t)
	f, sdk := newFlags(t, db)
	ctx := as(t, "acme")
	// What an earlier version of the program has stored.
	require.NoError(t, db.WithContext(ctx).Create(&Override{Flag: "rate", Variant: "removed", Percent: 100}).Error)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		flag   string
		user   string
		code   openfeature.ErrorCode
		reason openfeature.Reason
	}{
		{"unknown flag", ctx, "nothing", "ann", openfeature.FlagNotFoundCode, openfeature.ErrorReason},
		{"another type", ctx, "theme", "ann", openfeature.TypeMismatchCode, openfeature.ErrorReason},
		{"no user", ctx, "half", "", openfeature.TargetingKeyMissingCode, openfeature.ErrorReason},
		{"removed variant", ctx, "rate", "ann", openfeature.ParseErrorCode, openfeature.ErrorReason},
		{"no tenant", t.Context(), "board", "ann", openfeature.InvalidContextCode, openfeature.ErrorReason},
		{"without tenant", tenancy.WithoutTenant(t.Context()), "board", "ann", openfeature.InvalidContextCode, openfeature.ErrorReason},
		{"no database", tenancy.WithTenant(ended, "globex"), "board", "ann", openfeature.GeneralCode, openfeature.ErrorReason},
		{"disabled", ctx, "closed", "ann", "", openfeature.DisabledReason},
	} {
		for _, def := range []bool{true, false} {
			details, err := sdk.BooleanValueDetails(c.ctx, c.flag, def, user(c.user))
			require.Equal(t, c.code != "", err != nil, c.name)
			require.Equal(t, c.code, details.ErrorCode, c.name)
			require.Equal(t, c.reason, details.Reason, c.name)
			require.Equal(t, def, details.Value, c.name)
			require.NotContains(t, details.ErrorMessage, "SELECT", c.name)
		}
	}
	require.ErrorIs(t, f.Put(ctx, Override{Flag: "nothing", Variant: "on", Percent: 100}), ErrUnknownFlag)
	require.ErrorIs(t, f.Put(ctx, Override{Flag: "board", Variant: "white", Percent: 100}), ErrUnknownVariant)
	require.ErrorIs(t, f.Put(ctx, Override{Flag: "board", Variant: "on", Percent: 101}), ErrPercent)
	require.ErrorIs(t, f.Put(ctx, Override{Flag: "board", Variant: "on", Percent: -1}), ErrPercent)
	require.ErrorIs(t, f.Put(ctx, Override{Flag: "board", Subject: "ann", Variant: "on", Percent: 50}), ErrPercent)
}

// TestRolloutIsStable: who has a variant keeps it when the percentage is raised, and each flag and tenant has others.
func TestRolloutIsStable(t *testing.T) {
	const users = 4000
	count := func(percent int, flag, tenant string) (n int) {
		for u := range users {
			name := fmt.Sprint("user-", u)
			among := isAmong(percent, flag, tenant, name)
			require.Equal(t, among, isAmong(percent, flag, tenant, name))
			require.True(t, !among || isAmong(percent+1, flag, tenant, name), "lost by raising")
			if among {
				n++
			}
		}
		return n
	}
	require.Zero(t, count(0, "half", "acme"))
	require.Equal(t, users, count(100, "half", "acme"))
	require.InDelta(t, users/4, count(25, "half", "acme"), users/40)
	differs := 0
	for u := range users {
		name := fmt.Sprint("user-", u)
		if isAmong(50, "half", "acme", name) != isAmong(50, "half", "globex", name) {
			differs++
		}
	}
	require.InDelta(t, users/2, differs, users/20)
	require.NotEqual(t, place("a", "bc"), place("ab", "c"))
}

// place is a fingerprint of the places that a tenant's users have.
func place(flag, tenant string) (s string) {
	for u := range 64 {
		s += fmt.Sprint(isAmong(50, flag, tenant, fmt.Sprint(u)))
	}
	return s
}

// TestRolloutOfTenant gives each user of a tenant the same, and needs no user.
func TestRolloutOfTenant(t *testing.T) {
	f, sdk := newFlags(t, open(t))
	on := 0
	for n := range 40 {
		ctx := as(t, fmt.Sprint("tenant-", n))
		details, err := sdk.BooleanValueDetails(ctx, "companies", false, openfeature.EvaluationContext{})
		require.NoError(t, err)
		require.Equal(t, openfeature.SplitReason, details.Reason)
		require.Equal(t, details.Value, sdk.Boolean(ctx, "companies", false, user("ann")))
		if details.Value {
			on++
		}
	}
	require.Greater(t, on, 5)
	require.Less(t, on, 35)

	// A tenant's own percentage is of its users, and the rest falls to the next layer.
	put(t, f, "acme", Override{Flag: "theme", Variant: "dark", Percent: 30})
	reasons := map[openfeature.Reason]int{}
	for n := range 200 {
		details, err := sdk.StringValueDetails(as(t, "acme"), "theme", "", user(fmt.Sprint("user-", n)))
		require.NoError(t, err)
		reasons[details.Reason]++
		require.Equal(t, details.Reason == openfeature.SplitReason, details.Value == "black")
	}
	require.InDelta(t, 60, reasons[openfeature.SplitReason], 25)
	require.Equal(t, 200, reasons[openfeature.SplitReason]+reasons[openfeature.StaticReason])
}

// TestHostileTenantSeesAndChangesNoOverrideOfOther: also by an evaluation context that names the other, by the primary key, and by what is cached.
func TestHostileTenantSeesAndChangesNoOverrideOfOther(t *testing.T) {
	db := open(t)
	f, sdk := newFlags(t, db)
	put(t, f, "globex", Override{Flag: "board", Variant: "on", Percent: 100, SetBy: "victim"})
	put(t, f, "globex", Override{Flag: "theme", Subject: "ann", Variant: "dark", Percent: 100, SetBy: "victim"})
	victim, acme := as(t, "globex"), as(t, "acme")
	require.True(t, sdk.Boolean(victim, "board", false, user("ann"))) // fills the cache

	for range 2 {
		require.False(t, sdk.Boolean(acme, "board", true, user("ann")))
		require.Equal(t, "white", sdk.String(acme, "theme", "", user("ann")))
	}
	mine, err := f.Overrides(acme)
	require.NoError(t, err)
	require.Empty(t, mine)
	was, err := f.Clear(acme, "board", "")
	require.NoError(t, err)
	require.False(t, was)
	put(t, f, "acme", Override{Flag: "board", Variant: "off", Percent: 100, SetBy: "attacker"}) // the same flag and subject

	theirs, err := f.Overrides(victim)
	require.NoError(t, err)
	require.Len(t, theirs, 2)
	for _, o := range theirs {
		require.Equal(t, "victim", o.SetBy)
		require.NoError(t, f.Put(acme, Override{ID: o.ID, TenantID: "globex", Flag: o.Flag, Subject: "ann", Variant: o.Variant, Percent: 100, SetBy: "attacker"}))
	}
	again, err := f.Overrides(victim)
	require.NoError(t, err)
	require.Equal(t, theirs, again)
	require.True(t, sdk.Boolean(victim, "board", false, user("bob")))
	require.Error(t, f.Put(t.Context(), Override{Flag: "board", Variant: "on", Percent: 100}), "without a tenant")
}

// TestRequestCostsOneQuery whatever it evaluates, and sees one state of the overrides; other requests see a change at once.
func TestRequestCostsOneQuery(t *testing.T) {
	db := open(t)
	f, sdk := newFlags(t, db)
	var queries atomic.Int64
	require.NoError(t, db.Callback().Query().After("gorm:query").Register("count", func(*gorm.DB) { queries.Add(1) }))
	handler := Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.False(t, sdk.Boolean(r.Context(), "board", false, user("ann")))
		require.NoError(t, f.Put(as(t, "acme"), Override{Flag: "board", Variant: "on", Percent: 100})) // another request
		before := queries.Load()
		require.False(t, sdk.Boolean(r.Context(), "board", false, user("ann")), "changed within a request")
		require.Len(t, f.All(r.Context(), "ann"), 8)
		require.Equal(t, before, queries.Load())
		require.True(t, sdk.Boolean(WithRequest(as(t, "acme")), "board", false, user("ann")), "another request")
		// A request that goes on for another tenant takes nothing along.
		require.False(t, sdk.Boolean(tenancy.WithTenant(r.Context(), "globex"), "board", true, user("ann")))

		require.NoError(t, f.Put(r.Context(), Override{Flag: "theme", Variant: "dark", Percent: 100}))
		require.Equal(t, "black", sdk.String(r.Context(), "theme", "", user("ann")), "its own change")
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(as(t, "acme"), http.MethodGet, "/", nil))

	queries.Store(0)
	for range 3 {
		ctx := WithRequest(as(t, "initech"))
		for range 5 {
			sdk.Boolean(ctx, "board", false, user("ann"))
		}
	}
	require.EqualValues(t, 1, queries.Load())
}

// TestOverridesAreBounded, because all of a tenant are kept in memory. Another tenant may still add its own.
func TestOverridesAreBounded(t *testing.T) {
	db := open(t)
	f, _ := newFlags(t, db)
	rows := make([]Override, MaxOverrides)
	for n := range rows {
		rows[n] = Override{Flag: "board", Subject: fmt.Sprint("user-", n), Variant: "on", Percent: 100}
	}
	require.NoError(t, db.WithContext(as(t, "acme")).Create(&rows).Error)
	require.ErrorIs(t, f.Put(as(t, "acme"), Override{Flag: "theme", Variant: "dark", Percent: 100}), ErrTooMany)
	require.NoError(t, f.Put(as(t, "acme"), Override{Flag: "board", Subject: "user-7", Variant: "off", Percent: 100}), "replaces")
	require.NoError(t, f.Put(as(t, "globex"), Override{Flag: "theme", Variant: "dark", Percent: 100}))
}

// TestManyTenantsAtOnce evaluate and change: each sees its own value.
func TestManyTenantsAtOnce(t *testing.T) {
	f, sdk := newFlags(t, open(t))
	variants := []string{"light", "dark"}
	for n := range 8 {
		put(t, f, fmt.Sprint("tenant-", n), Override{Flag: "theme", Variant: variants[n%2], Percent: 100})
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			ctx := tenancy.WithTenant(context.Background(), fmt.Sprint("tenant-", n))
			want := []string{"white", "black"}[n%2]
			for i := range 30 {
				if i%10 == 5 {
					if err := f.Put(ctx, Override{Flag: "theme", Variant: variants[n%2], Percent: 100}); err != nil {
						t.Error(err)
					}
				}
				if got := sdk.String(ctx, "theme", "", user("ann")); got != want {
					t.Errorf("tenant-%d: %s", n, got)
				}
			}
		})
	}
	all.Wait()
}

func TestSetRefusesBadDefinitions(t *testing.T) {
	on := map[string]any{"on": true}
	for text, d := range map[string]Definition{
		"lower-case letters":       {Key: "Board View", Variants: on, Default: "on"},
		"not among the variants":   {Key: "a", Variants: on, Default: "off"},
		"must have one type":       {Key: "a", Variants: map[string]any{"on": true, "off": "no"}, Default: "on"},
		"map[string]any":           {Key: "a", Variants: map[string]any{"on": []int{1}}, Default: "on"},
		"percentage from 0 to 100": {Key: "a", Variants: on, Default: "on", Rollout: &Rollout{"on", 101, Users}},
	} {
		_, err := NewSet(d)
		require.ErrorContains(t, err, text)
	}
	_, err := NewSet(Definition{Key: "a", Variants: on, Default: "on"}, Definition{Key: "a", Variants: on, Default: "on"})
	require.ErrorContains(t, err, "twice")
}
