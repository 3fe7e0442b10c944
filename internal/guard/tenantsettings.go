package guard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Settings of PostgreSQL that a tenant's statements run with travel as the tenant does: local to the transaction, in the round trip of its
// first statement. Later statements leave them alone, so that code within the transaction can change them.

// plainSettings are the settings of PostgreSQL that limit a statement, or say how it is planned. None of them changes which rows a
// statement sees, in which role it runs, or how the guard talks to the server.
var plainSettings = map[string]bool{
	"statement_timeout": true, "lock_timeout": true, "idle_in_transaction_session_timeout": true, "transaction_timeout": true,
	"work_mem": true, "hash_mem_multiplier": true, "max_parallel_workers_per_gather": true, "synchronous_commit": true,
	"random_page_cost": true, "seq_page_cost": true, "effective_cache_size": true, "effective_io_concurrency": true,
	"plan_cache_mode": true, "from_collapse_limit": true, "join_collapse_limit": true, "jit": true,
	"timezone": true, "default_text_search_config": true,
}

// settingAllowed reports whether a tenant may have a setting of its own: one of plainSettings, one of the planner's switches, or a custom
// one that neither policies nor the guard read.
func (cfg *Config) settingAllowed(name string) bool {
	name = strings.ToLower(name)
	prefix, _, custom := strings.Cut(name, ".")
	if !custom {
		return plainSettings[name] || strings.HasPrefix(name, "enable_")
	}
	own, _, _ := strings.Cut(strings.ToLower(cfg.Setting), ".")
	return prefix != own && prefix != "tenancy"
}

type withoutSettingsKey struct{}

// WithoutSettings returns a context for statements whose tenant is none of the application's, for which Config.Settings is not asked.
func WithoutSettings(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutSettingsKey{}, true)
}

// settingsOf returns the SQL that sets the settings of a statement's tenant, one statement each. It returns none where the transaction has
// them.
func (c *conn) settingsOf(ctx context.Context, s scope) ([]string, error) {
	if c.cfg.Settings == nil || s.tenant == "" || s.bypass != nil || c.tx != nil && c.tx.settings || ctx.Value(withoutSettingsKey{}) != nil {
		return nil, nil
	}
	settings := c.cfg.Settings(ctx, s.tenant)
	sets := make([]string, 0, len(settings))
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !c.cfg.settingAllowed(name) {
			return nil, fmt.Errorf("tenancy: Config.Settings sets %q, which a tenant cannot have: use limits and planner settings of PostgreSQL, such as "+
				"statement_timeout and work_mem, and custom settings that policies do not read", name)
		}
		sets = append(sets, "SET LOCAL "+pgx.Identifier(strings.Split(name, ".")).Sanitize()+" = "+sqltext.Literal(settings[name]))
	}
	return sets, nil
}
