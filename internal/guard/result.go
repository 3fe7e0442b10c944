package guard

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// result is what the server sends back for one statement: its rows, and after them, up to ReadyForQuery, the outcome of the
// implicit transaction.
type result struct {
	pgx.Rows
	rest  interface{ Close() error }
	shift int32 // by how many characters the text before the statement moves the positions in error messages
}

// close reads the rest, and returns the command tag or the first error.
func (a *result) close() (pgconn.CommandTag, error) {
	a.Rows.Close()
	err := a.Err()
	if restErr := a.rest.Close(); err == nil {
		err = restErr
	}
	return a.CommandTag(), shifted(err, a.shift)
}

func shifted(err error, by int32) error {
	if by == 0 || err == nil {
		return err
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Position > by {
		pgErr.Position -= by
	}
	return err
}

// firstResult returns the first of the results, that of a query.
func firstResult(pc *pgx.Conn, results *pgconn.MultiResultReader, shift int32) (result, error) {
	if !results.NextResult() {
		if err := results.Close(); err != nil {
			return result{}, shifted(err, shift)
		}
		return result{Rows: noRows{}, rest: results}, nil // empty SQL
	}
	return result{Rows: pgx.RowsFromResultReader(pc.TypeMap(), results.ResultReader()), rest: results, shift: shift}, nil
}

// lastResult reads all results and returns the last one, that of SQL text with several statements. It also returns how many of
// them were completed, even if one failed.
func (c *conn) lastResult(q *call, results *pgconn.MultiResultReader, shift int32) (a result, completed int, err error) {
	a = result{Rows: noRows{}, rest: results, shift: shift}
	for results.NextResult() {
		tag, err := results.ResultReader().Close() // its error is the one of results
		a.Rows = noRows{tag: tag}
		if err == nil {
			completed++
			q.completed(tag)
			c.noteTag(tag)
		}
	}
	if err := results.Close(); err != nil {
		return result{}, completed, shifted(err, shift)
	}
	return a, completed, nil
}

// noRows is the result of a statement that has no rows, or whose rows were read already.
type noRows struct {
	pgx.Rows
	tag pgconn.CommandTag
}

func (noRows) Close()                                       {}
func (noRows) Err() error                                   { return nil }
func (noRows) Next() bool                                   { return false }
func (noRows) RawValues() [][]byte                          { return nil }
func (noRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r noRows) CommandTag() pgconn.CommandTag              { return r.tag }
