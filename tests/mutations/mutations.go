package main

// mutation is one way to break the guard.
type mutation struct {
	name  string
	edits []edit
}

// edit replaces text in a file, named from internal. The old text must be there exactly once.
type edit struct{ file, old, new string }

const afterPlaceholder = `pg_catalog.set_config($1, $2, true)`

// mutations are what the tests must notice.
var mutations = []mutation{
	{"bypass does not reset the tenant", []edit{
		{
			"guard/prefix.go", `[]byte(cfg.Setting), []byte(s.tenant)`,
			`[]byte(map[bool]string{false: cfg.Setting, true: "mutation.tenant"}[s.bypass != nil]), []byte(s.tenant)`,
		},
		{
			"guard/prefix.go", `text = "SET LOCAL " + setting`,
			"if s.bypass != nil {\n\t\tsetting = \"mutation.tenant\"\n\t}\n\ttext = \"SET LOCAL \" + setting",
		},
	}},
	{"nothing is asserted again within a transaction", []edit{
		{"guard/send.go", "if !aborted(pc) {\n\t\tparams", "if !aborted(pc) && !(c.tx != nil && c.tx.begun) {\n\t\tparams"},
		{"guard/send.go", "if !aborted(pc) {\n\t\tvar text", "if !aborted(pc) && !(c.tx != nil && c.tx.begun) {\n\t\tvar text"},
		{"guard/describe.go", "asserts := !aborted(pc)", "asserts := !aborted(pc) && !(c.tx != nil && c.tx.begun)"},
	}},
	{"an aborted transaction is asserted, too", []edit{
		{"guard/send.go", `{ return pc.PgConn().TxStatus() == 'E' }`, `{ return pc.PgConn().TxStatus() == '?' }`},
	}},
	{"the outcome after the last row is not read", []edit{
		{"guard/send.go", "if restErr := a.rest.Close(); err == nil {", "if restErr := a.rest.Close(); err != nil {"},
	}},
	{"a commit that rolled back is taken for one", []edit{
		{"guard/tx.go", `tag.String() == "ROLLBACK"`, `tag.String() == "MUTATION"`},
	}},
	{"the setting is not local", []edit{
		{"guard/prefix.go", "`SELECT " + afterPlaceholder, "`SELECT pg_catalog.set_config($1, $2, false)"},
		{"guard/prefix.go", `text = "SET LOCAL " + setting`, `text = "SET " + setting`},
	}},
	{"the role is not local", []edit{
		{"guard/prefix.go", `pg_catalog.set_config('role', $3, true)`, `pg_catalog.set_config('role', $3, false)`},
		{"guard/prefix.go", `"; SET LOCAL ROLE "`, `"; SET ROLE "`},
	}},
	{"the role is not asserted where it is the login's", []edit{
		{"guard/prefix.go", `OPERATOR(pg_catalog.<>) $3 THEN`, `OPERATOR(pg_catalog.<>) $3 AND $3 OPERATOR(pg_catalog.<>) 'none' THEN`},
		{
			"guard/prefix.go", `"; SET LOCAL ROLE " + role + "; "`,
			`map[bool]string{true: "; SET LOCAL mutation.role = x; ", false: "; SET LOCAL ROLE " + role + "; "}[role == noRole]`,
		},
	}},
	{"statements of the same beginning share a name", []edit{
		{"guard/cache.go", `sha256.Sum256([]byte(sql))`, `sha256.Sum256([]byte(sql[:min(len(sql), 12)]))`},
	}},
	{"connections share a cache", []edit{
		{"guard/conn.go", `newCache(cfg.StatementCacheCapacity)`, `mutant`},
		{"guard/conn.go", `const stateKey =`, "var mutant = newCache(512)\n\nconst stateKey ="},
	}},
	{"a description is kept under another statement's text", []edit{
		{"guard/cache.go", "e := c.bySQL[sql]\n\tif e == nil {\n\t\treturn nil\n\t}\n\tc.order.MoveToFront(e)", "e := c.bySQL[sql]\n\tif e == nil {\n\t\te = c.order.Front()\n\t}\n\tif e == nil {\n\t\treturn nil\n\t}\n\tc.order.MoveToFront(e)"},
	}},
	{"WithoutTenant does not reset", []edit{
		{"guard/send.go", "if !aborted(pc) {\n\t\tparams", "if !aborted(pc) && (q.scope != scope{}) {\n\t\tparams"},
		{"guard/send.go", "if !aborted(pc) {\n\t\tvar text", "if !aborted(pc) && (q.scope != scope{}) {\n\t\tvar text"},
		{"guard/describe.go", "asserts := !aborted(pc)", "asserts := !aborted(pc) && (q.scope != scope{})"},
	}},
	{"a context without a tenant is let through", []edit{
		{"guard/scope.go", "return scope{}, ErrNoTenant\n\tcase c.tx == nil:", "return scope{}, nil\n\tcase c.tx == nil:"},
	}},
	{"another tenant's context is let into a transaction", []edit{
		{"guard/scope.go", "return scope{}, errForeignTx", "return scope{tenant: d.tenant}, nil"},
	}},
	{"another tenant's context inherits in a transaction", []edit{
		{"guard/scope.go", "return scope{}, errForeignTx", "return c.tx.scope, nil"},
	}},
	{"a bypass needs no mark", []edit{
		{"guard/scope.go", `case mark == nil || mark.Reason == "":`, `case mark == nil: return scope{bypass: &Bypass{}}, nil` + "\n\tcase mark.Reason == \"\":"},
	}},
	{"a read-only bypass may write", []edit{
		{"guard/prefix.go", "if s.readOnly() {\n\t\treturn assertReadOnlySQL", "if false {\n\t\treturn assertReadOnlySQL"},
		{"guard/prefix.go", "if s.readOnly() {\n\t\treturn text", "if false {\n\t\treturn text"},
	}},
	{"a transaction that raw SQL has ended goes on", []edit{
		{"guard/send.go", "if wasIdle && c.tx != nil && c.tx.begun {", "if false {"},
	}},
	{"driver.ErrBadConn after something was sent", []edit{
		{"guard/errors.go", " && !errors.Is(err, pgconn.ErrConnClosed)", ""},
	}},
	{"a statement is prepared again within a transaction", []edit{
		{"guard/send.go", "if c.forgetAfter(q, err) && wasIdle {", "if c.forgetAfter(q, err) {"},
	}},
	{"Close of rows does not read to the end", []edit{
		{"guard/rows.go", "if !r.ended {\n\t\t_ = r.conn.use", "if false {\n\t\t_ = r.conn.use"},
	}},
	{"a connection is given back in whatever state", []edit{
		{"guard/conn.go", "return !pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() == idle", "return pg.TxStatus() != '?' || idle == 0"},
	}},
	{"a lost transaction is taken for committed", []edit{
		{"guard/tx.go", "case !t.begun && t.failed:", "case false:"},
	}},
	{"a connection that was given back is used again", []edit{
		{"guard/conn.go", "c.lent, c.state, c.task = nil, nil, nil", "c.state, c.task = nil, nil"},
	}},
	{"what is known of a connection outlives giving it back", []edit{
		{"guard/conn.go", "c.lent, c.state, c.task = nil, nil, nil", "c.lent, c.task = nil, nil"},
	}},
	{"a connection is not given back after use", []edit{
		{"guard/conn.go", "return c.giveBack() == nil && c.tx == nil", "return c.tx == nil"},
	}},
	{"a backslash is not quoted", []edit{
		{"sqltext/literal.go", `if strings.Contains(s, ` + "`\\`" + `) {`, `if false {`},
	}},
	{"a panic of the application's code is let through", []edit{
		{"guard/errors.go", "if p := recover(); p != nil {", "if p := any(nil); p != nil {"},
	}},
}
