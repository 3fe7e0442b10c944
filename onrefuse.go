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

// This file is about how a refusal is seen where its error is not looked at.

// Refusal is a statement that was refused, or a transaction. It holds no SQL, no values and no tenant's id.
type Refusal struct {
	Operation string // Op of the Error: "create", "query", "update", "delete", "row", "raw", "begin", "bypass", "bind" or "resolve"
	Table     string // as GORM names it; empty for raw SQL and for "begin"
	Caller    string // the application's line, as file:line; empty if a goroutine began in this package or in GORM
	Err       error  // what the statement returns; errors.Is finds the reason, errors.As an *Error
}

// reported is a refusal that OnRefuse has been told of. The mark is in the error, because that goes where the context does
// not: a refused association or preload is an error of the statement that wanted it, too.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }

// rowRefusal is the error that settle leaves with a statement whose refusal its *sql.Row carries, for GORM to log.
type rowRefusal struct{ error }

func (r rowRefusal) Unwrap() error { return r.error }

// startStatement returns the first of our callbacks. GORM's errors stick to a statement, but Row has none: who goes on with it can.
func startStatement(op string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if _, ok := db.Error.(rowRefusal); ok { //nolint:errorlint // only what settle has left as it is
			db.Error = nil
		}
		markBypass(db, op)
	}
}

func isReported(err error) bool {
	var r reported
	return errors.As(err, &r)
}

// reportRefusal tells Config.OnRefuse of a refusal, which explain or the guard made, and returns it with the mark of having done so.
// A panic of OnRefuse becomes part of the error: on its way up it would cost the connection of a default transaction, or of
// one that was to begin.
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

// reportBegin does the same for a transaction that did not begin. No callback has seen it, nor does GORM log it: so the
// logger is that of the *gorm.DB which the plugin was installed on.
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
	// The line that loggers find by themselves is not the application's: database/sql stands in between. Some of them format
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

// refusedBegin returns a pool for db that refuses everything, and tells of transactions.
func (p *Plugin) refusedBegin(db *gorm.DB, refusal error) refusedPool {
	return refusedPool{err: refusal, onBegin: func(ctx context.Context, err error) error {
		return p.reportBegin(ctx, db.Logger, err)
	}}
}

// logRefusal has GORM log a refusal when the callbacks are over. It does so for statements that have SQL, with their error
// and the application's line, at the level and in the form of all errors, so no record of our own is needed, and none comes
// twice. One that was refused before its SQL was built gets a comment in its place. Values may be another tenant's, or what
// an attacker wrote: they are left out.
func logRefusal(stmt *gorm.Statement) {
	if stmt.SQL.Len() == 0 {
		stmt.SQL.WriteString("-- not sent: refused by tenancy")
	}
	stmt.Vars = nil
}

// notApplications are the beginnings of functions' names that are passed over on the way to the application's line.
var notApplications = func() []string {
	root := reflect.TypeFor[Plugin]().PkgPath()
	return []string{
		root + ".", root + "/internal/guard.", root + "/rls.", "gorm.io/", "database/sql.", "reflect.", "runtime.", "sync.",
	}
}()

// caller returns the application's line, as file:line: the innermost outside of GORM, database/sql and this module.
func caller() string {
	var pcs [128]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if frame.PC != 0 && isApplications(frame) {
			return frame.File + ":" + strconv.Itoa(frame.Line)
		}
		if !more {
			return ""
		}
	}
}

// isApplications passes over what gorm/gen has generated, too, as GORM does.
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
