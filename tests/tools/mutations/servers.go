package main

const (
	byServers = "tests/servers TestPlace|TestLate|TestTransaction|TestHeld|TestServers|TestOnServer"
	byListed  = "tests/servers TestServersAreRefused|TestReplicas|TestAdminDB"
	byPlaces  = "tests/placement TestPlace"
	byMoves   = "tests/placement TestMoveFollows|TestMoveWaits|TestMoveOfAnotherRun|TestMovesOfOneTenant"
	byFailed  = "tests/placement TestFailedMove|TestMoveThatLocksOut"
	byRefused = "tests/placement TestMoveIsRefused"
	byOldRows = "tests/placement TestOldRows|TestMoveWaitsForCaches"
)

// serverMutations break Config.Place, and package placement.
var serverMutations = []mutation{
	{"Place is not asked again before a statement is sent", []edit{
		{"guard/server.go", "server, err := c.serverFor(ctx, s)\n\tif err == nil && server", "server, err := c.server, error(nil)\n\tif err == nil && server"},
	}, []string{byServers}},
	{"a tenant that has moved during the wait is not noticed", []edit{
		{"guard/server.go", "if err == nil && server != c.server {", "if err == nil && server == nil {"},
	}, []string{byServers}},
	{"a transaction goes on without Place", []edit{
		{"guard/server.go", "server, err := c.cfg.Place(ctx, s.tenant, s.bypass != nil)", "if c.inTransaction() && c.borrowed != nil {\n\t\treturn c.server, nil\n\t}\n\tserver, err := c.cfg.Place(ctx, s.tenant, s.bypass != nil)"},
	}, []string{byServers}},
	{"a transaction goes on where its tenant does not live any more", []edit{
		{"guard/server.go", "case c.borrowed != nil && c.server == server:", "case c.borrowed != nil && (c.server == server || c.inTransaction()):"},
		{"guard/server.go", "if err == nil && server != c.server {", "if err == nil && server != c.server && !c.inTransaction() {"},
	}, []string{byServers}},
	{"a transaction does not say that its SQL may write late", []edit{
		{"guard/server.go", `if c.cfg.Place == nil || q.scope.tenant == "" ||`, "if true ||"},
	}, []string{byMoves}},
	{"a transaction goes to a second server", []edit{
		{"guard/server.go", "case c.borrowed != nil && c.inTransaction():", "case false:"},
	}, []string{byServers}},
	{"a held connection stays on its server", []edit{
		{"guard/server.go", "case c.borrowed != nil && c.server == server:", "case c.borrowed != nil:"},
	}, []string{byServers}},
	{"a proof on one server counts on others", []edit{
		{"guard/server.go", "return c.cfg.Place == nil || proof.Server == c.server", "return true"},
	}, []string{byServers}},
	{"an error of Place is answered by the first server", []edit{
		{"../place.go", "case err != nil:\n\t\treturn nil, fmt.Errorf(\"tenancy: the tenant's server cannot be used: %w\", err)", "case err != nil:\n\t\treturn pool.home, nil"},
	}, []string{byServers}},
	{"servers are not verified", []edit{
		{"../place.go", "if p.config.DangerouslyAllowUnsafeRole {", "if true {"},
	}, []string{byServers}},
	{"a server that was refused once is taken for verified", []edit{
		{"../place.go", "if err := p.askServer(ctx, pool, s); err != nil {", "s.safe.Store(true)\n\tif err := p.askServer(ctx, pool, s); err != nil {"},
	}, []string{byServers}},
	{"a statement waits for a server longer than its context", []edit{
		{"../place.go", "case <-ctx.Done():\n\t\t\treturn ctx.Err()", "case <-make(chan struct{}):"},
	}, []string{"tests/servers TestSlowServer"}},
	{"a statement fails because another one was cancelled", []edit{
		{"../place.go", "mine.err, mine.cancelled = err, ctx.Err() != nil", "mine.err = err"},
	}, []string{"tests/servers TestSlowServer"}},
	{"a guarded pool is a server", []edit{
		{"../place.go", "if _, guarded := guard.Of(s.DB); guarded {", "if false {"},
	}, []string{byServers}},
	{"a tenant is sought on a server where it does not live", []edit{
		{"../place.go", "case named != nil && named != db:", "case false:"},
	}, []string{byServers}},
	{"the admin client reads the first server for all", []edit{
		{"../place.go", `case tenant == "" && bypass:`, "case false:"},
	}, []string{byServers}},
	{"the admin client takes one server for another", []edit{
		{"../place.go", "if !b.below.placed && ctx.Value(serverKey{}) != nil {", "if false {"},
	}, []string{byServers}},

	{"an AdminDB of another server is taken", []edit{
		{"../servers.go", "case is != want:", "case is != want && replica:"},
	}, []string{byListed}},
	{"a replica of another server is taken", []edit{
		{"../servers.go", "case is != want && replica:", "case is != want && !replica:"},
		{"../servers.go", "case is != want:", "case is != want && !replica:"},
	}, []string{byListed}},
	{"a replica that takes writes is taken", []edit{
		{"../servers.go", "case replica && !standby:", "case replica && !standby && err != nil:"},
	}, []string{byListed}},
	{"a server that the list does not have is taken", []edit{
		{"../servers.go", "if len(k.servers) == 0 ||", "if true ||"},
	}, []string{byListed}},
	{"clients of Bypass go through the application's login", []edit{
		{"../servers.go", "case s.admin != nil:", "case s.admin == s:"},
	}, []string{byListed}},

	{"an answer about a place never ends", []edit{
		{"../placement/places.go", "ok && now.Before(known.expires)", "ok && !known.expires.IsZero()"},
	}, []string{byPlaces}},
	{"an answer about a place counts from its arrival", []edit{
		{"../placement/places.go", "began.Add(p.config.TTL)", "p.now().Add(p.config.TTL)"},
	}, []string{byPlaces}},
	{"an answer about a place that came late is used", []edit{
		{"../placement/places.go", "case !p.now().Before(running.answer.expires):", "case false:"},
	}, []string{"placement TestPlaceRefusesAnswerThatGotOld"}},
	{"a question about a place outlives Invalidate", []edit{
		{"../placement/places.go", "delete(p.older, tenant)\n\tdelete(p.asked, tenant)", "delete(p.older, tenant)"},
		{"../placement/places.go", "if p.asked[tenant] == running { // and was not forgotten meanwhile", "if true {"},
	}, []string{byPlaces}},
	{"a tenant that is moved is let in", []edit{
		{"../placement/places.go", "case State(state.String) == Moving:", "case false:"},
	}, []string{byPlaces}},
	{"a login that can write placements is accepted", []edit{
		{"../placement/places.go", "case writes:", "case false:"},
	}, []string{"tests/placement TestPlace|TestTenantCannotMove"}},
	{"a tenant without a placement goes to the first server", []edit{
		{"../placement/places.go", "if pool == nil {", "if pool == nil {\n\t\tfor _, pool = range p.config.Servers {\n\t\t\treturn pool, nil\n\t\t}\n\t}\n\tif pool == nil {"},
		{"../placement/places.go", "case !server.Valid && p.config.Default == \"\":", "case false:"},
	}, []string{byPlaces}},

	{"a move that was replaced goes on", []edit{
		{"../placement/mover.go", "set+` WHERE tenant = $1 AND run = $2 AND state = $3`", "set+` WHERE tenant = $1 AND $2::text <> '' AND state = $3`"},
	}, []string{byMoves, byRefused}},
	{"a move takes the place of one that has begun meanwhile", []edit{
		{"../placement/mover.go", "AND other = $7 AND run = $8`", "AND other = $7 AND $8::text IS NOT NULL`"},
	}, []string{byMoves, byRefused}},
	{"a move that is backed out keeps its token", []edit{
		{"../placement/after.go", "`state = 'copying', run = '' WHERE tenant = $1 AND state IN ('copying', 'moving')`", "`state = 'copying' WHERE tenant = $1 AND state IN ('copying', 'moving')`"},
		{"../placement/after.go", "now.State != Copying || now.Run != \"\" || now.Other", "now.State != Copying || now.Other"},
		{"../placement/after.go", "`state = 'placed', other = '', other_database_id = '' WHERE tenant = $1 AND state = 'copying' AND run = ''`", "`state = 'placed', other = '' WHERE tenant = $1 AND state = 'copying'`"},
	}, []string{byMoves, byRefused}},
	{"names of servers may lead to other databases than before", []edit{
		{"../placement/mover.go", "case is != s.id:", "case is == \"another\":"},
	}, []string{"tests/placement TestMoverRefuses"}},
	{"a second table of placements is taken", []edit{
		{"../placement/mover.go", "case found:", "case false:"},
	}, []string{"tests/placement TestMoverRefuses"}},
	{"two moves write one copy", []edit{
		{"../rls/lifecycle/transfer.go", `if err == nil && string(row[0]) != "t" {`, "if false {"},
	}, []string{byMoves}},
	{"a move switches without a pass that finds no difference", []edit{
		{"../placement/mover.go", "if pass.Differences() > 0 {\n\t\t\tcontinue", "if pass.Differences() < 0 {\n\t\t\tcontinue"},
	}, []string{byMoves}},
	{"a move does not lock the tenant out", []edit{
		{"../placement/mover.go", "if err := v.setState(ctx, Copying, `state = 'moving'`); err != nil {", "if err := v.setState(ctx, Copying, `state = 'copying'`); err != nil {"},
		{"../placement/mover.go", "return v.setState(ctx, Moving, `state", "return v.setState(ctx, Copying, `state"},
	}, []string{byFailed, byMoves}},
	{"a move does not wait for the caches", []edit{
		{"../placement/mover.go", "time.Until(written.Add(v.TTL+ttlMargin))", "time.Until(written.Add(ttlMargin))"},
	}, []string{byMoves}},
	{"a move waits for the caches without a margin", []edit{
		{"../placement/mover.go", "time.Until(written.Add(v.TTL+ttlMargin))", "time.Until(written.Add(v.TTL))"},
	}, []string{byMoves}},
	{"a move does not wait for transactions", []edit{
		{"../placement/mover.go", "if err := v.run.WaitForWriters(ctx); err != nil {", "if err := error(nil); err != nil {"},
	}, []string{byMoves}},
	{"a move that fails leaves the tenant locked out", []edit{
		{"../placement/mover.go", "`state = 'copying' WHERE tenant = $1 AND run = $2 AND state = 'moving'`", "`state = state WHERE tenant = $1 AND run = $2 AND state = 'moving'`"},
	}, []string{byFailed}},
	{"a move takes rows at the target for its own", []edit{
		{"../rls/lifecycle/transfer.go", "if vacant {", "if false {"},
	}, []string{byRefused}},
	{"old rows that have changed are erased", []edit{
		{"../placement/after.go", "erasure.Fingerprint = row.Fingerprint\n", "erasure.Fingerprint = \"\"\n"},
	}, []string{byOldRows}},
	{"old rows are erased at once", []edit{
		{"../placement/after.go", "m.Grace-time.Duration(age*float64(time.Second))", "m.Grace-m.Grace-time.Duration(age*float64(time.Second))"},
	}, []string{byOldRows}},
}
