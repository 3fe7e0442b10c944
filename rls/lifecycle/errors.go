package lifecycle

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// The errors. They can be told apart with errors.Is; PostgreSQL's own are found by errors.As with a *pgconn.PgError.
var (
	// ErrNotIsolated is the error where a table may belong to the tenant, and its policies do not prove that it is isolated.
	ErrNotIsolated = errors.New("a table is not proved to be isolated")

	// ErrRowsHidden is the error where policies may hide rows of the tenant from the tenant itself, such as those that are deleted softly.
	ErrRowsHidden = errors.New("policies may hide rows of the tenant")

	// ErrBeyond is the error where foreign keys reach from the rows of the run to others: an erase would change rows that are kept or
	// another tenant's, or an imported row refers to one of another tenant.
	ErrBeyond = errors.New("a foreign key reaches beyond the rows of the tenant")

	// ErrCycle is the error where foreign keys form a circle in which no row can be the first.
	ErrCycle = errors.New("foreign keys form a circle")

	// ErrArchive is the error of a file that is not complete, or not what Export has written.
	ErrArchive = errors.New("the file is damaged or no export")

	// ErrSchema is the error where the tables of the database cannot take what is in the file.
	ErrSchema = errors.New("the tables differ from those of the file")

	// ErrConflict is the error where a row of the file is there already, or its key is taken, perhaps by another tenant.
	ErrConflict = errors.New("rows are in the way")

	// ErrChanged is the error where rows are not in the database as they were in the file, because a trigger or rule has changed them.
	ErrChanged = errors.New("rows are not as in the file")

	// ErrRemains is the error of an erase after which the tenant has rows, or the person.
	ErrRemains = errors.New("the tenant still has rows")

	// ErrUndeclared is the error where a table may hold what is about a person, and no holding says what becomes of it.
	ErrUndeclared = errors.New("something about the person is not declared")
)

// serverError is an error of PostgreSQL in words that are safe to log: its messages may quote values.
type serverError struct {
	text  string
	cause error
}

func (e serverError) Error() string { return e.text }

// Unwrap returns the error as PostgreSQL wrote it.
func (e serverError) Unwrap() error { return e.cause }

// explain keeps values of rows out of the text of an error.
func explain(err error) error {
	var (
		pg   *pgconn.PgError
		done serverError
	)
	if !errors.As(err, &pg) || errors.As(err, &done) {
		return err
	}
	text := "PostgreSQL reports SQLSTATE " + pg.Code
	switch pg.Code {
	case "42501":
		text = "a right is missing, or a policy refuses the row (SQLSTATE 42501)"
		if strings.HasPrefix(pg.Message, "permission denied for ") || strings.HasPrefix(pg.Message, "new row violates row-level security policy ") {
			text = pg.Message + " (SQLSTATE 42501)" // names of tables only
		}
	case "23503":
		text = "a foreign key is violated (SQLSTATE 23503)"
	case "23505":
		text = "a key is taken (SQLSTATE 23505): by a row of this tenant, or by one of another where the key does not include the tenant: a copy beside the original needs new keys (NewKeys, --new-keys)"
	}
	if pg.TableName != "" {
		text += ", table " + pg.SchemaName + "." + pg.TableName
	}
	if pg.ConstraintName != "" {
		text += ", constraint " + sqltext.Ident(pg.ConstraintName)
	}
	if pg.ColumnName != "" {
		text += ", column " + sqltext.Ident(pg.ColumnName)
	}
	result := serverError{text, err}
	if pg.Code == "23505" {
		return fmt.Errorf("%w: %w", ErrConflict, result)
	}
	return result
}
