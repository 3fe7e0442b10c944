package rls

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs (PostgreSQL documentation, "PostgreSQL Error Codes").
const (
	classDataException = "22"
	codeNotNull        = "23502"
	codeForeignKey     = "23503"
	codeInTransaction  = "25001"
)

// serverError is an error of PostgreSQL in words that are safe to log.
type serverError struct {
	text  string
	cause error
}

func (e serverError) Error() string { return e.text }
func (e serverError) Unwrap() error { return e.cause }

// explain says what to do about an error of PostgreSQL, and keeps stored values out of the text: messages of data
// exceptions quote them. The cause stays within reach of errors.As.
func (i Isolation) explain(err error) error {
	var (
		pg   *pgconn.PgError
		done serverError
	)
	switch {
	case !errors.As(err, &pg), errors.As(err, &done):
		return err
	case pg.Code == codeNotNull && pg.ColumnName == i.Column:
		return serverError{cause: err, text: fmt.Sprintf(
			"table %[1]s has rows without a tenant: add the column %[2]s if it is missing, give every row its tenant with "+
				"UPDATE %[1]s SET %[2]s = …, and migrate again", ident(pg.SchemaName, pg.TableName), ident(pg.ColumnName))}
	case strings.HasPrefix(pg.Code, classDataException):
		return serverError{cause: err, text: fmt.Sprintf(
			"stored values do not fit the new definition of their column (SQLSTATE %s)", pg.Code)}
	}
	return serverError{cause: err, text: pg.Error()}
}

// explainChange says of an error what to do about the rows that stand in the way of a change.
func (i Isolation) explainChange(c Change, err error) error {
	var pg *pgconn.PgError
	if c.misfits == "" || !errors.As(err, &pg) || pg.Code != codeForeignKey {
		return i.explain(err)
	}
	return serverError{cause: err, text: "the table has rows that refer to a row of another tenant, or to none: " +
		"correct or delete what this query finds, and migrate again: " + c.misfits}
}
