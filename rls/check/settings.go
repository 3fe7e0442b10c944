package check

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// setting is one that connections of the application start with, by ALTER ROLE or ALTER DATABASE, and with whose value isolation
// does not work. The value stays on the server: it may be a tenant's id.
type setting struct {
	Name           string
	Role, Database string // for which it is; empty for all
}

const settingsQuery = `
SELECT json_agg(json_build_object('name', s.name, 'role', coalesce(r.rolname, ''), 'database', coalesce(d.datname, ''))
	ORDER BY s.name, r.rolname, d.datname)
FROM (
	SELECT c.setrole, c.setdatabase, v.name, CASE lower(v.name)
		WHEN 'row_security' THEN NOT v.value::bool
		WHEN 'session_replication_role' THEN lower(v.value) = 'replica'
		WHEN 'client_encoding' THEN pg_char_to_encoding(v.value::name) <> pg_char_to_encoding('UTF8')
		WHEN 'role' THEN v.value NOT IN ('none', $2)
		WHEN 'search_path' THEN EXISTS (
			SELECT FROM regexp_split_to_table(v.value, '\s*,\s*') WITH ORDINALITY e (name, n) WHERE btrim(e.name, '"') = 'pg_catalog' AND n > 1)
		WHEN lower($10) THEN v.value <> '' END AS wrong
	FROM app, pg_db_role_setting c, unnest(c.setconfig) given (text),
		LATERAL (SELECT split_part(given.text, '=', 1), substr(given.text, strpos(given.text, '=') + 1)) v (name, value)
	WHERE c.setrole IN (0, app.oid, (SELECT oid FROM pg_roles WHERE rolname = $9))
		AND c.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
) s
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE s.wrong`

// settingName quotes the name of a setting.
func settingName(name string) string { return sqltext.Ident(strings.Split(name, ".")...) }

func (s setting) String() string {
	switch {
	case s.Role != "" && s.Database != "":
		return fmt.Sprintf("setting %s of role %s in database %s", s.Name, s.Role, s.Database)
	case s.Role != "":
		return fmt.Sprintf("setting %s of role %s", s.Name, s.Role)
	case s.Database != "":
		return fmt.Sprintf("setting %s of database %s", s.Name, s.Database)
	}
	return fmt.Sprintf("setting %s of all roles", s.Name)
}

var settingRules = []rule[setting]{{
	code: SettingUnsafe, severity: High,
	found: func(*checker, setting) bool { return true },
	problem: "Connections of the application start with it, so that statements outside of the plugin run for a tenant, in a " +
		"role, or by rules that the caller has not chosen.",
	fix: func(_ *checker, s setting) []string {
		name := settingName(s.Name)
		switch {
		case s.Role != "" && s.Database != "":
			return []string{asSuperuser, fmt.Sprintf("ALTER ROLE %s IN DATABASE %s RESET %s", sqltext.Ident(s.Role), sqltext.Ident(s.Database), name)}
		case s.Role != "":
			return []string{asSuperuser, fmt.Sprintf("ALTER ROLE %s RESET %s", sqltext.Ident(s.Role), name)}
		case s.Database != "":
			return []string{asSuperuser, fmt.Sprintf("ALTER DATABASE %s RESET %s", sqltext.Ident(s.Database), name)}
		}
		return []string{asSuperuser, "ALTER ROLE ALL RESET " + name}
	},
}}
