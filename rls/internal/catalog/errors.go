package catalog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// SQLSTATEs (PostgreSQL documentation, "PostgreSQL Error Codes").
const (
	classDataException = "22"
	codeNotNull        = "23502"
	codeCheck          = "23514"
	codeDependents     = "2BP01"
)

// ServerError is an error of PostgreSQL in words that are safe to log.
type ServerError struct {
	Text  string
	Cause error
}

func (e ServerError) Error() string { return e.Text }

// Unwrap returns the error as PostgreSQL wrote it.
func (e ServerError) Unwrap() error { return e.Cause }

// Explain says what to do about an error of PostgreSQL, and keeps stored values out of the text: messages of data
// exceptions quote them. The cause stays within reach of errors.As. The column is the tenant column.
func Explain(err error, column string) error {
	var (
		pg   *pgconn.PgError
		done ServerError
	)
	switch {
	case !errors.As(err, &pg), errors.As(err, &done):
		return err
	case WithoutTenant(err, column):
		return ServerError{Cause: err, Text: fmt.Sprintf(
			"table %[1]s has rows without a tenant: add the column %[2]s if it is missing, give every row its tenant with "+
				"UPDATE %[1]s SET %[2]s = …, and migrate again", sqltext.Ident(pg.SchemaName, pg.TableName), sqltext.Ident(column))}
	case pg.Code == codeDependents: // the detail names objects, and no values
		return ServerError{Cause: err, Text: fmt.Sprintf("%s: %s: drop what depends on it, or migrate it too", pg.Error(), pg.Detail)}
	case pg.Code == codeCheck && strings.HasPrefix(pg.Routine, "check_default_partition"):
		return ServerError{Cause: err, Text: fmt.Sprintf("a tenant that is to have a partition of its own has rows among the others, in %s: "+
			"move them with tenancy tenant isolate, which makes the partition", sqltext.Ident(pg.SchemaName, pg.TableName))}
	case strings.HasPrefix(pg.Code, classDataException):
		return ServerError{Cause: err, Text: fmt.Sprintf(
			"stored values do not fit the new definition of their column (SQLSTATE %s)", pg.Code)}
	}
	return ServerError{Cause: err, Text: pg.Error()}
}

// WithoutTenant reports whether an error says that rows lack their tenant.
func WithoutTenant(err error, column string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == codeNotNull && pg.ColumnName == column ||
		pg.Code == codeCheck && strings.HasPrefix(pg.ConstraintName, RequiredPrefix))
}
