package guard

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What travels before every statement, in the same message flow and the same transaction. The role is asserted each time
// as well as the tenant: a SET ROLE in raw SQL outlives its statement on a pooled connection, and would lend the admin
// role to the next tenant. All is local to the transaction, so that nothing stays behind
// (https://www.postgresql.org/docs/current/functions-admin.html, set_config). To look at the role costs the server less
// than to set it, and it is almost always the right one.
const (
	assertSQL = `SELECT pg_catalog.set_config($1, $2, true),` +
		` CASE WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) $3 THEN pg_catalog.set_config('role', $3, true) END`
	assertReadOnlySQL = assertSQL + `, pg_catalog.set_config('transaction_read_only', 'on', true)`
)

// noRole is PostgreSQL's name for the login's own role.
const noRole = "none"

// role is the role that every statement of the pool runs under.
func (cfg Config) role() string {
	if cfg.Role == "" {
		return noRole
	}
	return cfg.Role
}

// assertion is the SQL that sets the scope.
func assertion(s scope) string {
	if s.readOnly() {
		return assertReadOnlySQL
	}
	return assertSQL
}

// assertionParams are its parameters, in text format.
func (cfg Config) assertionParams(s scope) [][]byte {
	return [][]byte{[]byte(cfg.Setting), []byte(s.tenant), []byte(cfg.role())}
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

// assertionText is the assertion as SQL text, for messages of the simple protocol, which have no parameters, and the
// number of its statements. The tenant's id stands in it as given: quoted, or as a placeholder. It reads no table and no
// snapshot, so that SET TRANSACTION can come after it.
func (cfg Config) assertionText(s scope, tenant string) (text string, statements int) {
	role := noRole
	if cfg.Role != "" {
		role = pgx.Identifier{cfg.Role}.Sanitize()
	}
	setting := pgx.Identifier(strings.Split(cfg.Setting, ".")).Sanitize()
	text = "SET LOCAL " + setting + " = " + tenant + "; SET LOCAL ROLE " + role + "; "
	if s.readOnly() {
		return text + "SET LOCAL transaction_read_only = on; ", 3
	}
	return text, 2
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
