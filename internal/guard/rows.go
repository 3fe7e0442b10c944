package guard

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows streams the rows of a query from the wire. The outcome of the statement's transaction comes after the last row, so it is
// read before Next returns io.EOF.
type rows struct {
	conn   *conn
	call   call
	result result

	typeMap *pgtype.Map
	*layout

	primed bool // the first row was read ahead
	ended  bool // the result was read to its end
	err    error
	names  []string

	// task is run as a func value, made once. It does what todo says, with the fields below.
	task func(*pgx.Conn) error
	todo rowsTask
	ctx  context.Context
	args []driver.NamedValue
	dest []driver.Value
}

type rowsTask uint8

const (
	opening rowsTask = iota
	reading
	ending
)

func (r *rows) run(pc *pgx.Conn) error {
	switch r.todo {
	case opening:
		return r.open(pc)
	case reading:
		return r.read(pc)
	default:
		r.end(pc)
		return nil
	}
}

// use runs a task on the connection.
func (r *rows) use(todo rowsTask) error {
	r.todo = todo
	return r.conn.use(r.task)
}

var _ driver.Rows = (*rows)(nil)

// layout is the names of the columns of a result, and how they are read. A prepared statement keeps its layout: the server
// refuses to run one whose columns have changed, and a connection reads one result at a time.
type layout struct {
	columns []string
	values  []valueFunc
}

func (r *rows) newLayout() *layout {
	fields := r.result.FieldDescriptions()
	l := &layout{columns: make([]string, len(fields)), values: make([]valueFunc, len(fields))}
	for i, f := range fields {
		l.columns[i] = f.Name
		l.values[i] = newValueFunc(r.typeMap, f.DataTypeOID, f.Format)
	}
	return l
}

// open sends the statement and reads its result up to the first row.
func (r *rows) open(pc *pgx.Conn) error {
	c := r.conn
	ctx, err := c.start(r.ctx, pc, &r.call, r.args)
	if err == nil {
		r.result, err = c.send(ctx, pc, &r.call)
	}
	r.args = nil
	if err != nil {
		return c.retryable(c.done(pc, &r.call, pgconn.CommandTag{}, err))
	}
	return r.prime(pc)
}

// prime reads the first row ahead, because only then the columns and most errors are known.
func (r *rows) prime(pc *pgx.Conn) error {
	r.typeMap = pc.TypeMap()
	r.primed = r.result.Next()
	r.layout = r.lookUpLayout()
	if !r.primed {
		r.end(pc)
	}
	return r.conn.retryable(r.err)
}

func (r *rows) lookUpLayout() *layout {
	st := r.call.statement
	if st == nil || st.Name == "" || len(st.Fields) == 0 || r.call.formats != nil {
		return r.newLayout()
	}
	if st.layout == nil {
		st.layout = r.newLayout()
	}
	return st.layout
}

// end reads the outcome.
func (r *rows) end(pc *pgx.Conn) {
	if r.ended {
		return
	}
	r.ended = true
	r.conn.readTags(&r.call, &r.result)
	tag, err := r.result.close()
	r.err = procedureError(&r.call, err)
	r.conn.noteOutcome(&r.call, tag, err)
	r.err = r.conn.done(pc, &r.call, tag, r.err)
}

// Columns returns the names of the columns. The slice belongs to these rows, because the layout is shared.
func (r *rows) Columns() []string {
	if r.names == nil {
		r.names = slices.Clone(r.columns)
	}
	return r.names
}

// Next reads one row into dest. It returns io.EOF after the last row, once PostgreSQL has committed.
func (r *rows) Next(dest []driver.Value) error {
	if r.primed {
		r.primed = false
		return r.convert(dest)
	}
	r.dest = dest
	return r.use(reading)
}

// read reads the next row into r.dest.
func (r *rows) read(pc *pgx.Conn) error {
	if err := r.advance(pc); err != nil {
		return err
	}
	return r.convert(r.dest)
}

// advance goes to the next row. At the end it returns the statement's error, or io.EOF.
func (r *rows) advance(pc *pgx.Conn) error {
	if !r.ended && r.result.Next() {
		return nil
	}
	r.end(pc)
	if r.err != nil {
		return r.err
	}
	return io.EOF
}

// convert takes the values of the row that was read.
func (r *rows) convert(dest []driver.Value) error {
	for i, raw := range r.result.RawValues() {
		if raw == nil {
			dest[i] = nil
			continue
		}
		v, err := r.values[i](raw)
		if err != nil {
			return fmt.Errorf("convert field %d failed: %w", i, err)
		}
		dest[i] = v
	}
	return nil
}

// Close reads the rows that are left, and returns the error that came with them or with the commit.
func (r *rows) Close() error {
	if !r.ended {
		_ = r.use(ending)
	}
	return r.err
}
