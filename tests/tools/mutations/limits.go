package main

const (
	bySettings = "tests/plugin TestTenantSettings"
	byShare    = "internal/guard TestShare"
	byLookups  = "tests/plugin TestLookupRole"
)

// limitMutations break the lookup role, and what bounds a tenant: Config.Share and Config.Settings.
var limitMutations = []mutation{
	{"the lookup role is not taken", []edit{
		{"guard/scopesql.go", "if s.lookup && c.cfg.LookupRole != \"\" {\n\t\treturn &c.pool.lookupSQL", "if false {\n\t\treturn &c.pool.lookupSQL"},
	}, []string{byLookups}},
	{"the lookup role is taken for tenants, too", []edit{
		{"guard/scopesql.go", "if s.lookup && c.cfg.LookupRole != \"\" {\n\t\treturn &c.pool.lookupSQL", "if c.cfg.LookupRole != \"\" {\n\t\treturn &c.pool.lookupSQL"},
	}, []string{byLookups}},
	{"the lookup role that is exempt from policies is accepted", []edit{
		{"../lookup.go", "case len(dangers) > 0:", "case false:"},
	}, []string{byLookups}},
	{"the lookup role that sees all tenants is accepted", []edit{
		{"../lookup.go", "if exempt != nil {", "if false {"},
	}, []string{byLookups}},
	{"the lookup role that tenants inherit from is accepted", []edit{
		{"../lookup.go", "case inherited:", "case false:"},
	}, []string{byLookups}},

	{"a tenant has no share", []edit{
		{"guard/share.go", `(t.inUse < s.each || t.tenant == "")`, `(t.inUse >= 0 || t.tenant == "")`},
	}, []string{byShare}},
	{"statements without a tenant have a share", []edit{
		{"guard/share.go", ` || t.tenant == "")`, `)`},
	}, []string{byShare}},
	{"the tenant that was served is served again", []edit{
		{"guard/share.go", "s.turns = append(s.turns, t)", "s.turns = append([]*tenantShare{t}, s.turns...)"},
	}, []string{byShare}},
	{"the statement that came last is served first", []edit{
		{"guard/share.go", "close(t.waiting[0])\n\t\tt.waiting = t.waiting[1:]", "last := len(t.waiting) - 1\n\t\tclose(t.waiting[last])\n\t\tt.waiting = t.waiting[:last]"},
	}, []string{byShare}},
	{"tenants do not wait for the limit of the pool", []edit{
		{"guard/share.go", "return limit <= 0 || s.inUse < limit", "return limit <= 0 || s.inUse >= 0"},
	}, []string{byShare}},
	{"a statement that leaves the queue keeps the connection it was granted", []edit{
		{"guard/share.go", "\t}\n\ts.free(t)\n}", "\t}\n}"},
	}, []string{byShare, "tests/plugin TestShareLosesNothing"}},
	{"a statement that leaves the queue stays in it", []edit{
		{"guard/share.go", "t.waiting = append(t.waiting[:n], t.waiting[n+1:]...)\n", "_ = n\n"},
	}, []string{byShare}},
	{"a connection that is given back counts on", []edit{
		{"guard/server.go", "if c.server.Share != nil {\n\t\tc.server.Share.release(c.shareOf)", "if false {\n\t\tc.server.Share.release(c.shareOf)"},
	}, []string{"tests/plugin TestShareLosesNothing"}},
	{"a connection counts for the tenant that used it last", []edit{
		{"guard/server.go", "Share.release(c.shareOf)", "Share.release(c.lentTo)"},
	}, []string{"tests/servers TestHeld"}},

	{"each setting may be a tenant's", []edit{
		{"guard/tenantsettings.go", `return plainSettings[name] || strings.HasPrefix(name, "enable_")`, "return true"},
	}, []string{bySettings}},
	{"a custom setting that policies read may be a tenant's", []edit{
		{"guard/tenantsettings.go", `return prefix != own && prefix != "tenancy"`, `return prefix != "tenancy"`},
	}, []string{bySettings}},
	{"a custom setting that the guard reads may be a tenant's", []edit{
		{"guard/tenantsettings.go", `return prefix != own && prefix != "tenancy"`, `return prefix != own`},
	}, []string{bySettings}},
	{"a setting in capitals may be a tenant's", []edit{
		{"guard/tenantsettings.go", "\tname = strings.ToLower(name)\n", ""},
	}, []string{bySettings}},
	{"a tenant's settings are not local", []edit{
		{"guard/tenantsettings.go", `"SET LOCAL "`, `"SET "`},
	}, []string{bySettings}},
	{"a tenant's settings are set again in its transaction", []edit{
		{"guard/tenantsettings.go", "c.tx != nil && c.tx.settings", "false"},
	}, []string{bySettings}},
	{"a tenant's settings are set for the admin client", []edit{
		{"guard/tenantsettings.go", `s.tenant == "" || s.bypass != nil || `, `s.tenant == "" && s.bypass == nil || `},
	}, []string{bySettings}},
}
