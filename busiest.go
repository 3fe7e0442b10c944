package tenancy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// TenantLoad is what a tenant uses of the connections at one moment.
type TenantLoad struct {
	Tenant  string // the id, as WithTenant writes it; empty for statements under WithoutTenant
	InUse   int    // connections
	Waiting int    // statements and transactions that wait for one
}

// Busiest returns the tenants that use and wait for most connections now, at most n of them: those with the most that wait first, and among
// them those that use most. It is for logs, and for metrics whose number of series must have a bound. It counts over all servers, and
// returns nothing without Config.Share.
func (p *Plugin) Busiest(n int) []TenantLoad {
	sums := map[string]TenantLoad{}
	for _, share := range p.shares() {
		for _, load := range share.Loads() {
			sum := sums[load.Tenant]
			sums[load.Tenant] = TenantLoad{load.Tenant, sum.InUse + load.InUse, sum.Waiting + load.Waiting}
		}
	}
	var all []TenantLoad
	for _, sum := range sums {
		all = append(all, sum)
	}
	slices.SortFunc(all, func(a, b TenantLoad) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.InUse, a.InUse), strings.Compare(a.Tenant, b.Tenant))
	})
	return all[:min(max(n, 0), len(all))]
}

// shares returns the bounds of all pools and their servers.
func (p *Plugin) shares() (all []*guard.Share) {
	seen := map[*server]bool{}
	add := func(s *server) {
		if s.Share != nil && !seen[s] {
			seen[s] = true
			all = append(all, s.Share)
		}
	}
	p.pools.Range(func(_, known any) bool {
		pool := known.(*pool)
		add(pool.home)
		pool.servers.Range(func(_, known any) bool {
			add(known.(*server))
			return true
		})
		return true
	})
	return all
}
