package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// What a session of PostgreSQL keeps beyond a transaction, and how it is cleaned before another user gets the connection.
//
// Statements that GORM builds leave next to nothing. SQL of the caller can leave anything: temporary tables, which hide real
// ones, settings, a role, cursors, prepared statements, locks, channels. After such SQL the session is dirty, and is cleaned
// when its connection changes hands. What the application's own connect hook has set is the session's baseline, and is set
// again.

// session is what the guard knows about the session of a connection.
type session struct {
	baseline *baseline // nil until it was read

	dirty          bool // SQL of the caller has run since the session was cleaned
	named          bool // and that SQL may have changed what names mean
	locks          bool // the session was cleaned except for its holder's advisory locks
	cleaning       bool // the cleaning was sent behind a statement, and its result was not read yet
	awaited        int  // how many messages of that cleaning are answered yet
	committing     bool // the COMMIT behind a statement was sent, and its result was not read yet
	partly         bool // that cleaning did not restore the baseline, which was not known yet
	sequences      bool // statements that GORM built may have left what lastval and currval return
	staleSequences bool // lastval and currval may return what an earlier user of the connection has inserted
	saidLasts      bool // a CALL that may commit has left what was said about it
	temporary      bool // the session has had temporary objects, so that it has a temporary schema for good
	corrects       correction
	otherPath      bool // it began with another search_path than the pool's other connections
	unusable       bool // the server has said that it is out of resources or broken
}

// baseline is how a session is before its first use.
type baseline struct {
	searchPath  []byte
	role        string
	rowSecurity bool     // is on
	restore     []string // SQL that sets again what RESET ALL has reset; none where there was no connect hook
	reported    [len(reportedSettings)]string
}

// reportedSettings are settings whose changes the server reports to the client
// (https://www.postgresql.org/docs/current/libpq-status.html#LIBPQ-PQPARAMETERSTATUS), so that checking them costs nothing.
var reportedSettings = [...]string{
	"client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings",
	"default_transaction_read_only", "application_name", "search_path",
}

// baselineSQL reads what was set within the session: by the application's connect hook, because the session has had no other
// user yet. PostgreSQL's list of settings contains neither the role nor custom settings
// (https://www.postgresql.org/docs/current/view-pg-settings.html).
func (cfg Config) baselineSQL() string {
	var custom strings.Builder
	for _, name := range cfg.KeepSettings {
		fmt.Fprintf(&custom, ` UNION ALL SELECT %[1]s, pg_catalog.current_setting(%[1]s, true)`, sqltext.Literal(name))
	}
	return listedSQL + custom.String()
}

const listedSQL = `SELECT name, setting FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'` +
	` AND name OPERATOR(pg_catalog.<>) 'row_security' AND name OPERATOR(pg_catalog.!~~) 'transaction%'` +
	` UNION ALL SELECT 'role', pg_catalog.current_setting('role')` +
	` UNION ALL SELECT 'row_security', pg_catalog.current_setting('row_security')` +
	` UNION ALL SELECT '', pg_catalog.current_setting('search_path')` // to compare with, even if it is the default

// addSetting adds a row of baselineSQL. A custom setting that is not set is NULL.
func addSetting(settings [][2]string, row [][]byte) [][2]string {
	if len(row) != 2 || row[1] == nil {
		return settings
	}
	return append(settings, [2]string{string(row[0]), string(row[1])})
}

// newBaseline makes a baseline from what baselineSQL has returned.
func newBaseline(pg *pgconn.PgConn, settings [][2]string) *baseline {
	b := &baseline{}
	for _, s := range settings {
		switch s[0] {
		case "":
			b.searchPath = []byte(s[1])
			continue
		case "row_security":
			b.rowSecurity = s[1] == "on"
			continue
		case "role":
			if b.role = s[1]; b.role == noRole {
				continue
			}
		}
		b.restore = append(b.restore, fmt.Sprintf("SELECT pg_catalog.set_config(%s, %s, false)", sqltext.Literal(s[0]), sqltext.Literal(s[1])))
	}
	b.reported = reportedBy(pg)
	return b
}

func reportedBy(pg *pgconn.PgConn) (values [len(reportedSettings)]string) {
	for i, name := range reportedSettings {
		values[i] = pg.ParameterStatus(name)
	}
	return values
}

// differs reports whether a reported setting has changed.
func (b *baseline) differs(pg *pgconn.PgConn) bool {
	for i, name := range reportedSettings {
		if pg.ParameterStatus(name) != b.reported[i] {
			return true
		}
	}
	return false
}

// readBaseline reads the baseline in a round trip of its own.
func (c *conn) readBaseline(ctx context.Context, pc *pgx.Conn) error {
	rows, err := pc.PgConn().Exec(ctx, c.pool.baselineSQL).ReadAll()
	if err != nil {
		return err
	}
	var settings [][2]string
	for _, row := range rows[0].Rows {
		settings = addSetting(settings, row)
	}
	c.setBaseline(newBaseline(pc.PgConn(), settings))
	return nil
}

// setBaseline notes the baseline. If a connection has another search_path than the pool's first one, it was used without the
// guard before, or its login was altered since. Names may mean other tables on it, so no proof of another connection counts.
func (c *conn) setBaseline(b *baseline) {
	c.baseline = b
	c.corrects = c.correctionFor(b)
	path := string(b.searchPath)
	if !c.pool.searchPath.CompareAndSwap(nil, &path) {
		c.otherPath = *c.pool.searchPath.Load() != path
	}
}

// correctionFor returns what is to be set with each scope in a session that has begun like this.
func (c *conn) correctionFor(b *baseline) correction {
	switch {
	case !b.rowSecurity:
		return correctAll
	case b.role != cmp.Or(c.cfg.Role, noRole), c.cfg.LookupRole != "", c.cfg.Observe != nil:
		return correctRole
	default:
		return noCorrection
	}
}

// The names of settings that do not exist. current_setting raises an error for them, and PostgreSQL stops before the statement. So does
// set_config for uncleanMark, which no extension can have, because it has no dot.
const (
	uncleanMark  = "tenancy_session_is_not_clean"
	preparedMark = "tenancy.statements_were_prepared_by_sql"
	endedMark    = "tenancy.transaction_was_ended"
)

// raises reports whether PostgreSQL has raised an error for one of these names. If code in SQL asks for the same setting, the
// error has a context of its own.
func raises(err error, mark string) bool {
	const undefinedObject = "42704"
	if err == nil {
		return false
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == undefinedObject && pgErr.Where == "" &&
		strings.Contains(pgErr.Message, mark) // in whatever quotes lc_messages has
}

// cleanSQL returns the statements that clean the session. Each part removes something that no other part removes:
//
//   - the user and the role, which RESET ALL does not touch;
//   - settings, except those of the application's connect hook, which are set again at the end;
//   - cursors WITH HOLD; channels; temporary tables, views, functions and types; what lastval and currval return;
//   - the seed of random(), which no reset touches, by a seed that cannot be guessed;
//   - advisory locks, unless they are to be kept.
//
// Statements that SQL has prepared are dropped by name, by dropPrepared. DEALLOCATE ALL would also drop the guard's own, each of
// which costs a round trip to prepare again. PostgreSQL knows which ones SQL has prepared, even under a name of the guard's
// (https://www.postgresql.org/docs/current/view-pg-prepared-statements.html).
func (s *session) cleanSQL(keepLocks bool) []string {
	seed := fmt.Sprintf(`SELECT pg_catalog.setseed(%.17f)`, 2*rand.Float64()-1) //nolint:gosec // the generator is seeded by the system
	if !keepLocks {
		seed += `, pg_catalog.pg_advisory_unlock_all()`
	}
	all := append(make([]string, 0, len(resetSQL)+2), resetSQL...)
	all = append(all, seed)
	if s.baseline != nil {
		all = append(all, s.baseline.restore...)
	}
	return append(all, `SELECT pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid,`+
		` CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql)`+
		` THEN pg_catalog.current_setting('`+preparedMark+`') END`)
}

var resetSQL = []string{
	`SET SESSION AUTHORIZATION DEFAULT`, `SET ROLE NONE`, `RESET ALL`, `CLOSE ALL`, `UNLISTEN *`, `DISCARD TEMP`, `DISCARD SEQUENCES`,
}

// cleanTimeout bounds how long a broken network can hold a connection that is being cleaned.
const cleanTimeout = 5 * time.Second

// clean cleans the session, and returns when it is clean.
func (c *conn) clean(ctx context.Context, pc *pgx.Conn, keepLocks bool) error {
	if c.baseline == nil {
		if err := c.readBaseline(ctx, pc); err != nil {
			return err
		}
	}
	err := c.runClean(ctx, pc, keepLocks)
	if raises(err, preparedMark) {
		if err = c.dropPrepared(ctx, pc); err == nil {
			err = c.runClean(ctx, pc, keepLocks)
		}
	}
	err = c.cleaned(pc, err)
	c.locks = keepLocks
	return err
}

func (c *conn) runClean(ctx context.Context, pc *pgx.Conn, keepLocks bool) error {
	results, err := c.runAll(ctx, pc, c.cleanSQL(keepLocks)).ReadAll()
	if err == nil {
		last := results[len(results)-1]
		c.temporary = c.temporary || len(last.Rows) == 1 && string(last.Rows[0][0]) == "t"
	}
	return err
}

// dropPrepared drops the statements that SQL has prepared.
func (c *conn) dropPrepared(ctx context.Context, pc *pgx.Conn) error {
	results, err := pc.PgConn().Exec(ctx, `SELECT name FROM pg_catalog.pg_prepared_statement() WHERE from_sql`).ReadAll()
	if err != nil {
		return err
	}
	var drop []string
	for _, row := range results[0].Rows {
		drop = append(drop, "DEALLOCATE "+pgx.Identifier{string(row[0])}.Sanitize())
	}
	c.invalidateAll() // some of the guard's own may be among them
	return c.runAll(ctx, pc, drop).Close()
}

// cleaned notes the outcome of a cleaning. A session that cannot be cleaned is not used again.
func (c *conn) cleaned(pc *pgx.Conn, err error) error {
	c.cleaning, c.partly = false, false
	if err == nil && c.baseline.differs(pc.PgConn()) {
		err = errors.New("tenancy: the session cannot be reset to the settings that it began with")
	}
	if err != nil {
		c.unusable = true
		return err
	}
	c.dirty, c.named, c.locks, c.sequences, c.staleSequences, c.saidLasts = false, false, false, false, false, false
	dropNotifications(pc)
	return nil
}

// dropNotifications drops what pgx has received for a channel that is no longer listened to.
func dropNotifications(pc *pgx.Conn) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		if _, err := pc.WaitForNotification(over); err != nil {
			return
		}
	}
}

// drain reads the result of a cleaning that was sent behind a statement.
func (c *conn) drain(ctx context.Context, pc *pgx.Conn) error {
	if c.committing {
		if _, err := c.readCommit(ctx, pc); isBroken(err) { // of a statement that has failed
			return err
		}
	}
	if !c.cleaning {
		return nil
	}
	skipped := aborted(pc) // the statement has failed the transaction, so the cleaning did not run
	var failure error
	for {
		msg, err := pc.PgConn().ReceiveMessage(ctx)
		if err != nil {
			return c.cleaned(pc, err)
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			if failure == nil {
				failure = pgconn.ErrorResponseToPgError(msg)
			}
		case *pgproto3.DataRow:
			if len(msg.Values) == 2 { // the last row, the only one with two columns
				c.temporary = c.temporary || string(msg.Values[0]) == "t"
			}
		case *pgproto3.ReadyForQuery:
			if c.awaited--; c.awaited > 0 {
				continue
			}
			switch {
			case skipped:
				c.cleaning = false
				return nil
			case raises(failure, preparedMark), c.partly && (c.baseline == nil || len(c.baseline.restore) > 0):
				c.cleaning, c.partly = false, false
				return c.clean(ctx, pc, false)
			}
			return c.cleaned(pc, failure)
		}
	}
}
