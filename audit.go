package tenancy

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// BypassEvent is what is reported of one statement of Bypass, twice: before it is sent, and when its outcome is known. It holds
// no SQL and no values.
//
// If the second event never comes, the statement was or may have been sent, and no more is known: the process has ended, or rows
// were neither read to their end nor closed.
type BypassEvent struct {
	// ID is the same in both events of a statement, and in no other event of any process. It has letters, digits and a hyphen.
	ID string

	// Phase says which of the two events it is. At BypassBegin the fields from Kind on are zero.
	Phase BypassPhase

	Reason   string // as given to Bypass
	ReadOnly bool   // whether the client is one of BypassReadOnly
	Table    string // as GORM names it; empty for raw SQL

	// Kind is the command in PostgreSQL's command tag, such as "SELECT"; empty if the statement failed. For SQL text with several
	// statements it names all that were completed, such as "DELETE; SELECT", even if a later one failed. They were rolled back
	// together then, unless one of them was a COMMIT.
	Kind string

	// Tags are the command tags, such as "DELETE 3", in their order.
	Tags []string

	Rows     int64         // returned and affected by all statements of the text together
	Duration time.Duration // from sending to the end of the rows
	Failed   bool          // whether the statement or the reading of its rows failed
	SQLState string        // of the failure, if PostgreSQL reported it
}

// BypassPhase says when a BypassEvent is reported.
type BypassPhase uint8

const (
	// BypassBegin is reported before a statement is sent. It is not sent if OnBypass panics.
	BypassBegin BypassPhase = iota

	// BypassEnd is reported when the outcome is known: for rows, when they were read to their end or closed.
	BypassEnd
)

// String returns "begin" or "end".
func (p BypassPhase) String() string {
	if p == BypassBegin {
		return "begin"
	}
	return "end"
}

// report passes an event of the guard to the log and to OnBypass.
func (p *Plugin) report(ctx context.Context, e guard.Event) {
	event := BypassEvent{
		ID:       e.ID,
		Reason:   e.Bypass.Reason,
		ReadOnly: e.Bypass.ReadOnly,
		Table:    e.Bypass.Table,
		Kind:     e.Kind,
		Tags:     e.Tags,
		Rows:     e.Rows,
		Duration: e.Duration,
		Failed:   e.Err != nil,
	}
	var pgErr *pgconn.PgError
	if errors.As(e.Err, &pgErr) {
		event.SQLState = pgErr.Code
	}
	if e.End {
		event.Phase = BypassEnd
	}
	p.config.Logger.LogAttrs(ctx, slog.LevelInfo, "tenancy: bypass", event.attrs()...)
	if p.config.OnBypass != nil {
		p.config.OnBypass(ctx, event)
	}
}

// attrs returns the event as a log record.
func (e BypassEvent) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("id", e.ID), slog.String("phase", e.Phase.String()),
		slog.String("reason", e.Reason), slog.Bool("read_only", e.ReadOnly), slog.String("table", e.Table),
	}
	if e.Phase == BypassBegin {
		return attrs
	}
	attrs = append(attrs, slog.String("kind", e.Kind), slog.Any("tags", e.Tags), slog.Int64("rows", e.Rows), slog.Duration("duration", e.Duration))
	if e.Failed {
		attrs = append(attrs, slog.Bool("failed", true), slog.String("sqlstate", e.SQLState))
	}
	return attrs
}

// checkAudit refuses a bypass that would leave no trace.
func (p *Plugin) checkAudit(ctx context.Context) error {
	c := p.config
	if c.AdminRole == "" && c.ReadOnlyRole == "" && !c.hasAdminDB() || c.OnBypass != nil || c.Logger.Enabled(ctx, slog.LevelInfo) {
		return nil
	}
	return errors.New("tenancy: statements of Bypass would leave no trace, because Config.Logger (or slog.Default) writes nothing " +
		"at level Info: set Config.OnBypass, or a Config.Logger that is enabled for slog.LevelInfo")
}
