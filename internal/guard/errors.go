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

	// ErrTenantMismatch refuses a statement that belongs to another tenant than its transaction or its row.
	ErrTenantMismatch = errors.New("tenancy: tenant mismatch")

	// ErrSetRole says that the role a statement should run under can't be taken by the login.
	ErrSetRole = errors.New("tenancy: role can't be taken")
)

// ErrChanged refuses a statement whose context names another tenant than when it was let pass.
var ErrChanged = wrap(ErrTenantMismatch,
	errors.New("a hook or another plugin has replaced the statement's context by one of another tenant"))

var (
	errForeignTx = wrap(ErrTenantMismatch,
		errors.New("the transaction belongs to another tenant than the statement's context names"))
	errForeignBound = wrap(ErrTenantMismatch,
		errors.New("the client is bound to another decision than the statement's context carries"))
	errNoReason = wrap(ErrNoTenant,
		errors.New("the pool of the bypass client serves that client's methods only"))
	errReadOnlyTx = errors.New("tenancy: the bypass transaction was begun read-only")
	errReadOnlyIn = errors.New("tenancy: the bypass transaction may write, and PostgreSQL can make it read-only only for good: " +
		"begin one with the read-only client")
	errUnclean = errors.New("tenancy: the session is not as it should be, and cannot be cleaned: another client of the server's " +
		"connection, or the login's or the database's settings (ALTER ROLE … SET), have left row_security, search_path or temporary tables. " +
		"A pooler in transaction mode must reset its connections (PgBouncer: server_reset_query_always)")
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

// wrap says more about a sentinel: the text names both, and errors.Is finds both.
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

// errPrepared explains why a server does not know a statement that was prepared, or has it already.
var errPrepared = errors.New("tenancy: prepared statements do not stay with this connection: a pooler in transaction mode " +
	"must keep account of them, as PgBouncer does from 1.21 on with max_prepared_statements, or the DSN must do without, by " +
	"default_query_exec_mode=cache_describe and statement_cache_capacity=0")

// preparedError says so of errors about the guard's own statements.
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
var errProcedure = errors.New("tenancy: what a CALL or DO runs after a COMMIT of its own would have neither tenant nor role: " +
	"do without the COMMIT, or run it under WithoutTenant on a client without AppRole")

// procedureError says so where a procedure tried.
func procedureError(q *call, err error) error {
	const invalidTermination = "2D000"
	if sqlState(err) == invalidTermination && q.class == utility {
		return wrap(errProcedure, err)
	}
	return err
}

// isFromServer reports whether an error is the server's own word about the statement as it was sent. Code in SQL can raise an
// error with any SQLSTATE, but not with PostgreSQL's name of the function in C, nor without its own place in the code
// (https://www.postgresql.org/docs/current/protocol-error-fields.html, R and W).
func isFromServer(err error, state, routine string) bool {
	if err == nil {
		return false
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == state && pgErr.Routine == routine && pgErr.Where == ""
}

// sqlState returns the SQLSTATE of an error from the server, and "" for any other.
func sqlState(err error) string {
	if err == nil {
		return "" // without what errors.As costs
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// safeToRetry tells whether an error came before anything was sent, so that a statement can be tried once more.
//
// pgx says so of ErrConnClosed too, whose reason is to be the lock of a connection that was closed before. But that is
// also what remains of a connection that broke while an answer was awaited: the statement may have been executed, and
// once more would be twice. One that was closed before has been noticed before.
func safeToRetry(err error) bool {
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}
