package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/flags"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/roles"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/telemetry"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/tenantcache"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// features are the packages that take part in requests by api.Seams.
type features struct {
	flags *flags.Flags
	sdk   *openfeature.EvaluationAPI
	roles *roles.Roles
	limit *limit.Limiter

	telemetry *telemetry.Telemetry
}

// defaultLimits are for an address that shows no key 10 requests a second, and for a tenant 200.
func defaultLimits(l limit.Config) limit.Config {
	for rate, def := range map[*limit.Rate]limit.Rate{
		&l.Tenant:  {Burst: 1000, Every: 5 * time.Millisecond},
		&l.Caller:  {Burst: 500, Every: 10 * time.Millisecond},
		&l.Address: {Burst: 100, Every: 100 * time.Millisecond},
	} {
		if *rate == (limit.Rate{}) {
			*rate = def
		}
	}
	l.Subject = func(ctx context.Context) string { return caller.From(ctx).Subject }
	return l
}

// flagSet says what flags there are.
func flagSet() (flags.Set, error) {
	onOff := map[string]any{"on": true, "off": false}
	return flags.NewSet(
		flags.Definition{Key: "board-view", Description: "Tasks as a board", Variants: onOff, Default: "off",
			Rollout: &flags.Rollout{Variant: "on", Percent: 20, By: flags.Users}},
		flags.Definition{Key: "beta", Description: "What is not finished", Variants: onOff, Default: "off"},
		flags.Definition{Key: "theme", Description: "Colours of the page", Variants: map[string]any{"light": "light", "dark": "dark"}, Default: "light"},
		flags.Definition{Key: "page-size", Description: "Rows of a page", Variants: map[string]any{"small": 20, "large": 100}, Default: "small"},
	)
}

// featureModels are the tables of these packages.
func featureModels() []any { return []any{&flags.Override{}, &roles.Grant{}} }

func (f *features) start(cfg Config, db *gorm.DB) error {
	set, err := flagSet()
	if err != nil {
		return err
	}
	if f.limit, err = limit.New(defaultLimits(cfg.Limits)); err != nil {
		return err
	}
	tx := func(ctx context.Context) *gorm.DB { return idempotency.DB(ctx, db) }
	if f.flags, err = flags.New(set, db, tx); err != nil {
		return err
	}
	if f.roles, err = roles.New(db, tx); err != nil {
		return err
	}
	f.sdk = isolated.NewAPI()
	return f.sdk.SetProviderAndWait(context.Background(), f.flags.Provider())
}

func (f *features) seams() api.Seams {
	return api.Seams{
		Observe:  func(next http.Handler) http.Handler { return f.telemetry.Middleware(f.limit.ByAddress(next)) },
		OnTenant: f.telemetry.OnTenant,
		OnEvent:  f.telemetry.OnEvent,
		Limit: func(next http.Handler) http.Handler {
			return f.limit.ByTenant(tenantcache.Middleware(flags.Middleware(next)))
		},
		Authorize: f.roles.Authorize,
		SignedUp:  roles.Found,
		Flag:      f.flag,
	}
}

func (f *features) routes(a *api.API) {
	f.flags.Routes(a)
	f.roles.Routes(a)
}

// flag reports whether a feature is on. After an error it is off.
func (f *features) flag(ctx context.Context, name string) bool {
	user := openfeature.NewEvaluationContext(caller.From(ctx).Subject, nil)
	return f.sdk.NewClient().Boolean(ctx, name, false, user)
}

func (f *features) close(ctx context.Context) (err error) {
	if f.sdk != nil {
		err = f.sdk.Shutdown(ctx)
	}
	if f.flags != nil {
		f.flags.Close()
	}
	if f.roles != nil {
		f.roles.Close()
	}
	if f.telemetry != nil {
		err = errors.Join(err, f.telemetry.Close(ctx))
	}
	return err
}
