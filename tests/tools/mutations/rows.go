package main

const (
	byKeys    = "tests/plugin TestTenantKeys"
	byOnce    = "tests/queues TestMessage|TestToken|TestTenantCannot|TestUsedTokens"
	byTokens  = "tenanthttp TestToken|TestOnce"
	byPersons = "tests/lifecycle TestSubject"
)

// rowMutations break what is about rows: primary keys that hold the tenant, tokens that are used once, and the rows of a person.
var rowMutations = []mutation{
	{"a conflict of ids does not name the tenant", []edit{
		{"../conflict.go", "return u.primaryTenant || p.isKeyed(stmt, tenant)", "return u.primaryTenant"},
	}, []string{byKeys}},
	{"a conflict of ids names the tenant also without such a key", []edit{
		{"../conflict.go", "return u.primaryTenant || p.isKeyed(stmt, tenant)", "return true"},
	}, []string{"tests/plugin TestUpsert|TestTenantKeys"}},
	{"an upsert may change the tenant", []edit{
		{"../conflict.go", "if within || tenants {", "if false {"},
	}, []string{"tests/plugin TestUpsert|TestTenantKeys"}},
	{"the admin client's upsert may change the tenant", []edit{
		{"../conflict.go", "if within || tenants {", "if tenants {"},
	}, []string{"tests/plugin TestUpsert|TestTenantKeys"}},
	{"what is known of keys is not forgotten", []edit{
		{"../keyed.go", "on.proofs.forget(known)", "_ = known"},
	}, []string{byKeys}},
	{"keys that were asked about are not forgotten", []edit{
		{"../keyed.go", "\ton.keys.forget()\n", ""},
	}, []string{byKeys}},
	{"the admin client writes rows of all tenants with an id", []edit{
		{"../keyed.go", "s.AddClause(clause.Where{Exprs: []clause.Expression{clause.IN{Column: columns, Values: keys}}})", "_ = columns"},
	}, []string{byKeys}},
	{"the admin client writes by an id alone", []edit{
		{"../keyed.go", "case !complete:", "case false:"},
	}, []string{byKeys}},

	{"a token that was used is used again", []edit{
		{"../tenanthttp/once/once.go", "case result.RowsAffected == 0:", "case false:"},
	}, []string{byOnce}},
	{"a token is used outside of its transaction", []edit{
		{"../tenanthttp/once/once.go", "tx, ok := ctx.Value(txKey{}).(*gorm.DB); ok {", "tx, ok := ctx.Value(txKey{}).(*gorm.DB); ok && tx == nil {"},
	}, []string{byOnce}},
	{"a token is used if the store fails", []edit{
		{"../tenanthttp/once/once.go", "case result.Error != nil:\n\t\treturn result.Error", "case result.Error != nil:\n\t\treturn nil"},
	}, []string{byOnce}},
	{"used tokens are forgotten before they expire", []edit{
		{"../tenanthttp/once/once.go", `old := db.Model(&Token{}).Select("id").Where("expires_at <= ?", time.Now().Add(-keep))`, `old := db.Model(&Token{}).Select("id").Where("expires_at <= ?", time.Now().Add(keep))`},
	}, []string{byOnce}},
	{"used tokens are cleaned up before they expire", []edit{
		{"../tenanthttp/once/once.go", `result := db.WithContext(ctx).Where("expires_at <= ?", time.Now().Add(-keep))`, `result := db.WithContext(ctx).Where("expires_at <= ?", time.Now().Add(keep))`},
	}, []string{byOnce}},

	{"a token that was used is used again, in memory", []edit{
		{"../tenanthttp/once.go", "case m.used[id]:", "case false:"},
	}, []string{byTokens}},
	{"a token that has expired is used, in memory", []edit{
		{"../tenanthttp/once.go", "case !expires.After(now):", "case false:"},
	}, []string{byTokens}},
	{"used tokens have no bound in memory", []edit{
		{"../tenanthttp/once.go", "case len(m.used) >= m.limit:", "case false:"},
	}, []string{byTokens}},

	{"an erasure proves nothing", []edit{
		{"../rls/lifecycle/subjecterase.go", "return e.prove(ctx)", "return nil"},
	}, []string{byPersons}},
	{"a table that refers to the person is not missed", []edit{
		{"../rls/lifecycle/subjectcheck.go", "{p.covered, p.reaches, p.sort}", "{p.reaches, p.sort}"},
	}, []string{byPersons}},
	{"a cascade reaches beyond the holdings", []edit{
		{"../rls/lifecycle/subjectcheck.go", "{p.covered, p.reaches, p.sort}", "{p.covered, p.sort}"},
	}, []string{byPersons}},
	{"rows that stay may refer to rows that are deleted", []edit{
		{"../rls/lifecycle/subjecterase.go", "return p.refersToNoneDeleted(ctx)", "return nil"},
	}, []string{byPersons}},
	{"what is retained is erased", []edit{
		{"../rls/lifecycle/subjectsql.go", "if other.relation == h.relation && other != h && other.Erasure.kind == erasureRetain {", "if false {"},
	}, []string{byPersons}},
	{"records of the person's rows are not masked", []edit{
		{"../rls/lifecycle/subjecterase.go", "masked, err = e.maskRows(ctx, h, keys)", "_ = keys"},
	}, []string{byPersons}},
	{"records of rows that are gone are not masked", []edit{
		{"../rls/lifecycle/subjectrecords.go", "if e.records == nil || h.Erasure.kind == erasureRetain || len(h.found) == 0 {", "if h.Erasure.kind >= 0 {"},
	}, []string{byPersons}},
	{"records of the person's rows are not counted", []edit{
		{"../rls/lifecycle/subjectproof.go", "if rows, err = e.unmasked(ctx, h); err != nil {", "if rows, err = 0, nil; err != nil {"},
	}, []string{byPersons}},
	{"a run for a person needs no request", []edit{
		{"../rls/lifecycle/subjectcheck.go", `case strings.TrimSpace(s.Request) == "":`, "case false:"},
	}, []string{byPersons}},
	{"a person has a key that PostgreSQL would write otherwise", []edit{
		{"../rls/lifecycle/subjectcheck.go", "if err != nil || string(row[0]) != p.key {", "if err != nil {"},
	}, []string{byPersons}},
	{"a basis of retention that has ended is accepted", []edit{
		{"../rls/lifecycle/subjectcheck.go", "case !h.until.IsZero() && !h.until.After(time.Now()):", "case false:"},
	}, []string{byPersons}},
}
