package check

// temporary is the database, in which the application may make temporary tables.
type temporary struct{ grant }

func (t temporary) String() string { return "database " + t.Name }

// PUBLIC has the privilege on each new database (https://www.postgresql.org/docs/current/ddl-priv.html).
var temporaryQuery = `
SELECT json_agg(json_build_object('kind', 'DATABASE', 'name', quote_ident(d.datname), 'grantees', g.names))
FROM pg_database d
CROSS JOIN LATERAL (SELECT ` + granted("coalesce(d.datacl, acldefault('d', d.datdba))", "d.datdba", "TEMPORARY") + ` AS names) g
WHERE d.datname = current_database() AND g.names IS NOT NULL AND EXISTS (SELECT FROM tenants)`

var temporaryRules = []rule[temporary]{{
	code: TemporaryTables, severity: Info,
	found: func(*checker, temporary) bool { return true },
	problem: "A temporary table hides the table of its name for the rest of the session. The plugin removes it before another tenant has the " +
		"connection; clients without the plugin keep it.",
	by:  func(t temporary) []string { return t.Grantees },
	fix: func(_ *checker, t temporary) []string { return append([]string{asSuperuser}, t.revoke("TEMPORARY")...) },
}}
