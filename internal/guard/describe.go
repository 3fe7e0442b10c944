package guard

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// describe makes the server tell the types of a statement's parameters and columns, and prepare it if the mode wants
// that. It returns nil in the mode that needs no description. What is known is not asked again.
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
	st, err := c.ask(ctx, pc, q)
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

// ask sends one round trip: the names of statements to drop, the begin of a transaction that has not begun yet (so that
// a statement the server does not understand fails the transaction, as it would without a guard), the scope (names
// are resolved with the rights and the search path of the role), that once more if it is to be prepared, and the
// statement.
func (c *conn) ask(ctx context.Context, pc *pgx.Conn, q *call) (st *statement, err error) {
	name := ""
	if q.mode == pgx.QueryExecModeCacheStatement {
		name = statementName(q.sql)
	}
	if tracer, ok := c.tracer.(pgx.PrepareTracer); ok {
		ctx = tracer.TracePrepareStart(ctx, pc, pgx.TracePrepareStartData{Name: name, SQL: q.sql})
		defer func() { tracer.TracePrepareEnd(ctx, pc, pgx.TracePrepareEndData{Err: err}) }()
	}

	pipeline := pc.PgConn().StartPipeline(ctx)
	for _, old := range c.toDeallocate {
		pipeline.SendDeallocate(old)
	}
	steps := slices.DeleteFunc(c.steps(pc, q, nil), func(s step) bool { return s.kind == stepProof || s.kind == stepSequences })
	for _, s := range steps {
		pipeline.SendQueryParams(s.command(q), s.params, nil, nil, nil)
	}
	var prepares []*statement
	prepare := func(name, sql string) *statement {
		pipeline.SendPrepare(name, sql, nil)
		s := &statement{StatementDescription: &pgconn.StatementDescription{Name: name, SQL: sql}}
		prepares = append(prepares, s)
		return s
	}
	looks := slices.ContainsFunc(steps, func(s step) bool { return s.looks }) // and so a snapshot is taken anyway
	if looks && name != "" {
		for _, before := range []string{c.nextScope(q), c.tx.beginSQL()} {
			if before != "" && c.scopeStatements[before] == nil {
				prepare(statementName(before), before)
			}
		}
	}
	st = prepare(name, q.sql)
	st.class, st.quiet = classOf(q.sql), isQuiet(q.sql)

	answered, err := c.readPrepared(pc, pipeline, steps, prepares)
	if safeToRetry(err) {
		return nil, err
	}
	if c.tx != nil && !q.alone {
		c.tx.begun = true
	}
	c.toDeallocate = c.toDeallocate[:0]
	for _, s := range prepares[:answered] {
		if s != st {
			c.scopeStatements[s.SQL] = s
		}
	}
	if err != nil {
		for _, s := range prepares[min(answered, len(prepares)-1):] {
			// It may exist, and nobody will know: the server can fail between preparing and describing, and after both.
			c.deallocate(s.Name)
		}
		return nil, err
	}
	return st, nil
}

// nextScope is the text that will set the scope in this session once its baseline is known, which can be guessed before.
func (c *conn) nextScope(q *call) string {
	corrects := c.corrects
	if c.baseline == nil {
		corrects = c.cfg.Role != ""
	}
	return c.pool.scopeSQL.inClean(q.scope.readOnly(), corrects, c.temporary)
}

// readPrepared reads the results: those of the steps, and the descriptions in the order in which they were asked for. It
// returns how many descriptions came before an error.
func (c *conn) readPrepared(pc *pgx.Conn, pipeline *pgconn.Pipeline, steps []step, prepares []*statement) (answered int, err error) {
	done := 0 // of the steps
	for err = pipeline.Sync(); err == nil; {
		var result any
		if result, err = pipeline.GetResults(); err != nil || result == nil {
			break
		}
		switch r := result.(type) {
		case *pgconn.ResultReader:
			var settings [][2]string
			if steps[done].kind == stepBaseline {
				settings = readSettings(r)
			}
			if _, err = r.Close(); err == nil {
				c.succeeded(pc, steps[done], settings)
				done++
			}
		case *pgconn.StatementDescription:
			s := prepares[answered]
			s.ParamOIDs, s.Fields = r.ParamOIDs, r.Fields
			s.formats = stdlibFormats(r.Fields)
			answered++
		}
	}
	if closeErr := pipeline.Close(); err == nil {
		err = closeErr
	}
	if err != nil && done < len(steps) {
		err = c.stepError(steps[done], err)
	}
	return answered, err
}

// resultFormats are the formats in which the server sends the columns.
func (q *call) resultFormats(st *statement) []int16 {
	if q.formats == nil {
		return st.formats
	}
	return formatsBy(q.formats, st.Fields)
}

// deallocate notes a statement for the next round trip that prepares one.
func (c *conn) deallocate(name string) {
	if name != "" {
		c.toDeallocate = append(c.toDeallocate, name)
	}
}

// forgetAfter drops from the caches what an error has made doubtful, and reports whether the statement may succeed if it
// is prepared and sent once more: it did not run, says the server.
func (c *conn) forgetAfter(q *call, err error) (again bool) {
	known := c.cacheOf(q)
	if err == nil || known == nil {
		return false
	}
	const (
		planChanged      = "0A000" // "cached plan must not change result type"
		unknownStatement = "26000"
		formatsChanged   = "08P01" // "bind message has 2 result formats but query has 3 columns"
	)
	if isServers(err, unknownStatement, "FetchPreparedStatement") && mentionsOurs(err) {
		c.forgetAll()
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
	return isServers(err, planChanged, "RevalidateCachedQuery") || isServers(err, formatsChanged, "PortalSetResultFormat")
}

// forgetAll drops every statement, for somebody has deallocated some, or all, behind the guard's back.
func (c *conn) forgetAll() {
	for _, name := range c.prepared.clear() {
		c.deallocate(name)
	}
	for sql, s := range c.scopeStatements {
		c.deallocate(s.Name)
		delete(c.scopeStatements, sql)
	}
}

// mayBeStale tells whether an error can come from a description that a migration has outdated: the client could not
// encode a value, or the server found fault with the statement or its data. A duplicate key, a deadlock or a lost
// connection says nothing of the kind, and costs no statement its place.
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
