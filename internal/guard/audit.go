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

// What a statement of a bypass pool may do, and what is reported of it.

// Event is what a bypass pool reports of one statement, twice: before it is sent, and when its outcome is known. It holds no SQL
// and no values.
//
// The second event never comes if the process ends, or if rows are neither read to their end nor closed.
type Event struct {
	Bypass   Bypass
	ID       string        // the same in both events of a statement, and in no others of any process
	End      bool          // the outcome is known; what follows is zero before
	Tags     []string      // PostgreSQL's command tags, such as "DELETE 3", of each statement of the text that was completed
	Kind     string        // the commands in the tags, such as "DELETE" or "DELETE; SELECT"
	Rows     int64         // returned and affected by all statements together
	Duration time.Duration // from sending to the end of the rows
	Err      error
}

var (
	eventPrefix = rand.Text()[:13] + "-" // 65 random bits of this process
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

// report calls the hook. A panic of the hook becomes an error, because rows can be closed on a goroutine of database/sql, where
// nothing recovers.
func (c *conn) report(ctx context.Context, e Event) (err error) {
	defer c.cfg.recovered("OnBypass", &err)
	c.cfg.Report(ctx, e)
	return nil
}

// completed notes the command tag of one statement of the text, if it will be reported. An empty text has no tag.
func (q *call) completed(tag pgconn.CommandTag) {
	if q.eventID != "" && tag.String() != "" {
		q.tags = append(q.tags, tag)
	}
}

// readTags reads the results that follow the first one, of a text with several statements.
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

var errReadOnlyCall = errors.New("tenancy: a read-only client of Bypass cannot run CALL or DO, because they could end its read-only " +
	"transaction: use a client of Bypass without BypassReadOnly")

// restrict changes or refuses the ways of sending that the guard could not control for a bypass client.
//
// SQL text in the simple protocol can hold several statements. A COMMIT among them would end the read-only transaction before
// the next one. The extended protocol takes one statement a message (42601). If pgx writes arguments into the text, it sends the
// text together with statements of the guard, and their command tags could not be told apart.
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
