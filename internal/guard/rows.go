package guard

import (
	"database/sql/driver"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows streams the rows of a query from the wire. The outcome of a statement's transaction comes after its last row,
// so the end of the rows is not told before that was read.
type rows struct {
	conn   *conn
	call   call
	answer *answer

	typeMap *pgtype.Map
	columns []string
	values  []valueFunc

	primed  bool // the first row was read ahead
	ended   bool // the answer was read to its end
	err     error
	dest    []driver.Value
	readRow func(*pgx.Conn) error // r.read, made into a func value once
}

var _ driver.Rows = (*rows)(nil)

// prime reads the first row ahead, for only then are the columns known, and so are most errors.
func (r *rows) prime(pc *pgx.Conn) error {
	r.typeMap = pc.TypeMap()
	r.readRow = r.read
	if r.answer.Next() {
		r.primed = true
		return nil
	}
	r.end(pc)
	return retryable(r.err)
}

// end reads the outcome.
func (r *rows) end(pc *pgx.Conn) {
	if r.ended {
		return
	}
	r.ended = true
	tag, err := r.answer.close()
	r.err = err
	r.conn.forgetAfter(&r.call, err)
	r.conn.done(pc, &r.call, tag, err)
}

// Columns returns the names of the columns.
func (r *rows) Columns() []string {
	if r.columns == nil {
		fields := r.answer.FieldDescriptions()
		r.columns = make([]string, len(fields))
		for i := range fields {
			r.columns[i] = fields[i].Name
		}
	}
	return r.columns
}

// Next reads one row into dest. It returns io.EOF after the last row, once PostgreSQL has committed.
func (r *rows) Next(dest []driver.Value) error {
	r.dest = dest
	return r.conn.use(r.readRow)
}

func (r *rows) read(pc *pgx.Conn) error {
	if err := r.advance(pc); err != nil {
		return err
	}
	if r.values == nil {
		r.values = valueFuncs(r.typeMap, r.answer.FieldDescriptions())
	}
	for i, raw := range r.answer.RawValues() {
		if raw == nil {
			r.dest[i] = nil
			continue
		}
		v, err := r.values[i](raw)
		if err != nil {
			return fmt.Errorf("convert field %d failed: %w", i, err)
		}
		r.dest[i] = v
	}
	return nil
}

// advance goes to the next row, or to the end, whose error it returns, io.EOF if there is none.
func (r *rows) advance(pc *pgx.Conn) error {
	switch {
	case r.primed:
		r.primed = false
		return nil
	case !r.ended && r.answer.Next():
		return nil
	}
	r.end(pc)
	if r.err != nil {
		return r.err
	}
	return io.EOF
}

// Close reads the rows that are left, and returns the error that came with them or with the commit.
func (r *rows) Close() error {
	if !r.ended {
		_ = r.conn.use(func(pc *pgx.Conn) error {
			r.end(pc)
			return nil
		})
	}
	return r.err
}
