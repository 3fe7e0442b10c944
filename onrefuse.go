package tenancy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// How a refusal is reported: to Config.OnRefuse and to GORM's logger.

// Refusal is a statement or a transaction that was refused. It holds no SQL, no values and no tenant's id.
type Refusal struct {
	Operation string // Op of the Error: "create", "query", "update", "delete", "row", "raw", "begin", "bypass", "bind" or "resolve"
	Table     string // as GORM names it; empty for raw SQL and for "begin"
	Caller    string // the application's line, as file:line; empty if a goroutine began in this package or in GORM
	Err       error  // what the statement returns; errors.Is finds the reason, errors.As an *Error
}

// reported marks a refusal that OnRefuse has been called with. The mark is in the error, because the error goes further than the
// context: the refusal of an association or a preload becomes the error of the statement that caused it.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }

// rowRefusal is the error that endStatement leaves with a statement whose refusal is in its *sql.Row, for GORM to log.
type rowRefusal struct{ error }

func (r rowRefusal) Unwrap() error { return r.error }

// startStatement returns the first of the plugin's callbacks. GORM keeps a statement's error for its next use; the error of a
// Row is in the row, so the statement can be used again.
func startStatement(op string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if _, ok := db.Error.(rowRefusal); ok { //nolint:errorlint // only the very error that endStatement has left
			db.Error = nil
		}
		markBypass(db, op)
	}
}

func isReported(err error) bool {
	var r reported
	return errors.As(err, &r)
}

// reportRefusal calls Config.OnRefuse with a refusal, and returns the refusal marked as reported. A panic of OnRefuse becomes a
// part of the error: otherwise it would leak the connection of a transaction.
func (p *Plugin) reportRefusal(ctx context.Context, refusal error) (marked error) {
	marked = reported{refusal}
	if p.config.OnRefuse == nil {
		return marked
	}
	defer func() {
		if v := recover(); v != nil {
			panicked := newPanicError("Config.OnRefuse", v)
			p.config.Logger.ErrorContext(ctx, panicked.Error())
			marked = reported{errors.Join(refusal, panicked)}
		}
	}()
	r := Refusal{Caller: caller(), Err: refusal}
	var known *Error
	if errors.As(refusal, &known) {
		r.Operation, r.Table = known.Op, known.Table
	}
	p.config.OnRefuse(ctx, r)
	return marked
}

// reportBegin does the same for a transaction that did not begin. No callback has seen it, and GORM does not log it, so it is
// logged by the logger of the *gorm.DB that the plugin was installed on.
func (p *Plugin) reportBegin(ctx context.Context, log logger.Interface, refusal error) (marked error) {
	refusal = beginError(refusal)
	marked = p.reportRefusal(ctx, refusal)
	if log == nil {
		return marked
	}
	defer func() {
		if v := recover(); v != nil {
			marked = errors.Join(marked, newPanicError("GORM's logger", v))
		}
	}()
	// The line that loggers find by themselves is not the application's, because database/sql is between. Some loggers format
	// the message, and others do not.
	message := fmt.Sprintf("%v, called at %s", refusal, caller())
	log.Error(ctx, strings.ReplaceAll(message, "%", "%%"))
	return marked
}

// beginError names the operation in an error that refuses to begin a transaction.
func beginError(err error) error {
	if errors.As(err, new(*Error)) {
		return err
	}
	return &Error{Op: "begin", Err: err}
}

// refusedBegin returns a pool for db that refuses everything, and reports transactions.
func (p *Plugin) refusedBegin(db *gorm.DB, refusal error) refusedPool {
	return refusedPool{err: refusal, onBegin: func(ctx context.Context, err error) error {
		return p.reportBegin(ctx, db.Logger, err)
	}}
}

// logRefusal makes GORM log a refusal when the callbacks are over. GORM logs statements that have SQL, with their error and the
// application's line, at the level and in the form of all errors. So the plugin needs no record of its own, and none comes
// twice. A statement that was refused before its SQL was built gets a comment as SQL. Its values are removed, because they may
// be another tenant's or an attacker's.
func logRefusal(stmt *gorm.Statement) {
	if stmt.SQL.Len() == 0 {
		stmt.SQL.WriteString("-- not sent: refused by tenancy")
	}
	stmt.Vars = nil
}

// notApplications are prefixes of functions' names that are skipped in the search for the application's line.
var notApplications = func() []string {
	root := reflect.TypeFor[Plugin]().PkgPath()
	return []string{
		root + ".", root + "/internal/guard.", root + "/rls.", "gorm.io/", "database/sql.", "reflect.", "runtime.", "sync.",
	}
}()

// caller returns the application's line, as file:line: the innermost one outside of GORM, database/sql and this module.
func caller() string {
	line, _ := callerAt()
	return line
}

// callerAt also returns how many frames its own caller must skip to get there.
func callerAt() (line string, depth int) {
	var pcs [128]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for depth = 0; ; depth++ {
		frame, more := frames.Next()
		if frame.PC != 0 && isApplications(frame) {
			return frame.File + ":" + strconv.Itoa(frame.Line), depth
		}
		if !more {
			return "", 0
		}
	}
}

// isApplications reports whether a frame is the application's. Like GORM, it skips what gorm/gen has generated.
func isApplications(frame runtime.Frame) bool {
	if strings.HasSuffix(frame.File, "_test.go") {
		return true
	}
	for _, name := range notApplications {
		if strings.HasPrefix(frame.Function, name) {
			return false
		}
	}
	return !strings.HasSuffix(frame.File, ".gen.go")
}

// isRefusal reports whether err refuses a statement: a callback's refusal, or the guard's.
func isRefusal(err error) bool {
	var known *Error
	return errors.As(err, &known) || guard.Refused(err) || errors.Is(err, ErrNotIsolated) || errors.Is(err, ErrForeignCallback)
}
