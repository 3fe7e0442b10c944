package guard

import (
	"cmp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// The texts of the statements that set the scope. The tenant's id is always their first parameter; the pool's setting and role
// are constants in them. Setting the scope is most of what the guard costs, so the texts are short, with few parameters and one
// column.

// scopeSQL holds the texts of one pool.
type scopeSQL struct {
	clean     [2][3][2]string // by readOnly, correction, temporary
	dirty     string          // up to the condition on which the role is set
	dirtyEnd  string
	procedure string // for a CALL that may commit, with what is said as its parameter
	control   string // up to the tenant's id, as a constant
	role      string
}

const (
	tenantParam = "$1"
	// pathParam is the search_path that the session should have, or NULL if it is not known yet.
	pathParam = "$2"
	// markParam is the mark of the transaction in a dirty session, or NULL if it has none yet.
	markParam = "$2"
	// proofParam is the proof of the tenant. Texts have it where statements carry one.
	proofParam = "$3"
)

const (
	// differsSQL is true if names in the session may mean other objects than at its beginning.
	differsSQL = `pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) ` + pathParam + ` OR ` + temporarySQL

	temporarySQL = `pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid`

	// hasTemporarySQL is for sessions that had temporary objects: their temporary schema stays, and may be empty.
	hasTemporarySQL = ` AND EXISTS (SELECT FROM pg_catalog.pg_depend` +
		` WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass` +
		` AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())`

	uncleanMarkSQL = `'` + uncleanMark + `'`

	// endedSQL raises an error if SQL of the caller has ended the transaction, and perhaps begun another.
	endedSQL = `CASE WHEN coalesce(pg_catalog.current_setting('` + txSetting + `', true), '') OPERATOR(pg_catalog.<>) ` + markParam +
		` THEN pg_catalog.current_setting('` + endedMark + `') END`

	// takenRoleSQL keeps a role that SQL of the caller has set on purpose, to have fewer rights: to set the pool's role again
	// would give it more. It keeps the role if it is not the login's own, is exempt from no policy, and no policy applies to it
	// but those for PUBLIC.
	takenRoleSQL = ` AND (pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) 'none'` +
		` OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND (rolsuper OR rolbypassrls))` +
		` OR EXISTS (SELECT FROM pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) r (role)` +
		` WHERE r.role OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND pg_catalog.pg_has_role(current_user, r.role, 'USAGE'))` +
		` OR EXISTS (SELECT FROM pg_catalog.pg_class` +
		` WHERE relrowsecurity AND NOT relforcerowsecurity AND pg_catalog.pg_has_role(current_user, relowner, 'USAGE')))`

	// dirtyTemporarySQL is added in a dirty session that has not been checked yet: the first SQL of the caller took no snapshot,
	// so it was no SELECT and made no table.
	dirtyTemporarySQL = `, CASE WHEN ` + temporarySQL + hasTemporarySQL + ` THEN pg_catalog.current_setting(` + uncleanMarkSQL + `) END`

	// readOnlySQL ends the SELECT. The SELECT takes a snapshot, which makes the setting final: PostgreSQL lets a transaction
	// become writable only before its first query (https://www.postgresql.org/docs/current/sql-set-transaction.html).
	readOnlySQL = `, pg_catalog.set_config('transaction_read_only', 'on', true)`
)

// txSetting marks a transaction of the guard in which SQL of the caller runs. It is local to the transaction, so that it is
// missing after a COMMIT AND CHAIN.
const txSetting = "tenancy.transaction"

// noRole is PostgreSQL's name for the login's own role.
const noRole = "none"

// roleOf returns the role that a statement runs under; empty means that of the login.
func (cfg Config) roleOf(s scope) string {
	if s.observed {
		return ""
	}
	if s.lookup && cfg.LookupRole != "" {
		return cfg.LookupRole
	}
	return cfg.Role
}

// scopeSQLOf returns the texts that set a scope.
func (c *conn) scopeSQLOf(s scope) *scopeSQL {
	if s.observed {
		return &c.pool.observedSQL
	}
	if s.lookup && c.cfg.LookupRole != "" {
		return &c.pool.lookupSQL
	}
	return &c.pool.scopeSQL
}

// newScopeSQL makes the texts for statements under a role; empty means that of the login.
func newScopeSQL(cfg Config, roleName string) scopeSQL {
	setting, role := sqltext.Literal(cfg.Setting), sqltext.Literal(cmp.Or(roleName, noRole))
	s := scopeSQL{role: "SET LOCAL ROLE " + noRole}
	if roleName != "" {
		s.role = "SET LOCAL ROLE " + pgx.Identifier{roleName}.Sanitize()
	}
	s.control = "SET LOCAL " + pgx.Identifier(strings.Split(cfg.Setting, ".")).Sanitize() + " = "
	s.procedure = `SELECT pg_catalog.set_config(` + setting + `, '', false), pg_catalog.set_config('role', 'none', false)`

	signed := ""
	if cfg.signs() {
		proof := sqltext.Literal(cfg.Setting + signing.ProofSuffix)
		signed = `, pg_catalog.set_config(` + proof + `, ` + proofParam + `, true)`
		s.procedure += `, pg_catalog.set_config(` + proof + `, '', false)`
	}
	s.procedure += lastingSaidSQL
	otherRole := `current_user OPERATOR(pg_catalog.<>) ` + role
	if roleName == "" {
		otherRole = `current_user OPERATOR(pg_catalog.<>) session_user`
	}
	setRole := `, pg_catalog.set_config('role', ` + role + `, true)`

	setTenant := func(name string) string {
		return `SELECT pg_catalog.set_config(` + name + `, ` + tenantParam + `, true)` + signed
	}

	s.dirty = setTenant(setting) + `, ` + endedSQL + `, CASE`
	if cfg.Citus {
		s.dirty += foreignRoleSQL(role)
	}
	s.dirty += ` WHEN ` + otherRole
	s.dirtyEnd = ` THEN pg_catalog.set_config('role', ` + role + `, true) END`

	for temporary, has := range []string{"", hasTemporarySQL} {
		// A check that fails sets, in place of the tenant, a setting that cannot exist, which raises an error. That is for the server
		// less work than to call a function that raises it.
		checked := func(problem string) string {
			return setTenant(`CASE WHEN ` + problem + ` THEN ` + uncleanMarkSQL + ` ELSE ` + setting + ` END`)
		}
		asBegun := checked(otherRole + ` OR ` + differsSQL + has)
		withRole := checked(differsSQL+has) + setRole
		withAll := withRole + `, pg_catalog.set_config('row_security', 'on', true)`
		for readOnly, end := range []string{"", readOnlySQL} {
			for correction, sql := range [...]string{noCorrection: asBegun, correctRole: withRole, correctAll: withAll} {
				s.clean[readOnly][correction][temporary] = sql + end
			}
		}
	}
	return s
}

// correction is what the statement that sets the scope also sets, because the session does not begin with it.
type correction uint8

const (
	noCorrection correction = iota
	correctRole             // the pool's role, where the session begins with another one or statements change their role
	correctAll              // also row_security, which ALTER ROLE can turn off for a login
)

// inClean is for a clean session. It also checks that the session is clean: functions that triggers and policies call can change
// it without the guard noticing. It does not check row_security, because PostgreSQL itself refuses each statement that a policy would
// filter where that is off: see rowSecurityOff.
func (s *scopeSQL) inClean(readOnly bool, corrects correction, temporary bool) string {
	return s.clean[index(readOnly)][corrects][index(temporary)]
}

// inDirty is for a session in which SQL of the caller has run since the connection was borrowed.
func (s *scopeSQL) inDirty(readOnly, namedRole, looks bool) string {
	sql := s.dirty
	if namedRole {
		sql += takenRoleSQL
	}
	sql += s.dirtyEnd
	if looks {
		sql += dirtyTemporarySQL
	}
	if readOnly {
		sql += readOnlySQL
	}
	return sql
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}
