package guard

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What a statement of a bypass pool is allowed, and what is reported of it.

// Event is what a bypass pool reports of one statement, twice: before it is sent, and when its outcome is known. The first
// stands alone where the second never comes: rows that are neither read to their end nor closed, a crash. It holds no SQL and
// no values.
type Event struct {
	Bypass   Bypass
	ID       string        // the same in both events of a statement, and in no others of any process
	End      bool          // the outcome is known; what follows is zero before
	Tags     []string      // PostgreSQL's command tags, such as "DELETE 3", of each statement of the text that was completed
	Kind     string        // the commands in them, such as "DELETE" or "DELETE; SELECT"
	Rows     int64         // returned and affected, of all statements together
	Duration time.Duration // from sending to the end of the rows
	Err      error
}

var (
	eventPrefix = rand.Text()[:13] + "-" // 65 bits: of this process, and no other
	eventNumber atomic.Uint64
)

func newEventID() string { return eventPrefix + strconv.FormatUint(eventNumber.Add(1), 36) }

// reportBegin reports a statement that is about to be sent. It is not sent if that fails.
func (c *conn) reportBegin(q *call) error {
	if c.cfg.Report == nil || q.scope.bypass == nil {
		return nil
	}
	q.started, q.eventID = time.Now(), newEventID()
	return c.report(q.ctx, Event{Bypass: *q.scope.bypass, ID: q.eventID})
}

// reportEnd reports a statement's outcome. It returns the error of the statement, or else that of the report.
func (c *conn) reportEnd(q *call, tag pgconn.CommandTag, err error) error {
	if q.eventID == "" {
		return err
	}
	if len(q.tags) == 0 {
		q.completed(tag)
	}
	e := Event{Bypass: *q.scope.bypass, ID: q.eventID, End: true, Duration: time.Since(q.started), Err: err}
	kinds := make([]string, len(q.tags))
	for i, tag := range q.tags {
		e.Tags, kinds[i] = append(e.Tags, tag.String()), kind(tag)
		e.Rows += tag.RowsAffected()
	}
	e.Kind = strings.Join(kinds, "; ")
	if failed := c.report(q.ctx, e); err == nil {
		return failed
	}
	return err
}

// report turns a panic of the hook into an error: rows can be closed on a goroutine of database/sql, where nothing recovers.
func (c *conn) report(ctx context.Context, e Event) (err error) {
	defer c.cfg.recovered("OnBypass", &err)
	c.cfg.Report(ctx, e)
	return nil
}

// completed notes the command tag of a statement of the text, if it will be reported. An empty text has none.
func (q *call) completed(tag pgconn.CommandTag) {
	if q.eventID != "" && tag.String() != "" {
		q.tags = append(q.tags, tag)
	}
}

// readTags reads the results behind the first of a text with several statements.
func (c *conn) readTags(q *call, a *result) {
	results, ok := a.rest.(*pgconn.MultiResultReader)
	if !ok || q.eventID == "" || q.mode != pgx.QueryExecModeSimpleProtocol {
		return // one statement, and what the guard has sent behind it
	}
	a.Rows.Close()
	if a.Err() == nil {
		q.completed(a.CommandTag())
	}
	for results.NextResult() {
		if tag, err := results.ResultReader().Close(); err == nil {
			q.completed(tag)
			c.noteTag(tag)
		}
	}
}

var errReadOnlyCall = errors.New("tenancy: a read-only bypass client sends no CALL and no DO, which could leave its read-only " +
	"transaction: use a client that may write")

// restrict takes from a bypass client the ways of sending in which the guard could not answer for it.
//
// SQL text in the simple protocol can hold several statements, of which a COMMIT ends the read-only transaction for those
// behind it. The extended protocol takes one statement a message (42601). What pgx puts arguments into is sent together with
// statements of the guard, so that the command tags of several could not be told apart from theirs.
func (c *conn) restrict(q *call) error {
	if q.scope.bypass == nil {
		return nil
	}
	readOnly := q.scope.readOnly()
	if readOnly && isProcedure(skipEmpty(q.sql)) {
		return errReadOnlyCall
	}
	if q.mode == pgx.QueryExecModeSimpleProtocol && q.sql != "" && (readOnly || len(q.args) > 0 && maySeveral(q.sql)) {
		q.mode = pgx.QueryExecModeExec
	}
	return nil
}

// skipEmpty skips the empty statements that a text begins with, which PostgreSQL does not count.
func skipEmpty(sql string) string {
	for {
		sql = skipBlank(sql)
		if !strings.HasPrefix(sql, ";") {
			return sql
		}
		sql = sql[1:]
	}
}
