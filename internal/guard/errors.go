package guard

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrNoTenant refuses a statement whose context names no tenant and does not say that none is needed.
	ErrNoTenant = errors.New("tenancy: no tenant in context")

	// ErrTenantMismatch refuses a statement for another tenant than that of its transaction or its row.
	ErrTenantMismatch = errors.New("tenancy: tenant mismatch")

	// ErrSetRole says that the login cannot take the role that statements run under.
	ErrSetRole = errors.New("tenancy: the login cannot take the role")
)

// ErrChanged refuses a statement whose context names another tenant than when it was let pass.
var ErrChanged = wrap(ErrTenantMismatch,
	errors.New("a hook or another plugin has replaced the statement's context by one of another tenant"))

var (
	errForeignTx = wrap(ErrTenantMismatch,
		errors.New("the transaction belongs to another tenant than the statement's context names"))
	errForeignBound = wrap(ErrTenantMismatch,
		errors.New("the statement's context carries another decision than the client is bound to"))
	errForeignAnswer = wrap(ErrTenantMismatch,
		errors.New("the connection has answered another tenant's statement: a pooler or proxy in front of PostgreSQL mixes up its clients"))
	errNoReason = wrap(ErrNoTenant,
		errors.New("only the client of Bypass can use its pool, through its own methods"))
	errReadOnlyTx = errors.New("tenancy: the transaction of Bypass was begun read-only: begin one with a client of Bypass without BypassReadOnly")
	errReadOnlyIn = errors.New("tenancy: the transaction of Bypass may write, and PostgreSQL could only make all of it read-only: " +
		"begin one with the read-only client")
	errUnclean = errors.New("tenancy: the session has another row_security or search_path, or temporary tables, and cannot be cleaned: another client of " +
		"the server's connection has left them, or settings of the login or the database (ALTER ROLE … SET). Reset those settings; a " +
		"pooler in transaction mode must reset its connections (PgBouncer: server_reset_query_always)")
	errBusy = errors.New("conn busy: the rows of another statement on this connection are open: close them, or read them to their end, before the next statement")

	errTxFailed = wrap(sql.ErrTxDone, errors.New("the transaction failed with its first statement"))
	errTxEnded  = wrap(sql.ErrTxDone, errors.New("the transaction was already ended by a COMMIT or ROLLBACK in raw SQL"))
)

// recovered turns a panic of the application's code into an error, such as one of a driver.Valuer among a statement's arguments.
// database/sql would never take the connection of a panicking query back, and the Rollback of its transaction would wait for it.
// It must be deferred.
func (cfg *Config) recovered(in string, err *error) {
	p := recover()
	switch {
	case p == nil:
	case cfg.NewPanicError != nil:
		*err = cfg.NewPanicError(in, p)
	default:
		*err = errors.New("tenancy: panic in " + in) // without the value, which may hold anything
	}
}

// wrap adds a detail to a sentinel: the text names both, and errors.Is finds both.
func wrap(sentinel, detail error) error { return fmt.Errorf("%w: %w", sentinel, detail) }

// roleError explains a failure of the statement that sets tenant and role, which is nearly always about the role.
func roleError(role, login string, err error) error {
	const (
		insufficientPrivilege = "42501"
		invalidParameterValue = "22023"
	)
	if role == "" {
		return err
	}
	quoted := pgx.Identifier{role}.Sanitize()
	switch sqlState(err) {
	case insufficientPrivilege:
		return fmt.Errorf("%w: run GRANT %s TO %s: %w", ErrSetRole, quoted, pgx.Identifier{login}.Sanitize(), err)
	case invalidParameterValue:
		return fmt.Errorf("%w: run CREATE ROLE %s, then grant it to the login: %w", ErrSetRole, quoted, err)
	}
	return err
}

// errPrepared explains why the server does not know a statement that was prepared, or has it already.
var errPrepared = errors.New("tenancy: a pooler in transaction mode has lost a prepared statement: let it track them (PgBouncer 1.22 " +
	"and later: max_prepared_statements), or add default_query_exec_mode=cache_describe and statement_cache_capacity=0 to the DSN")

// preparedError adds errPrepared to errors about the guard's own prepared statements.
func preparedError(err error) error {
	if err == nil {
		return nil
	}
	const (
		unknownStatement   = "26000"
		duplicateStatement = "42P05"
	)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == unknownStatement || pgErr.Code == duplicateStatement) && mentionsOurs(err) {
		return wrap(errPrepared, err)
	}
	return err
}

// mentionsOurs reports whether PostgreSQL's message names a prepared statement of the guard.
func mentionsOurs(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && strings.Contains(pgErr.Message, statementPrefix)
}

// errProcedure explains why a procedure cannot commit.
var errProcedure = errors.New("tenancy: a CALL or DO cannot commit here, because what it runs after its COMMIT would have neither tenant nor " +
	"role: remove the COMMIT, or CALL a procedure, which a DO is not, under WithoutTenant on a client without AppRole")

// procedureError adds errProcedure to the error of a procedure that tried to commit.
func procedureError(q *call, err error) error {
	const invalidTermination = "2D000"
	if sqlState(err) == invalidTermination && q.class == utility {
		return wrap(errProcedure, err)
	}
	return err
}

// isFromServer reports whether the server itself raised an error, about the statement as it was sent. Code in SQL can raise an
// error with any SQLSTATE, but not with the name of PostgreSQL's C function and without its own place in the code
// (https://www.postgresql.org/docs/current/protocol-error-fields.html, R and W).
func isFromServer(err error, state, routine string) bool {
	if err == nil {
		return false
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == state && pgErr.Routine == routine && pgErr.Where == ""
}

// isRowSecurityOff reports whether PostgreSQL has refused the statement, before it ran, because row_security is off
// (https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-ROW-SECURITY).
func isRowSecurityOff(err error) bool {
	const insufficientPrivilege = "42501"
	return isFromServer(err, insufficientPrivilege, rowSecurityRoutine)
}

// rowSecurityRoutine is the C function in which PostgreSQL raises that error.
const rowSecurityRoutine = "check_enable_rls"

// sqlState returns the SQLSTATE of an error from the server, and "" for any other.
func sqlState(err error) string {
	if err == nil {
		return "" // errors.As would cost more
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// safeToRetry reports whether an error came before anything was sent, so that the statement can be sent again.
//
// pgx also says so of ErrConnClosed, which it means for the lock of a connection that was closed before. But a connection that
// broke while a result was awaited returns it too: the statement may have run, and would run twice. A connection that was closed
// before has been noticed before.
func safeToRetry(err error) bool {
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}
