package main

import "slices"

const (
	byFunctions = "tests/signing TestFunctions"
	bySigned    = "tests/signing TestSigned|TestProof|TestRotation|TestSimple"
)

// signingMutations break the signature: each condition of the functions that verify, what is signed, and the wall around them.
var signingMutations = slices.Concat([]mutation{
	{"a proof needs no digest", []edit{
		{"signing/sql.go", "RETURN CASE WHEN pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.substr(proof, 1, 64)", "RETURN CASE WHEN true OR pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.substr(proof, 1, 64)"},
	}, []string{byFunctions}},
	{"a proof of one kind is good for another", []edit{
		{"signing/sql.go", "CASE WHEN pg_catalog.substr(head, 1, 2) OPERATOR(pg_catalog.=) '@kind'", "CASE WHEN '@kind' OPERATOR(pg_catalog.<>) ''"},
	}, []string{byFunctions}},
	{"a proof does not expire", []edit{
		{"signing/sql.go", "pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.<=)", "pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.<>)"},
	}, []string{byFunctions}},
	{"a proof from before the server's start is good", []edit{
		{"signing/sql.go", "pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.<=)", "pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.<>)"},
	}, []string{byFunctions}},
	{"a proof is good in each process", []edit{
		{"signing/sql.go", "THEN pg_catalog.pg_backend_pid() END", "THEN NULL END"},
		{"signing/proof.go", "message = strconv.AppendUint(message, uint64(c.Process), 10)", "_ = c.Process"},
	}, []string{byFunctions}},
	{"a proof is good for each login", []edit{
		{"signing/sql.go", "pg_catalog.octet_length(session_user::pg_catalog.text), '|',", "'0', '|',"},
		{"signing/sql.go", "setting, '|', session_user, tenant)", "setting, '|', tenant)"},
		{"signing/proof.go", "int64(len(c.Login))", "0"},
		{"signing/proof.go", "message = append(message, c.Login...)\n", ""},
	}, []string{byFunctions}},
	{"a proof is good for each setting", []edit{
		{"signing/sql.go", "setting, '|', session_user, tenant)", "'|', session_user, tenant)"},
		{"signing/proof.go", "message = append(message, c.Setting...)\n", ""},
	}, []string{byFunctions}},
	{"a proof is good for each tenant", []edit{
		{"signing/sql.go", "setting, '|', session_user, tenant)", "setting, '|', session_user)"},
		{"signing/proof.go", "return append(message, c.Tenant...)", "return message"},
	}, []string{byFunctions}},
	{"a tenant needs no proof", []edit{
		{"signing/sql.go", `source(Tenant, "tenant", "")}`, `source(Tenant, "tenant", "tenant")}`},
	}, []string{byFunctions}},
	{"a lookup needs no proof", []edit{
		{"signing/sql.go", `source(Lookup, "true", "")}`, `source(Lookup, "true", "true")}`},
	}, []string{byFunctions}},
	{"the functions that verify look names up in the search_path", []edit{
		{"signing/sql.go", "RETURN CASE WHEN pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.substr(proof, 1, 64), 'UTF8')) OPERATOR(pg_catalog.=)", "RETURN CASE WHEN pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.substr(proof, 1, 64), 'UTF8')) ="},
	}, []string{byFunctions}},
	{"a third key is accepted", []edit{
		{"signing/sql.go", "FROM tenancy_signed.keys) OPERATOR(pg_catalog.>=) 2 THEN", "FROM tenancy_signed.keys) OPERATOR(pg_catalog.>=) 200 THEN"},
	}, []string{"tests/signing TestAddKey"}},
	{"all may read the keys", []edit{
		{"signing/sql.go", `fmt.Sprintf("REVOKE ALL ON TABLE %s.keys FROM PUBLIC", Schema)`, `fmt.Sprintf("GRANT SELECT ON TABLE %s.keys TO PUBLIC", Schema)`},
	}, []string{"tests/signing TestKeysAreOutOfReach"}},

	{"a proof is not renewed", []edit{
		{"guard/signed.go", "found && clock.Now().Before(known.Renew) && ", "found && "},
	}, []string{bySigned}},
	{"a proof by a key that has been replaced is sent", []edit{
		{"guard/signed.go", " && c.cfg.Signer.Signs(known.Key) {", " {"},
	}, []string{bySigned}},
	{"a proof is kept for another tenant", []edit{
		{"guard/signed.go", "kind: signing.Tenant, tenant: s.tenant}", "kind: signing.Tenant}"},
	}, []string{bySigned}},
	{"a proof that expires before the commit is not renewed", []edit{
		{"guard/signed.go", "return c.cfg.signs() && !c.provedUntil.IsZero() &&", "return false &&"},
	}, []string{bySigned}},
	{"a proof is not local", []edit{
		{"guard/scopesql.go", "signed = `, pg_catalog.set_config(` + proof + `, ` + proofParam + `, true)`", "signed = `, pg_catalog.set_config(` + proof + `, ` + proofParam + `, false)`"},
	}, []string{bySigned}},
	{"EXPLAIN of a signed tenant is sent", []edit{
		{"guard/send.go", "if c.explains(q) {", "if false {"},
	}, []string{bySigned}},
	{"an unbound proof is made for a connection without a process", []edit{
		{"signing/signer.go", "case c.Process == 0:\n\t\treturn Signed{}, errors.New(\"the connection does not say", "case false:\n\t\treturn Signed{}, errors.New(\"the connection does not say"},
	}, []string{"internal/signing Test", bySigned}},
	{"an empty tenant is signed", []edit{
		{"signing/signer.go", `case c.Kind == Tenant && c.Tenant == "":`, "case false:"},
	}, []string{"internal/signing Test", bySigned}},
	{"a key signs before it is valid", []edit{
		{"signing/signer.go", "key, found := newest(ring.keys, now)\n\tif !found {\n\t\treturn Signed{}", "key, found := newest(ring.keys, now.AddDate(100, 0, 0))\n\tif !found {\n\t\treturn Signed{}"},
	}, []string{"internal/signing Test", bySigned}},
	{"functions of another source count for ours", []edit{
		{"signing/sql.go", "` AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(f.prosrc, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) ours.digest` +", "` AND ours.digest OPERATOR(pg_catalog.<>) ''` +"},
	}, []string{"tests/signing TestWall|TestMigrate|TestGuard|TestCheck|TestSetup"}},
	{"functions of another role count for ours", []edit{
		{"signing/sql.go", "` AND n.nspowner OPERATOR(pg_catalog.=) f.proowner` +", "` AND n.nspowner OPERATOR(pg_catalog.<>) 0::pg_catalog.oid` +"},
		{"signing/sql.go", "` AND k.relkind OPERATOR(pg_catalog.=) 'r' AND k.relowner OPERATOR(pg_catalog.=) f.proowner` +", "` AND k.relkind OPERATOR(pg_catalog.=) 'r'` +"},
	}, []string{"tests/signing TestWall|TestMigrate|TestGuard|TestCheck|TestSetup"}},
	{"functions with settings count for ours", []edit{
		{"signing/sql.go", "f.prosecdef AND f.proconfig IS NULL AND f.provolatile", "f.prosecdef AND f.provolatile"},
	}, []string{"tests/signing TestWall"}},
	{"functions of a role that can log in count for ours", []edit{
		{"signing/sql.go", "AND NOT (SELECT r.rolcanlogin FROM", "AND NOT (SELECT r.rolcanlogin AND false FROM"},
	}, []string{"tests/signing TestWall"}},
}, wallMutations())

// wallMutations leave out each right that the login must not have.
func wallMutations() (all []mutation) {
	for _, code := range []string{
		"signed-functions-differ", "signed-keys-reachable", "signed-role-unbound", "signed-role-predefined", "signed-role-exempt", "signed-owns", "signed-create",
		"signed-rights-without-policy", "signed-temporary", "signed-statements-recorded", "signed-large-objects", "signed-statements-visible",
	} {
		all = append(all, mutation{"the wall has no " + code, []edit{
			{"signing/wall.go", "for n, r := range Wall {\n", "for n, r := range Wall {\n\t\tif r.Code == \"" + code + "\" {\n\t\t\tcontinue\n\t\t}\n"},
		}, []string{"tests/signing TestWall|TestStatementsThatAreVisible|TestLargeObjects"}})
	}
	return all
}
