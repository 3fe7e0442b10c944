package main

import "slices"

// mutation is one way to break the code.
type mutation struct {
	name  string
	edits []edit
	by    []string // the tests that must notice it, as "package TestName|TestOther", by how they begin; nil for those of suites
}

// edit replaces text in a file, named from internal. The old text must be there exactly once.
type edit struct{ file, old, new string }

// mutations are what the tests must notice.
var mutations = slices.Concat(guardMutations, limitMutations, serverMutations, signingMutations, rowMutations)

// guardMutations break the guard, and the conditions that the plugin writes.
var guardMutations = []mutation{
	{"bypass does not reset the tenant", []edit{
		{"guard/pool.go", "scopeSQL: newScopeSQL(cfg, cfg.Role)", "scopeSQL: newScopeSQL(Config{Setting: map[bool]string{false: cfg.Setting, true: \"mutation.tenant\"}[cfg.Bypass]}, cfg.Role)"},
	}, nil},
	{"the scope is not set again within a transaction", []edit{
		{"guard/prefix.go", "if aborted(pc) {\n\t\treturn into", "if aborted(pc) || c.tx != nil && c.tx.begun {\n\t\treturn into"},
	}, nil},
	{"the scope is set in an aborted transaction, too", []edit{
		{"guard/prefix.go", `{ return pc.PgConn().TxStatus() == 'E' }`, `{ return pc.PgConn().TxStatus() == '?' }`},
	}, nil},
	{"the outcome after the last row is not read", []edit{
		{"guard/result.go", "if restErr := a.rest.Close(); err == nil {", "if restErr := a.rest.Close(); err != nil {"},
	}, nil},
	{"a commit that rolled back is taken for one", []edit{
		{"guard/tx.go", `tag.String() == "ROLLBACK"`, `tag.String() == "MUTATION"`},
	}, nil},
	{"the setting is not local", []edit{
		{"guard/scopesql.go", "tenantParam + `, true)`", "tenantParam + `, false)`"},
		{"guard/scopesql.go", `s.control = "SET LOCAL "`, `s.control = "SET "`},
	}, nil},
	{"the role is not local", []edit{
		{"guard/scopesql.go", "set_config('role', ` + role + `, true) END`", "set_config('role', ` + role + `, false) END`"},
		{"guard/scopesql.go", "set_config('role', ` + role + `, true)`\n", "set_config('role', ` + role + `, false)`\n"},
		{"guard/scopesql.go", `scopeSQL{role: "SET LOCAL ROLE "`, `scopeSQL{role: "SET ROLE "`},
		{"guard/scopesql.go", `s.role = "SET LOCAL ROLE "`, `s.role = "SET ROLE "`},
		{"guard/session.go", "`SET ROLE NONE`, ", ""},
	}, nil},
	{"the role is not set back in a used session", []edit{
		{"guard/scopesql.go", "s.dirtyEnd = ` THEN pg_catalog.set_config('role', ` + role + `, true) END`", "s.dirtyEnd = ` THEN '' END`"},
	}, nil},
	{"the role is not looked at in a clean session", []edit{
		{"guard/scopesql.go", "checked(otherRole + ` OR ` + differsSQL", "checked(differsSQL"},
	}, nil},
	{"a session with row_security off is not cleaned", []edit{
		{"guard/send.go", "wasClean && isRowSecurityOff(err)", "!wasClean && isRowSecurityOff(err)"},
	}, nil},
	{"a session in which code of the database failed with row_security off is not cleaned", []edit{
		{"guard/call.go", "pgErr.Routine == rowSecurityRoutine", "false"},
	}, nil},
	{"SQL text of several statements is sent again after row_security was off", []edit{
		{"guard/send.go", "isRowSecurityOff(err) && q.class == query && !maySeveral(q.sql)", "isRowSecurityOff(err)"},
	}, nil},
	{"statements of the same beginning share a name", []edit{
		{"guard/cache.go", `sha256.Sum256([]byte(sql))`, `sha256.Sum256([]byte(sql[:min(len(sql), 12)]))`},
	}, nil},
	{"connections share a cache", []edit{
		{"guard/conn.go", `newCache(cfg.StatementCacheCapacity)`, `mutant`},
		{"guard/conn.go", `const stateKey =`, "var mutant = newCache(512)\n\nconst stateKey ="},
	}, nil},
	{"a description is kept under another statement's text", []edit{
		{"guard/cache.go", "e := c.bySQL[sql]\n\tif e == nil {\n\t\treturn nil\n\t}\n\tc.order.MoveToFront(e)", "e := c.bySQL[sql]\n\tif e == nil {\n\t\te = c.order.Front()\n\t}\n\tif e == nil {\n\t\treturn nil\n\t}\n\tc.order.MoveToFront(e)"},
	}, nil},
	{"WithoutTenant does not reset", []edit{
		{"guard/prefix.go", "if aborted(pc) {\n\t\treturn into", "if aborted(pc) || q.scope.isWithoutTenant() {\n\t\treturn into"},
	}, nil},
	{"a context without a tenant is let through", []edit{
		{"guard/scope.go", "return scope{}, ErrNoTenant\n\tcase d == nil:", "return scope{text: []byte{}}, nil\n\tcase d == nil:"},
	}, nil},
	{"a transaction of no tenant takes each that comes", []edit{
		{"guard/scope.go", "t.scope, t.decided = s, !s.observed", "t.decided = true"},
	}, nil},
	{"the tenant condition is left out of WHERE", []edit{
		{"../where.go", "c.Expression = conditioned{tenant, tenant.without(tenant.complete(where.Exprs))}", "c.Expression = clause.Where{Exprs: tenant.complete(where.Exprs)}"},
	}, nil},
	{"the tenant condition is left out of JOIN", []edit{
		{"../join.go", "append(slices.Clone(joins[i].ON.Exprs), on)", "append(slices.Clone(joins[i].ON.Exprs), on)[:len(joins[i].ON.Exprs)]"},
	}, nil},
	{"the tenant condition is joined to an OR", []edit{
		{"../where.go", "if !slices.ContainsFunc(w.exprs, mayHoldOr) {", "if true {"},
	}, nil},
	{"a statement that a hook follows is sent alone", []edit{
		{"../autocommit.go", "return plain && !hooked(db.Statement, chain.op) &&", "return plain &&"},
	}, nil},
	{"a statement that another plugin follows is sent alone", []edit{
		{"../autocommit.go", "readsSafely(db, chain.op) &&\n\t\t\tchain.isGORMs()", "readsSafely(db, chain.op)"},
	}, nil},
	{"the answer to another tenant's statement is read", []edit{
		{"guard/prefix.go", "return len(row) > 0 && bytes.Equal(row[0], s.params[0])", "return len(row) > 0 || bytes.Equal(row[0], s.params[0])"},
	}, nil},
	{"a pool is taken over while it is in use", []edit{
		{"private/pool.go", "if *f.numOpen != 0 || *f.closed {", "if *f.closed {"},
		{"guard/takeover.go", "if db.Stats().InUse > 0 {", "if false {"},
	}, nil},
	{"another tenant's context is let into a transaction", []edit{
		{"guard/scope.go", "return scope{}, errForeignTx", "return scope{tenant: d.tenant}, nil"},
	}, nil},
	{"another tenant's context inherits in a transaction", []edit{
		{"guard/scope.go", "return scope{}, errForeignTx", "return c.tx.scope, nil"},
	}, nil},
	{"a bypass needs no mark", []edit{
		{"guard/scope.go", `case mark == nil || mark.Reason == "":`, `case mark == nil: return scope{bypass: &Bypass{}}, nil` + "\n\tcase mark.Reason == \"\":"},
	}, nil},
	{"a read-only bypass may write", []edit{
		{"guard/scope.go", "func (s scope) readOnly() bool { return s.bypass != nil && s.bypass.ReadOnly }", "func (s scope) readOnly() bool { return false }"},
	}, nil},
	{"a transaction that raw SQL has ended goes on", []edit{
		{"guard/send.go", "if c.tx != nil && (c.tx.ended || wasIdle && c.tx.begun) {", "if false {"},
	}, nil},
	{"driver.ErrBadConn after something was sent", []edit{
		{"guard/errors.go", " && !errors.Is(err, pgconn.ErrConnClosed)", ""},
	}, nil},
	{"a statement is prepared again within a transaction", []edit{
		{"guard/send.go", "if c.shouldResend(q, err) && wasIdle {", "if c.shouldResend(q, err) {"},
	}, nil},
	{"Close of rows does not read to the end", []edit{
		{"guard/rows.go", "if !r.ended {\n\t\t_ = r.use(ending)", "if false {\n\t\t_ = r.use(ending)"},
	}, nil},
	{"a connection is given back in whatever state", []edit{
		{"guard/conn.go", "return !pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() == idle", "return pg.TxStatus() != '?' || idle == 0"},
	}, nil},
	{"a lost transaction is taken for committed", []edit{
		{"guard/tx.go", "case !t.begun && t.failed:", "case false:"},
	}, nil},
	{"a connection that was given back is used again", []edit{
		{"guard/conn.go", "c.borrowed, c.state, c.task = nil, nil, nil", "c.state, c.task = nil, nil"},
	}, nil},
	{"what is known of a connection outlives giving it back", []edit{
		{"guard/conn.go", "c.borrowed, c.state, c.task = nil, nil, nil", "c.borrowed, c.task = nil, nil"},
	}, nil},
	{"a connection is not given back after use", []edit{
		{"guard/conn.go", "return c.release() == nil && c.tx == nil", "return c.tx == nil"},
	}, nil},
	{"a backslash is not quoted", []edit{
		{"sqltext/literal.go", `if strings.Contains(s, ` + "`\\`" + `) {`, `if false {`},
	}, nil},
	{"the cleaning leaves the role", []edit{
		{"guard/session.go", "`SET SESSION AUTHORIZATION DEFAULT`, `SET ROLE NONE`, ", ""},
	}, nil},
	{"the cleaning leaves settings", []edit{
		{"guard/session.go", "`RESET ALL`, ", ""},
	}, nil},
	{"the cleaning leaves cursors", []edit{
		{"guard/session.go", "`CLOSE ALL`, ", ""},
	}, nil},
	{"the cleaning leaves channels", []edit{
		{"guard/session.go", "`UNLISTEN *`, ", ""},
	}, nil},
	{"the cleaning leaves temporary objects", []edit{
		{"guard/session.go", "`DISCARD TEMP`, ", ""},
	}, nil},
	{"the cleaning leaves sequences", []edit{
		{"guard/session.go", ", `DISCARD SEQUENCES`", ""},
	}, nil},
	{"the cleaning leaves the seed", []edit{
		{"guard/session.go", "pg_catalog.setseed(%.17f)", "%.17f"},
	}, nil},
	{"the cleaning leaves advisory locks", []edit{
		{"guard/session.go", "if !keepLocks {", "if false {"},
	}, nil},
	{"the cleaning leaves what SQL has prepared", []edit{
		{"guard/session.go", "pg_catalog.pg_prepared_statement() WHERE from_sql)`+", "pg_catalog.pg_prepared_statement() WHERE false)`+"},
	}, nil},
	{"the cleaning does not bring back what a connect hook has set", []edit{
		{"guard/session.go", "all = append(all, s.baseline.restore...)", "_ = all"},
	}, nil},
	{"a used session is not cleaned", []edit{
		{"guard/send.go", "\tc.dirty = true\n\tif q.plain", "\tif q.plain"},
	}, nil},
	{"a session is not cleaned for another tenant of its holder", []edit{
		{"guard/send.go", "case c.dirty && c.servedTenant != q.scope.tenant:", "case false:"},
	}, nil},
	{"a session is not looked at", []edit{
		{"guard/scopesql.go", "`CASE WHEN ` + problem + ` THEN ` + uncleanMarkSQL + ` ELSE ` + setting + ` END`", "setting"},
	}, nil},
	{"a connection is kept after 53200", []edit{
		{"guard/call.go", `case state == "53200", state == "53300", strings.HasPrefix(state, "XX"):`, `case state == "mutation":`},
	}, nil},
	{"a text that calls a function is taken for quiet", []edit{
		{"guard/text.go", "return harmless[strings.ToLower(last.text)]", "return true"},
	}, nil},
	{"an unknown statement is sent again, also if the server does not say so", []edit{
		{"guard/errors.go", `pgErr.Routine == routine && pgErr.Where == ""`, `pgErr.Routine != routine+"?"`},
	}, nil},
	{"an error from within a function counts for the server's own", []edit{
		{"guard/errors.go", `pgErr.Routine == routine && pgErr.Where == ""`, `pgErr.Routine == routine`},
	}, nil},
	{"an error with any routine counts for the server's own", []edit{
		{"guard/errors.go", `pgErr.Routine == routine && pgErr.Where == ""`, `pgErr.Where == ""`},
	}, nil},
	{"what has run is run again when it cannot run in a transaction", []edit{
		{"guard/send.go", "if completed == 0 && c.needsNoTransaction(q, err) {", "if completed >= 0 && c.needsNoTransaction(q, err) {"},
	}, nil},
	{"CALL may commit", []edit{
		{"guard/send.go", "return q.class == utility && c.tx == nil", "return q.class == control && c.tx == nil"},
	}, nil},
	{"a chain is not noticed", []edit{
		{"guard/call.go", "c.tx.ended = true\n\t\t}\n\tcase \"RESET\"", "c.tx.ended = false\n\t\t}\n\tcase \"RESET\""},
		{"guard/session.go", `endedMark    = "tenancy.transaction_was_ended"`, `endedMark    = "application_name"`},
	}, nil},
	{"a deferred trigger runs for the tenant that SQL has named", []edit{
		{"guard/tx.go", `if command == "commit" && !aborted(pc) {`, `if command == "mutation" && !aborted(pc) {`},
	}, nil},
	{"a proof is not asked again", []edit{
		{"guard/origin.go", "> int64(p.Valid) }", "> int64(p.Valid)+int64(1<<62) }"},
	}, nil},
	{"a proof is of a name", []edit{
		{"guard/prefix.go", "return c.named || c.otherPath || !c.isAbout(proof)", "return false"},
	}, nil},
	{"an exchanged context is sent", []edit{
		{"guard/call.go", "q.origin != nil && q.origin.Changed(ctx)", "q.origin != nil && false"},
	}, nil},
	{"a panic of the application's code is let through", []edit{
		{"guard/errors.go", "p := recover()", "p := any(nil)"},
	}, nil},
}
