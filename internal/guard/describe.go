package guard

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// describe returns the types of a statement's parameters and columns, from the cache or from the server, which also prepares the
// statement if the mode says so. It returns nil in the mode that needs no description.
func (c *conn) describe(ctx context.Context, pc *pgx.Conn, q *call) (*statement, error) {
	switch q.mode {
	case pgx.QueryExecModeExec:
		return nil, nil //nolint:nilnil // no description is what the mode means
	case pgx.QueryExecModeCacheStatement:
		if c.prepared.capacity <= 0 {
			return nil, errors.New("cannot use QueryExecModeCacheStatement with disabled statement cache")
		}
	case pgx.QueryExecModeCacheDescribe:
		if c.described.capacity <= 0 {
			return nil, errors.New("cannot use QueryExecModeCacheDescribe with disabled description cache")
		}
	case pgx.QueryExecModeDescribeExec:
	default:
		return nil, errors.New("unknown QueryExecMode")
	}

	known := c.cacheOf(q)
	if known != nil {
		if st := known.get(q.sql); st != nil {
			return st, nil
		}
	}
	st, err := c.describeNow(ctx, pc, q)
	if err != nil {
		return nil, err
	}
	if known != nil {
		if evicted := known.put(st); evicted != nil {
			c.deallocate(evicted.Name)
		}
	}
	return st, nil
}

// cacheOf returns the cache that serves the call, or nil.
func (c *conn) cacheOf(q *call) *cache {
	switch q.mode {
	case pgx.QueryExecModeCacheStatement:
		return c.prepared
	case pgx.QueryExecModeCacheDescribe:
		return c.described
	default:
		return nil
	}
}

// describeNow asks the server in one round trip. It sends, in this order:
//
//   - the names of prepared statements to drop;
//   - BEGIN, if the transaction has not begun yet, so that a statement with a syntax error fails the transaction, as it does
//     without the guard;
//   - the scope, because PostgreSQL resolves names with the rights and the search path of the role;
//   - the statements that set the scope, if they are to be prepared too;
//   - the statement.
func (c *conn) describeNow(ctx context.Context, pc *pgx.Conn, q *call) (st *statement, err error) {
	name := ""
	if q.mode == pgx.QueryExecModeCacheStatement {
		name = statementName(q.sql)
	}
	if tracer, ok := c.tracer.(pgx.PrepareTracer); ok {
		ctx = tracer.TracePrepareStart(ctx, pc, pgx.TracePrepareStartData{Name: name, SQL: q.sql})
		defer func() { tracer.TracePrepareEnd(ctx, pc, pgx.TracePrepareEndData{Err: err}) }()
	}
	d := description{conn: c, pc: pc, pipeline: pc.PgConn().StartPipeline(ctx)}
	for _, old := range c.toDeallocate {
		d.pipeline.SendDeallocate(old)
	}
	d.sendSteps(q)
	if name != "" {
		d.prepareScope(q)
	}
	st = d.prepare(name, q.sql)
	st.class, st.stateless = classOf(q.sql), isStateless(q.sql)

	err = d.read()
	if safeToRetry(err) {
		return nil, err
	}
	if c.tx != nil && !q.autocommit {
		c.tx.begun = true
	}
	d.keep(st, err)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// description is one round trip that describes statements.
type description struct {
	conn     *conn
	pc       *pgx.Conn
	pipeline *pgconn.Pipeline
	steps    []step       // sent before the statements
	prepares []*statement // to be described, in the order in which they were sent
	answered int          // how many of them the server has described
}

// sendSteps sends what sets the scope.
func (d *description) sendSteps(q *call) {
	d.steps = slices.DeleteFunc(d.conn.steps(d.pc, q, nil), func(s step) bool {
		return s.kind == stepProof || s.kind == stepSequences || s.kind == stepReach || s.kind == stepHold
	})
	for _, s := range d.steps {
		d.pipeline.SendQueryParams(s.command(q), s.params, nil, nil, nil)
	}
}

// prepare sends a statement to be described, and to be prepared if it has a name.
func (d *description) prepare(name, sql string) *statement {
	d.pipeline.SendPrepare(name, sql, nil)
	s := &statement{StatementDescription: &pgconn.StatementDescription{Name: name, SQL: sql}}
	d.prepares = append(d.prepares, s)
	return s
}

// prepareScope prepares BEGIN and the statement that will set the scope, unless they are prepared. It waits until a step takes a
// snapshot anyway.
func (d *description) prepareScope(q *call) {
	if !slices.ContainsFunc(d.steps, func(s step) bool { return s.checks }) {
		return
	}
	for _, sql := range []string{d.conn.nextScope(q), d.conn.tx.beginSQL()} {
		if sql != "" && d.conn.scopeStatements[sql] == nil {
			d.prepare(statementName(sql), sql)
		}
	}
}

// nextScope is the text that will set the scope in this session once its baseline is known. Before, it is a guess.
func (c *conn) nextScope(q *call) string {
	corrects := c.corrects
	if c.baseline == nil {
		corrects = c.correctionFor(&baseline{role: noRole, rowSecurity: true})
	}
	return c.scopeSQLOf(q.scope).inClean(q.scope.readOnly(), corrects, c.temporary)
}

// read reads the results of the steps, and then the descriptions.
func (d *description) read() (err error) {
	done := 0 // of the steps
	for err = d.pipeline.Sync(); err == nil; {
		var result any
		if result, err = d.pipeline.GetResults(); err != nil || result == nil {
			break
		}
		switch r := result.(type) {
		case *pgconn.ResultReader:
			var settings [][2]string
			if d.steps[done].kind == stepBaseline {
				settings = readSettings(r)
			}
			if _, err = r.Close(); err == nil {
				d.conn.succeeded(d.pc, d.steps[done], settings)
				done++
			}
		case *pgconn.StatementDescription:
			s := d.prepares[d.answered]
			s.ParamOIDs, s.Fields = r.ParamOIDs, r.Fields
			s.formats = stdlibFormats(r.Fields)
			d.answered++
		}
	}
	if closeErr := d.pipeline.Close(); err == nil {
		err = closeErr
	}
	if err != nil && done < len(d.steps) {
		err = d.conn.stepError(d.steps[done], err)
	}
	return err
}

// keep notes which statements the server has prepared now, besides st itself. After an error the next one may be prepared as well,
// because the server can fail between preparing and describing, so that one is dropped.
func (d *description) keep(st *statement, err error) {
	c := d.conn
	c.toDeallocate = c.toDeallocate[:0]
	for _, s := range d.prepares[:d.answered] {
		if s != st {
			c.scopeStatements[s.SQL] = s
		}
	}
	if err != nil {
		for _, s := range d.prepares[min(d.answered, len(d.prepares)-1):] {
			c.deallocate(s.Name)
		}
	}
}

// resultFormats are the formats in which the server sends the columns.
func (q *call) resultFormats(st *statement) []int16 {
	if q.formats == nil {
		return st.formats
	}
	return formatsBy(q.formats, st.Fields)
}

// deallocate has a statement dropped in the next round trip that prepares one.
func (c *conn) deallocate(name string) {
	if name != "" {
		c.toDeallocate = append(c.toDeallocate, name)
	}
}

// invalidateAfter drops from the caches what an error has made doubtful. It reports whether the statement did not run, as the server
// says, and may succeed when it is prepared and sent again.
func (c *conn) invalidateAfter(q *call, err error) (again bool) {
	known := c.cacheOf(q)
	if err == nil || known == nil {
		return false
	}
	const (
		planChanged      = "0A000" // "cached plan must not change result type"
		unknownStatement = "26000"
		formatsChanged   = "08P01" // "bind message has 2 result formats but query has 3 columns"
	)
	if isFromServer(err, unknownStatement, "FetchPreparedStatement") && mentionsOurs(err) {
		c.invalidateAll()
		return true
	}
	if !mayBeStale(err) {
		return false
	}
	s := known.remove(q.sql)
	if s == nil {
		return false
	}
	c.deallocate(s.Name)
	return isFromServer(err, planChanged, "RevalidateCachedQuery") || isFromServer(err, formatsChanged, "PortalSetResultFormat")
}

// invalidateAll drops every statement, because SQL of the caller has deallocated some or all of them.
func (c *conn) invalidateAll() {
	for _, name := range c.prepared.clear() {
		c.deallocate(name)
	}
	for sql, s := range c.scopeStatements {
		c.deallocate(s.Name)
		delete(c.scopeStatements, sql)
	}
}

// mayBeStale reports whether an error can come from a description that a migration has outdated: the client could not encode a
// value, or the server rejected the statement or its data. After a duplicate key, a deadlock or a lost connection the statement
// stays in the cache.
func mayBeStale(err error) bool {
	state := sqlState(err)
	if state == "" {
		return true
	}
	switch state[:2] {
	case "08", "0A", "22", "26", "42", "XX":
		return true
	}
	return false
}
