package guard

import (
	"bytes"
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

// What is sent before every statement, in the same messages and the same transaction: scopesql.go has the texts.
//
// The tenant is set each time, and local to the transaction, so that it ends with it
// (https://www.postgresql.org/docs/current/functions-admin.html, set_config).

// step is a statement of the guard that is sent before the caller's.
type step struct {
	kind   stepKind
	sql    string
	params [][]byte   // in text format; the first of a scope is the tenant
	known  *statement // the same, prepared, or nil
	proof  *Proof     // of a stepProof
	named  bool       // and names may mean something else on this connection than on others
	role   string     // that a stepScope sets; empty for the login's own
	checks bool       // it checks that the session is clean
	tenant bool       // the tenant's id is appended to the text as a constant
	marks  bool       // it marks the transaction
}

// setsTenant reports whether the step is a SELECT that sets the tenant, and returns its id as PostgreSQL has it.
func (s step) setsTenant() bool { return s.kind == stepScope && len(s.params) > 0 }

// isAnswer reports whether a row is the answer to this step, which sets the tenant. A pooler or proxy that mixes up its clients may
// deliver that of another client, with the rows of another tenant behind it.
func (s step) isAnswer(row [][]byte) bool { return len(row) > 0 && bytes.Equal(row[0], s.params[0]) }

type stepKind uint8

const (
	stepBegin stepKind = iota
	stepBlock          // BEGIN of a statement that is sent in a block
	stepReach
	stepBaseline
	stepSequences
	stepScope
	stepProof
	stepSaid
	stepSetting
	stepHold
)

// maxSteps is more than any statement needs without proofs and settings.
const maxSteps = 11

// steps returns what is sent before a statement, appended to into.
func (c *conn) steps(pc *pgx.Conn, q *call, into []step) []step {
	if begin := c.beginSQL(); begin != "" && !q.autocommit {
		s := step{kind: stepBegin, sql: begin}
		if !c.dirty && c.usesPrepared(q) { // SQL of the caller may have prepared another under that name
			s.known = c.scopeStatements[begin]
		}
		into = append(into, s)
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
	into = c.holdSteps(q, c.scopeSteps(q, into))
	for _, set := range q.sets {
		into = append(into, step{kind: stepSetting, sql: set})
	}
	if q.class != query || q.origin == nil {
		return into
	}
	now := clock.Now()
	for _, proof := range q.origin.Proofs {
		if c.asks(proof, now) {
			into = append(into, step{kind: stepProof, sql: proof.SQL, params: proof.Args, proof: proof, named: c.onlyHere(proof)})
		}
	}
	return into
}

// usesPrepared reports whether the steps before a statement may be sent as prepared statements.
func (c *conn) usesPrepared(q *call) bool {
	return q.mode == pgx.QueryExecModeCacheStatement || c.mode == pgx.QueryExecModeCacheStatement
}

// onlyHere reports whether names may mean something else on this connection than on those that the proof is about.
func (c *conn) onlyHere(proof *Proof) bool { return c.named || c.otherPath || !c.isAbout(proof) }

// asks reports whether a proof must be asked for on this connection.
func (c *conn) asks(proof *Proof, now time.Time) bool {
	if c.onlyHere(proof) {
		return now.Sub(c.proved[proof]) > proof.Valid
	}
	return proof.Due(now)
}

// discardsSequences reports whether SQL of the caller could learn, by lastval or currval, what an earlier user of the connection
// has inserted. Before an insert in a transaction the sequences are discarded as well, so that the caller then finds its own
// values.
func (c *conn) discardsSequences(q *call) bool {
	switch {
	case !c.staleSequences || q.class == control:
		return false
	case q.stateless:
		return c.tx != nil && !q.autocommit && q.inserts()
	}
	return true
}

// scopeSteps returns the steps that set the tenant and the role.
func (c *conn) scopeSteps(q *call, into []step) []step {
	readOnly := q.scope.readOnly()
	switch {
	case q.commits:
		return into // see setProcedureScope
	case q.class == control && !readOnly && (q.stateless || !c.dirty || !maySeveral(q.sql)):
		return c.controlScope(q, into)
	}
	c.params = [3][]byte{q.scope.text, nil, q.proof.Proof}
	c.provedUntil = q.proof.Expires
	count := 2
	if c.cfg.signs() {
		count = 3
	}
	s := step{kind: stepScope, params: c.params[:count], role: c.cfg.roleOf(q.scope), checks: true}
	if c.dirty {
		s.sql = c.scopeSQLOf(q.scope).inDirty(readOnly, c.namedRole && !c.cfg.Citus, !c.checked)
		if c.tx != nil && c.tx.marked {
			c.params[1] = c.tx.mark
		}
	} else {
		s.sql = c.cleanScope(q.scope)
		if c.baseline != nil {
			c.params[1] = c.baseline.searchPath
		}
		if c.usesPrepared(q) {
			s.known = c.scopeStatements[s.sql]
		}
	}
	into = append(into, s)
	if !q.stateless && c.tx != nil && !c.tx.marked {
		into = append(into, step{
			kind: stepScope, marks: true,
			sql: `SELECT pg_catalog.set_config('` + txSetting + `', '` + string(c.tx.ownMark()) + `', true)`,
		})
	}
	into = c.reachSteps(q, into)
	switch {
	case q.said != nil:
		into = append(into, step{kind: stepSaid, sql: saidSQL, params: [][]byte{q.said}})
	case c.saidLasts:
		into = append(into, step{kind: stepSaid, sql: saidSQL, params: [][]byte{{}}})
	}
	return into
}

// cleanScope is the SQL that sets the scope in a clean session. As long as the baseline is not known, it also corrects the
// session.
func (c *conn) cleanScope(s scope) string {
	corrects := c.corrects
	if c.baseline == nil {
		corrects = correctAll
	}
	return c.scopeSQLOf(s).inClean(s.readOnly(), corrects, c.temporary)
}

// controlScope sets the scope without taking a snapshot, so that SET TRANSACTION and LOCK TABLE can follow
// (https://www.postgresql.org/docs/current/sql-set-transaction.html). In a dirty session it leaves the role as it is, because
// SQL of the caller may have set it: see takenRoleSQL.
func (c *conn) controlScope(q *call, into []step) []step {
	s := q.scope
	if q.reaches {
		into = append(into, step{kind: stepReach, sql: propagateSQL})
	}
	into = append(into, step{kind: stepScope, sql: c.scopeSQLOf(s).control, tenant: true})
	if !c.dirty {
		into = append(into, step{kind: stepScope, sql: c.scopeSQLOf(s).role, role: c.cfg.roleOf(s)})
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

// text writes a step as SQL text for the simple protocol, which has no parameters. The tenant's id is written as given: quoted,
// or as a placeholder.
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
		case s.kind == stepScope && i == 0:
			value = tenant
		case p != nil:
			value = sqltext.Literal(string(p))
		}
		values = append(values, "$"+strconv.Itoa(i+1), value)
	}
	return strings.NewReplacer(values...).Replace(s.sql)
}

// checkEncoding refuses a tenant's id that the server would read as another text, perhaps another tenant's id: in some encodings
// a quote can be the second byte of a character. Raw SQL may have changed the encoding.
func (s scope) checkEncoding(pg *pgconn.PgConn) error {
	if isASCII(s.tenant) {
		return nil
	}
	switch pg.ParameterStatus("client_encoding") {
	case "UTF8", "SQL_ASCII": // with SQL_ASCII the server changes no bytes
		return nil
	default:
		return errors.New("tenancy: the session cannot carry a tenant's id outside ASCII: set client_encoding to UTF8")
	}
}

// prefix is what was sent before a statement, to read its results.
type prefix struct {
	steps []step
	text  string // in the simple protocol
}

// width is by how many characters the text moves the positions in the error messages of what follows. PostgreSQL counts them in
// 32 bits.
func (p prefix) width() int32 { return int32(utf8.RuneCountInString(p.text)) } //nolint:gosec // 32 bits suffice

// textPrefix is the prefix of SQL text.
func textPrefix(steps []step, tenant string) prefix {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.text(tenant))
		b.WriteString("; ")
	}
	return prefix{steps, b.String()}
}

// aborted reports whether the transaction has failed. The server then accepts nothing but its end or a ROLLBACK TO SAVEPOINT,
// which would fail behind a statement that sets the scope.
func aborted(pc *pgx.Conn) bool { return pc.PgConn().TxStatus() == 'E' }

// succeeded notes that a step has succeeded.
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
		c.noteProof(s, rows)
	case stepSetting:
		if c.tx != nil {
			c.tx.settings = true
		}
	case stepScope:
		c.checked = c.checked || s.checks
		if s.marks {
			c.tx.marked = true
		}
	}
}

// noteProof notes a yes. On a connection where a name could mean something else than on the pool's other connections when PostgreSQL was asked,
// which is before the statement ran, the yes is for this connection alone.
func (c *conn) noteProof(s step, lasting [][2]string) {
	switch {
	case len(lasting) == 0:
	case s.named:
		if c.proved == nil {
			c.proved = map[*Proof]time.Time{}
		}
		c.proved[s.proof] = clock.Now()
	default:
		s.proof.Yes(clock.Now(), lasting[0][0])
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
	case s.kind == stepSetting && sqlState(err) != "":
		return fmt.Errorf("tenancy: PostgreSQL refused what Config.Settings returned for the tenant: %w", err)
	case s.kind != stepScope && s.kind != stepReach:
		return err
	case raises(err, uncleanMark):
		return errUnclean
	case raises(err, roleMark):
		return errRoleTaken
	case raises(err, endedMark):
		c.tx.ended = true
		return errTxEnded
	}
	return roleError(s.role, c.login, err)
}

// hidden is a tenant's id among the arguments of a batch, which tracers may print.
type hidden struct{ tenant string }

func (h hidden) Value() (driver.Value, error) { return h.tenant, nil }

// Format hides the id for every verb.
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
