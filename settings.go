package tenancy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// settingsSQL reads, as JSON, the settings that ALTER ROLE and ALTER DATABASE have given to the connections of the login, if
// isolation depends on them. Any login may give settings to itself (https://www.postgresql.org/docs/current/sql-alterrole.html),
// and they outlive the connection.
//
// A setting in the connection string overrides them, so what it overrides is left out. For the role and for settings without a
// definition, PostgreSQL does not say where a value comes from. The values stay on the server, because one of them may be a
// tenant's id.
const settingsSQL = `
(SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'name', s.name, 'role', s.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid,
        'database', s.setdatabase OPERATOR(pg_catalog.<>) 0::pg_catalog.oid, 'wrong', s.wrong)
    ORDER BY s.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid DESC, s.setdatabase OPERATOR(pg_catalog.<>) 0::pg_catalog.oid DESC)::pg_catalog.text
 FROM (SELECT c.setrole, c.setdatabase, v.name,
              CASE WHEN n.lower OPERATOR(pg_catalog.=) 'row_security' THEN NOT v.value::pg_catalog.bool
                   WHEN n.lower OPERATOR(pg_catalog.=) 'default_transaction_read_only' THEN v.value::pg_catalog.bool
                   WHEN n.lower OPERATOR(pg_catalog.=) 'session_replication_role' THEN pg_catalog.lower(v.value) OPERATOR(pg_catalog.=) 'replica'
                   WHEN n.lower OPERATOR(pg_catalog.=) 'client_encoding' THEN pg_catalog.pg_char_to_encoding(v.value::pg_catalog.name)
                                                       OPERATOR(pg_catalog.<>) pg_catalog.pg_char_to_encoding('UTF8')
                   WHEN n.lower OPERATOR(pg_catalog.=) 'role' THEN v.value OPERATOR(pg_catalog.<>) ALL (ARRAY['none', $3::pg_catalog.text])
                   WHEN n.lower OPERATOR(pg_catalog.=) pg_catalog.lower($2::pg_catalog.text) THEN v.value OPERATOR(pg_catalog.<>) ''
              END AS wrong
       FROM pg_catalog.pg_db_role_setting c,
            pg_catalog.unnest(c.setconfig) AS given (setting),
            LATERAL (SELECT pg_catalog.split_part(given.setting, '=', 1),
                            pg_catalog.substr(given.setting, pg_catalog.strpos(given.setting, '=') OPERATOR(pg_catalog.+) 1)) AS v (name, value),
            LATERAL (SELECT pg_catalog.lower(v.name)) AS n (lower)
       WHERE c.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, login.oid])
         AND (c.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR c.setdatabase OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                                    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))) AS s
 WHERE s.wrong IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings o
                   WHERE o.name OPERATOR(pg_catalog.=) pg_catalog.lower(s.name) AND o.source OPERATOR(pg_catalog.=) 'client'))`

// setting is a setting that ALTER ROLE or ALTER DATABASE has given to a login's connections.
type setting struct {
	Name           string
	Role, Database bool // whether it is for one role only, and for one database only
	Wrong          bool // whether isolation does not work with its value
}

// readOnlyByDefault may be intended, for the login of a replica.
const readOnlyByDefault = "default_transaction_read_only"

// problems says what happens to statements on connections that start with such a setting. Config.Setting is not among them.
var problems = map[string]string{
	"row_security":             "with row_security off, so that PostgreSQL refuses each statement on a tenant table",
	"session_replication_role": "with session_replication_role replica, so that no foreign key is checked",
	"client_encoding":          "with another client_encoding than UTF8, so that the server could read a tenant's id as another one",
	"role":                     "in another role, which raw SQL can return to",
	readOnlyByDefault:          "with default_transaction_read_only on, so that nothing can be written",
}

// checkSettings refuses a login whose connections start with settings that isolation does not work with, and warns of those that
// only keep it from writing. The JSON is the result of settingsSQL.
func (p *Plugin) checkSettings(ctx context.Context, login, database string, listed *string, rowSecurityOff bool) error {
	var all []setting
	if listed != nil {
		if err := json.Unmarshal([]byte(*listed), &all); err != nil {
			return fmt.Errorf("tenancy: ask PostgreSQL about the settings of the login: %w", err)
		}
	}
	var wrong []string
	for _, name := range []string{"row_security", "role", p.config.Setting, "session_replication_role", "client_encoding"} {
		if undo := resetSQL(all, name, login, database); undo != "" {
			problem := problems[name]
			if name == p.config.Setting {
				problem = "with a tenant in " + name
			}
			wrong = append(wrong, problem+": run "+undo)
			rowSecurityOff = rowSecurityOff && name != "row_security"
		}
	}
	if rowSecurityOff {
		wrong = append(wrong, problems["row_security"]+": take it out of the connection string, or out of the SQL that is run on "+
			"new connections")
	}
	if undo := resetSQL(all, readOnlyByDefault, login, database); undo != "" {
		p.config.Logger.WarnContext(ctx, "tenancy: connections of the login start "+problems[readOnlyByDefault],
			"login", login, "fix", undo)
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrapf(ErrUnsafeSettings, "connections of %s start %s", quote(login), strings.Join(wrong, "; and "))
}

// resetSQL returns the SQL that resets the wrong values of a setting, and "" if the value in effect is not wrong. The first one
// is in effect: PostgreSQL prefers that of a role in a database to the role's, and the role's to the database's.
func resetSQL(all []setting, name, login, database string) string {
	var (
		undo   []string
		counts *setting
		wrong  bool
	)
	for _, s := range all {
		if !strings.EqualFold(s.Name, name) {
			continue
		}
		if counts == nil {
			counts = &s
		}
		wrong = wrong || s.Wrong && s.Role == counts.Role && s.Database == counts.Database
		if s.Wrong {
			undo = append(undo, s.reset(login, database))
		}
	}
	if !wrong {
		return ""
	}
	return strings.Join(undo, "; ")
}

func (s setting) reset(login, database string) string {
	name := s.Name
	if name != strings.ToLower(name) {
		name = pgx.Identifier(strings.Split(name, ".")).Sanitize()
	}
	switch {
	case s.Role && s.Database:
		return fmt.Sprintf("ALTER ROLE %s IN DATABASE %s RESET %s", quote(login), quote(database), name)
	case s.Role:
		return fmt.Sprintf("ALTER ROLE %s RESET %s", quote(login), name)
	case s.Database:
		return fmt.Sprintf("ALTER DATABASE %s RESET %s", quote(database), name)
	default:
		return "ALTER ROLE ALL RESET " + name
	}
}
