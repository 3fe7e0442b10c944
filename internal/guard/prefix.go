package guard

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// What travels before every statement, in the same message flow and the same transaction.
//
// The tenant is set each time, and local to the transaction, so that nothing stays behind
// (https://www.postgresql.org/docs/current/functions-admin.html, set_config). The role is looked at, which costs the server
// less than to set it, for it is almost always the right one. The same statement looks whether the session is as it should
// be: functions that triggers and policies call can leave something without the guard noticing. A login that was altered to
// begin with row_security off, with which PostgreSQL refuses what a policy would filter, works on.
const (
	scopeSQL = `SELECT pg_catalog.set_config($1, $2, true),` +
		` CASE WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) $3 THEN pg_catalog.set_config('role', $3, true) END,` +
		` CASE WHEN pg_catalog.current_setting('row_security') OPERATOR(pg_catalog.<>) 'on'` +
		` THEN pg_catalog.set_config('row_security', 'on', true) END,` +
		` CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) $4` +
		` OR pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid`

	// hasTemporarySQL is for sessions that had temporary objects: their temporary schema stays, and is empty or not.
	hasTemporarySQL = ` AND EXISTS (SELECT FROM pg_catalog.pg_depend` +
		` WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass` +
		` AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())`

	scopeEndSQL = ` THEN pg_catalog.current_setting('` + uncleanMark + `') END`

	// usedScopeSQL is for sessions in which SQL of the caller has run since the connection was borrowed. It may have ended the
	// transaction, and begun another.
	usedScopeSQL = `SELECT pg_catalog.set_config($1, $2, true),` +
		` CASE WHEN coalesce(pg_catalog.current_setting('` + txSetting + `', true), '') OPERATOR(pg_catalog.<>) $4` +
		` THEN pg_catalog.current_setting('` + endedMark + `') END,` +
		` CASE WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) $3`

	// takenRoleSQL is for SQL of the caller that has named a role. One that it took on purpose, to have less rights, is kept:
	// to go back to ours would give it more. That is so where it is not the login's, and all policies that bind every role
	// bind it, and it has none of its own.
	takenRoleSQL = ` AND (pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) 'none'` +
		` OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND (rolsuper OR rolbypassrls))` +
		` OR EXISTS (SELECT FROM pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) r (role)` +
		` WHERE r.role OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND pg_catalog.pg_has_role(current_user, r.role, 'USAGE'))` +
		` OR EXISTS (SELECT FROM pg_catalog.pg_class` +
		` WHERE relrowsecurity AND NOT relforcerowsecurity AND pg_catalog.pg_has_role(current_user, relowner, 'USAGE')))`

	usedScopeEndSQL = ` THEN pg_catalog.set_config('role', $3, true) END`

	temporarySQL = `, CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid`

	// readOnlySQL ends the scope's SELECT, whose snapshot makes it final: PostgreSQL lets a transaction write only before its
	// first query (https://www.postgresql.org/docs/current/sql-set-transaction.html).
	readOnlySQL = `, pg_catalog.set_config('transaction_read_only', 'on', true)`

	// procedureScopeSQL is for a CALL that may commit, which it can only if nothing else goes with it. It runs with what the
	// session has.
	procedureScopeSQL = `SELECT pg_catalog.set_config($1, '', false), pg_catalog.set_config('role', 'none', false)`
)

// txSetting marks a transaction of the guard in which SQL of the caller runs. It is local to the transaction, so that it is
// missing after a COMMIT AND CHAIN.
const txSetting = "tenancy.transaction"

// noRole is PostgreSQL's name for the login's own role.
const noRole = "none"

// role is the role that every statement of the pool runs under.
func (cfg Config) role() string {
	if cfg.Role == "" {
		return noRole
	}
	return cfg.Role
}

// scopeStatements are the forms of the statement that sets the scope in a clean session, by read-only and temporary.
var scopeStatements = [2][2]string{
	{scopeSQL + scopeEndSQL, scopeSQL + hasTemporarySQL + scopeEndSQL},
	{scopeSQL + scopeEndSQL + readOnlySQL, scopeSQL + hasTemporarySQL + scopeEndSQL + readOnlySQL},
}

// temporaryScopeSQL is added to usedScopeSQL where the session has not been looked at yet: SQL of the caller came first, which
// takes no snapshot, and so was no SELECT and made no table.
const temporaryScopeSQL = temporarySQL + hasTemporarySQL + scopeEndSQL

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// step is a statement of the guard's that goes before the caller's.
type step struct {
	kind   stepKind
	sql    string
	params [][]byte   // in text format; the second of a scope is the tenant
	known  *statement // the same, prepared, or nil
	proof  *Proof     // of a stepProof
	looks  bool       // whether the session is clean
	tenant bool       // the tenant's id is to be appended to the text, as a constant
	marks  bool       // the transaction
}

type stepKind uint8

const (
	stepBegin stepKind = iota
	stepBaseline
	stepSequences
	stepScope
	stepProof
)

// maxSteps is more than any statement needs without proofs.
const maxSteps = 6

// steps are what goes before a statement.
func (c *conn) steps(pc *pgx.Conn, q *call, into []step) []step {
	if begin := c.beginSQL(); begin != "" {
		into = append(into, step{kind: stepBegin, sql: begin})
	}
	if aborted(pc) {
		return into
	}
	if c.baseline == nil {
		into = append(into, step{kind: stepBaseline, sql: c.pool.baselineSQL})
	}
	if c.discardsSequences(q) {
		into = append(into, step{kind: stepSequences, sql: `DISCARD SEQUENCES`})
	}
	into = c.scopeSteps(q, into)
	if q.class != query || q.origin == nil {
		return into
	}
	now := clock.Now()
	for _, proof := range q.origin.Proofs {
		if c.asks(proof, now) {
			into = append(into, step{kind: stepProof, sql: proof.SQL, params: proof.Args, proof: proof})
		}
	}
	return into
}

// asks reports whether a proof has to be asked for, on this connection.
func (c *conn) asks(proof *Proof, now time.Time) bool {
	if c.used || c.otherPath {
		return now.Sub(c.proved[proof]) > proof.Valid
	}
	return proof.Due(now)
}

// discardsSequences reports whether SQL of the caller could learn, from lastval or currval, what an earlier user of the
// connection has inserted. Before an insert of its own in a transaction, all that is forgotten, so that it then finds its own.
func (c *conn) discardsSequences(q *call) bool {
	switch {
	case !c.staleSequences || q.class == control:
		return false
	case q.ordinary:
		return c.tx != nil && q.inserts()
	}
	return true
}

// scopeSteps are those that set the tenant and the role.
func (c *conn) scopeSteps(q *call, into []step) []step {
	c.params = [4][]byte{c.pool.setting, q.scope.text, c.pool.role, nil}
	switch {
	case q.commits:
		return into // see commitsAlone
	case q.class == control && !q.scope.readOnly() && (q.ordinary || !c.used || !maySeveral(q.sql)):
		return c.controlScope(q.scope, into)
	}
	s := step{kind: stepScope, params: c.params[:]}
	if c.used {
		s.sql, s.looks = c.usedScope(), true
		if c.tx != nil && c.tx.marked {
			c.params[3] = c.tx.mark
		}
		if q.scope.readOnly() {
			s.sql += readOnlySQL
		}
	} else {
		s.sql, s.looks = scopeStatements[index(q.scope.readOnly())][index(c.temporary)], true
		if c.baseline != nil {
			c.params[3] = c.baseline.searchPath
		}
		if q.mode == pgx.QueryExecModeCacheStatement || c.mode == pgx.QueryExecModeCacheStatement {
			s.known = c.assertions[s.sql]
		}
	}
	into = append(into, s)
	if !q.ordinary && c.tx != nil && !c.tx.marked {
		into = append(into, step{
			kind: stepScope, marks: true,
			sql: `SELECT pg_catalog.set_config('` + txSetting + `', '` + string(c.tx.ownMark()) + `', true)`,
		})
	}
	return into
}

// usedScope is the SQL that sets the scope in a session that was used.
func (c *conn) usedScope() string {
	sql := usedScopeSQL
	if c.namedRole {
		sql += takenRoleSQL
	}
	sql += usedScopeEndSQL
	if !c.looked {
		sql += temporaryScopeSQL
	}
	return sql
}

// controlScope sets the scope without taking a snapshot, so that SET TRANSACTION and LOCK TABLE can follow
// (https://www.postgresql.org/docs/current/sql-set-transaction.html). It leaves alone a role that SQL of the caller has taken
// in this session: see takenRoleSQL.
func (c *conn) controlScope(s scope, into []step) []step {
	setting := pgx.Identifier(strings.Split(c.cfg.Setting, ".")).Sanitize()
	into = append(into, step{kind: stepScope, sql: "SET LOCAL " + setting + " = ", tenant: true})
	if !c.used {
		role := noRole
		if c.cfg.Role != "" {
			role = pgx.Identifier{c.cfg.Role}.Sanitize()
		}
		into = append(into, step{kind: stepScope, sql: "SET LOCAL ROLE " + role})
	}
	if s.readOnly() {
		into = append(into, step{kind: stepScope, sql: "SET LOCAL transaction_read_only = on"})
	}
	if c.tx != nil && !c.tx.marked {
		into = append(into, step{kind: stepScope, marks: true, sql: "SET LOCAL " + txSetting + " = '" + string(c.tx.ownMark()) + "'"})
	}
	return into
}

// command is the step's SQL for the extended protocol.
func (s step) command(q *call) string {
	if s.tenant {
		return s.sql + sqltext.Literal(q.scope.tenant)
	}
	return s.sql
}

// text writes a step as SQL text, for messages of the simple protocol, which have no parameters. The tenant's id stands in
// it as given: quoted, or as a placeholder.
func (s step) text(tenant string) string {
	switch {
	case s.tenant:
		return s.sql + tenant
	case len(s.params) == 0:
		return s.sql
	}
	var values []string
	for i, p := range s.params {
		value := "NULL"
		switch {
		case s.kind == stepScope && i == 1:
			value = tenant
		case p != nil:
			value = sqltext.Literal(string(p))
		}
		values = append(values, "$"+strconv.Itoa(i+1), value)
	}
	return strings.NewReplacer(values...).Replace(s.sql)
}

// checkEncoding refuses a tenant's id whose bytes the server would take for another text: perhaps another tenant's id,
// and in some encodings a quote can be the second byte of a character. Raw SQL may have changed the encoding.
func (s scope) checkEncoding(pg *pgconn.PgConn) error {
	if isASCII(s.tenant) {
		return nil
	}
	switch pg.ParameterStatus("client_encoding") {
	case "UTF8", "SQL_ASCII": // the latter means that no bytes are changed
		return nil
	default:
		return errors.New("tenancy: a tenant's id outside ASCII needs client_encoding UTF8")
	}
}

// prefix is what has been sent before a statement, and how its answers are read.
type prefix struct {
	steps []step
	text  string // in the simple protocol
}

// width is by how much the text moves positions in what follows it. PostgreSQL counts characters, in 32 bits.
func (p prefix) width() int32 { return int32(utf8.RuneCountInString(p.text)) } //nolint:gosec // as said

// textPrefix is the prefix of SQL text.
func textPrefix(steps []step, tenant string) prefix {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.text(tenant))
		b.WriteString("; ")
	}
	return prefix{steps, b.String()}
}

// aborted reports a transaction that failed. The server then takes nothing but its end or a ROLLBACK TO SAVEPOINT,
// which would not get through behind an assertion.
func aborted(pc *pgx.Conn) bool { return pc.PgConn().TxStatus() == 'E' }

// succeeded notes what follows from a step that went well.
func (c *conn) succeeded(pc *pgx.Conn, s step, rows [][2]string) {
	switch s.kind {
	case stepBegin:
		if c.tx != nil {
			c.tx.begun = true
		}
	case stepBaseline:
		c.setBaseline(newBaseline(pc.PgConn(), rows))
	case stepSequences:
		c.staleSequences = false
	case stepProof:
		c.noteProof(s.proof, len(rows) > 0)
	case stepScope:
		c.looked = c.looked || s.looks
		if s.marks {
			c.tx.marked = true
		}
	}
}

// noteProof notes a yes. Where the name may mean something else than on the pool's other connections, it says nothing about
// those.
func (c *conn) noteProof(proof *Proof, lasts bool) {
	switch {
	case !lasts:
	case c.used || c.otherPath:
		if c.proved == nil {
			c.proved = map[*Proof]time.Time{}
		}
		c.proved[proof] = clock.Now()
	default:
		proof.Yes(clock.Now())
	}
}

// stepError explains the error of a step.
func (c *conn) stepError(s step, err error) error {
	switch {
	case s.kind == stepProof:
		if sqlState(err) == "" {
			return err
		}
		return s.proof.Refuse(err)
	case s.kind != stepScope:
		return err
	case raises(err, uncleanMark):
		return errUnclean
	case raises(err, endedMark):
		c.tx.ended = true
		return errTxEnded
	}
	return roleError(c.cfg.Role, c.login, err)
}

// hidden is a tenant's id among arguments, where tracers print what they see.
type hidden struct{ tenant string }

func (h hidden) Value() (driver.Value, error) { return h.tenant, nil }

// Format serves every verb, so that none shows the field.
func (h hidden) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(tenant)") }

// interpolatedWidth is the number of characters that pgx writes for s: quotes, those within doubled, and spaces around.
func interpolatedWidth(s string) int32 {
	return int32(utf8.RuneCountInString(s) + strings.Count(s, "'") + len(` '' `)) //nolint:gosec // an id is short
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
