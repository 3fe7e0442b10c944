package main

// mutation is one way to break the guard.
type mutation struct {
	name  string
	edits []edit
}

// edit replaces text in a file of internal/guard. The old text must be there exactly once.
type edit struct{ file, old, new string }

const afterPlaceholder = `pg_catalog.set_config($1, $2, true)`

// mutations are what the tests must notice.
var mutations = []mutation{
	{"bypass does not reset the tenant", []edit{
		{
			"prefix.go", `[]byte(cfg.Setting), []byte(s.tenant)`,
			`[]byte(map[bool]string{false: cfg.Setting, true: "mutation.tenant"}[s.bypass != nil]), []byte(s.tenant)`,
		},
		{
			"prefix.go", `text = "SET LOCAL " + setting`,
			"if s.bypass != nil {\n\t\tsetting = \"mutation.tenant\"\n\t}\n\ttext = \"SET LOCAL \" + setting",
		},
	}},
	{"nothing is asserted again within a transaction", []edit{
		{"send.go", "if !aborted(pc) {\n\t\tparams", "if !aborted(pc) && !(c.tx != nil && c.tx.begun) {\n\t\tparams"},
		{"send.go", "if !aborted(pc) {\n\t\tvar text", "if !aborted(pc) && !(c.tx != nil && c.tx.begun) {\n\t\tvar text"},
		{"describe.go", "asserts := !aborted(pc)", "asserts := !aborted(pc) && !(c.tx != nil && c.tx.begun)"},
	}},
	{"an aborted transaction is asserted, too", []edit{
		{"send.go", `{ return pc.PgConn().TxStatus() == 'E' }`, `{ return pc.PgConn().TxStatus() == '?' }`},
	}},
	{"the outcome after the last row is not read", []edit{
		{"send.go", "if restErr := a.rest.Close(); err == nil {", "if restErr := a.rest.Close(); err != nil {"},
	}},
	{"a commit that rolled back is taken for one", []edit{
		{"tx.go", `tag.String() == "ROLLBACK"`, `tag.String() == "MUTATION"`},
	}},
	{"the setting is not local", []edit{
		{"prefix.go", "`SELECT " + afterPlaceholder, "`SELECT pg_catalog.set_config($1, $2, false)"},
		{"prefix.go", `text = "SET LOCAL " + setting`, `text = "SET " + setting`},
	}},
	{"the role is not local", []edit{
		{"prefix.go", `pg_catalog.set_config('role', $3, true)`, `pg_catalog.set_config('role', $3, false)`},
		{"prefix.go", `"; SET LOCAL ROLE "`, `"; SET ROLE "`},
	}},
	{"the role is not asserted where it is the login's", []edit{
		{"prefix.go", `OPERATOR(pg_catalog.<>) $3 THEN`, `OPERATOR(pg_catalog.<>) $3 AND $3 OPERATOR(pg_catalog.<>) 'none' THEN`},
		{
			"prefix.go", `"; SET LOCAL ROLE " + role + "; "`,
			`map[bool]string{true: "; SET LOCAL mutation.role = x; ", false: "; SET LOCAL ROLE " + role + "; "}[role == noRole]`,
		},
	}},
	{"statements of the same beginning share a name", []edit{
		{"cache.go", `sha256.Sum256([]byte(sql))`, `sha256.Sum256([]byte(sql[:min(len(sql), 12)]))`},
	}},
	{"connections share a cache", []edit{
		{"conn.go", `newCache(cfg.StatementCacheCapacity)`, `mutant`},
		{"conn.go", `const stateKey =`, "var mutant = newCache(512)\n\nconst stateKey ="},
	}},
	{"a description is kept under another statement's text", []edit{
		{"cache.go", "e := c.bySQL[sql]\n\tif e == nil {\n\t\treturn nil\n\t}\n\tc.order.MoveToFront(e)", "e := c.bySQL[sql]\n\tif e == nil {\n\t\te = c.order.Front()\n\t}\n\tif e == nil {\n\t\treturn nil\n\t}\n\tc.order.MoveToFront(e)"},
	}},
	{"WithoutTenant does not reset", []edit{
		{"send.go", "if !aborted(pc) {\n\t\tparams", "if !aborted(pc) && (q.scope != scope{}) {\n\t\tparams"},
		{"send.go", "if !aborted(pc) {\n\t\tvar text", "if !aborted(pc) && (q.scope != scope{}) {\n\t\tvar text"},
		{"describe.go", "asserts := !aborted(pc)", "asserts := !aborted(pc) && (q.scope != scope{})"},
	}},
	{"a context without a tenant is let through", []edit{
		{"scope.go", "return scope{}, ErrNoTenant\n\tcase c.tx == nil:", "return scope{}, nil\n\tcase c.tx == nil:"},
	}},
	{"another tenant's context is let into a transaction", []edit{
		{"scope.go", "return scope{}, errForeignTx", "return scope{tenant: d.tenant}, nil"},
	}},
	{"another tenant's context inherits in a transaction", []edit{
		{"scope.go", "return scope{}, errForeignTx", "return c.tx.scope, nil"},
	}},
	{"a bypass needs no mark", []edit{
		{"scope.go", `case mark == nil || mark.Reason == "":`, `case mark == nil: return scope{bypass: &Bypass{}}, nil` + "\n\tcase mark.Reason == \"\":"},
	}},
	{"a read-only bypass may write", []edit{
		{"prefix.go", "if s.readOnly() {\n\t\treturn assertReadOnlySQL", "if false {\n\t\treturn assertReadOnlySQL"},
		{"prefix.go", "if s.readOnly() {\n\t\treturn text", "if false {\n\t\treturn text"},
	}},
	{"a transaction that raw SQL has ended goes on", []edit{
		{"send.go", "if wasIdle && c.tx != nil && c.tx.begun {", "if false {"},
	}},
	{"driver.ErrBadConn after something was sent", []edit{
		{"errors.go", " && !errors.Is(err, pgconn.ErrConnClosed)", ""},
	}},
	{"a statement is prepared again within a transaction", []edit{
		{"send.go", "if c.forgetAfter(q, err) && wasIdle {", "if c.forgetAfter(q, err) {"},
	}},
	{"Close of rows does not read to the end", []edit{
		{"rows.go", "if !r.ended {\n\t\t_ = r.conn.use", "if false {\n\t\t_ = r.conn.use"},
	}},
	{"a connection is given back in whatever state", []edit{
		{"conn.go", "return !pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() == idle", "return pg.TxStatus() != '?' || idle == 0"},
	}},
	{"a lost transaction is taken for committed", []edit{
		{"tx.go", "case !t.begun && t.failed:", "case false:"},
	}},
	{"a backslash is not quoted", []edit{
		{"prefix.go", `if strings.Contains(s, ` + "`\\`" + `) {`, `if false {`},
	}},
	{"a panic of the application's code is let through", []edit{
		{"errors.go", "if p := recover(); p != nil {", "if p := any(nil); p != nil {"},
	}},
}
