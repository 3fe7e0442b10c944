package guard

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// message is a group of statements in the extended protocol that ends with one Sync.
//
// Mostly it is a batch of pgx, which allocates least. If the session is cleaned behind the statement, the guard queues the same
// messages itself, and the cleaning follows in the same write.
type message struct {
	conn   *conn
	pc     *pgx.Conn
	batch  *pgconn.Batch
	behind []func(*pgproto3.Frontend) // instead of the batch
}

// joined is SQL text of several statements.
func joined(statements []string) string { return strings.Join(statements, "; ") }

func (c *conn) message(pc *pgx.Conn, q *call) message {
	m := message{conn: c, pc: pc}
	if !c.cleansBehind(q) && !q.block {
		m.batch = &pgconn.Batch{}
	}
	return m
}

// add adds a statement: a prepared one, or its text.
func (m *message) add(known *statement, sql string, params [][]byte, oids []uint32, formats, results []int16) {
	switch {
	case m.batch == nil:
		m.behind = append(m.behind, func(f *pgproto3.Frontend) {
			name := ""
			if known != nil {
				name = known.Name
			} else {
				f.SendParse(&pgproto3.Parse{Query: sql, ParameterOIDs: oids})
			}
			f.SendBind(&pgproto3.Bind{
				PreparedStatement: name, ParameterFormatCodes: formats, Parameters: params, ResultFormatCodes: results,
			})
			f.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
			f.SendExecute(&pgproto3.Execute{})
		})
	case known != nil:
		m.batch.ExecStatement(known.StatementDescription, params, formats, results)
	default:
		m.batch.ExecParams(sql, params, oids, formats, results)
	}
}

// send sends the message, and returns a reader of its results.
func (m *message) send(ctx context.Context) (*pgconn.MultiResultReader, error) {
	if m.batch != nil {
		return m.pc.PgConn().ExecBatch(ctx, m.batch), nil
	}
	return m.conn.sendBefore(ctx, m.pc, m.queue)
}

// queue puts the message into the connection's buffer.
func (m *message) queue(f *pgproto3.Frontend) {
	for _, queue := range m.behind {
		queue(f)
	}
	f.SendSync(&pgproto3.Sync{})
}

// sendBefore sends what queue puts into the connection's buffer, up to its Sync, and behind it the cleaning of the session, in
// one write. PostgreSQL answers in order, so the reader that pgx returns for the cleaning reads the results of what was queued.
// The result of the cleaning is left for drain.
func (c *conn) sendBefore(ctx context.Context, pc *pgx.Conn, queue func(*pgproto3.Frontend)) (*pgconn.MultiResultReader, error) {
	pg := pc.PgConn()
	if err := ctx.Err(); err != nil {
		return nil, err // pgx would say the same
	}
	if pg.IsClosed() || pg.IsBusy() {
		return nil, pgconn.ErrConnClosed
	}
	queue(pg.Frontend())
	c.cleaning, c.partly = true, c.baseline == nil
	texts := c.messages(c.cleanSQL(false))
	c.awaited = len(texts)
	return execBehind(ctx, pg, texts), nil
}

// execBehind sends the connection's buffer and these texts behind it, each as a message of its own, in one write.
func execBehind(ctx context.Context, pg *pgconn.PgConn, texts []string) *pgconn.MultiResultReader {
	last := len(texts) - 1
	for _, text := range texts[:last] {
		pg.Frontend().SendQuery(&pgproto3.Query{String: text})
	}
	return pg.Exec(&lateContext{Context: ctx}, texts[last])
}

// lateContext hides from pgx's first look that it has ended. pgx looks once before it writes, and writes nothing if the context
// has ended: the queued messages would stay in the buffer, and be sent with the next statement. With lateContext pgx writes
// them, and sees the end when it waits for the result.
type lateContext struct {
	context.Context
	asked bool
}

func (c *lateContext) Done() <-chan struct{} {
	if !c.asked {
		c.asked = true
		return nil
	}
	return c.Context.Done()
}
