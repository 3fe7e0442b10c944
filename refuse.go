package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// How a refusal reaches the caller as an error.

// errorKey is where a statement keeps its first error, in GORM's settings of that one statement.
const errorKey = "tenancy:error"

// refuse ends a statement with err, if it is not nil, before anything is sent.
func refuse(db *gorm.DB, op string, err error) {
	if err != nil {
		_ = db.AddError(explain(db.Statement, op, err))
		keepFirstError(db)
		db.InstanceSet(notSentKey, true)
	}
}

// notSentKey is where a statement notes that it was not sent.
const notSentKey = "tenancy:not_sent"

// unanswered is why PostgreSQL has not answered a question that had to be asked before a statement: a context that has ended, a transaction
// that has failed, a connection that was lost. It is the statement's error as it is, because the statement would have failed in the same
// way without the plugin. It is no refusal.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// notAnswered marks the error of a question, unless the guard has refused the question.
func notAnswered(err error) error {
	if err == nil || guard.Refused(err) {
		return err
	}
	return unanswered{err}
}

// refuseAll makes tx, a session of db, a client whose every statement returns err.
func refuseAll(tx, db *gorm.DB, op string, err error) *gorm.DB {
	err = explain(db.Statement, op, err)
	refused := refusedPool{err: err}
	if p, ok := db.Plugins["tenancy"].(*Plugin); ok {
		refused = p.refusedBegin(db, err)
	}
	tx.Config.ConnPool, tx.Statement.ConnPool = refused, refused
	if !errors.Is(err, ErrNotInstalled) { // without the plugin's callbacks, an error here makes Row return nil
		_ = tx.AddError(err)
	}
	return tx
}

// explain adds to err which statement was refused, if it was.
func explain(stmt *gorm.Statement, op string, err error) error {
	var known *Error
	var failed unanswered
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &failed):
		return failed.error
	}
	return &Error{Op: op, Table: stmt.Table, Err: err}
}

// keepFirstError remembers the first error of this statement or of one for its associations, such as a refusal or a deadline.
// GORM's AddError keeps only the text of older errors, so that an error of a later rollback would hide it.
func keepFirstError(db *gorm.DB) {
	if db.Error == nil {
		return
	}
	if _, noted := db.InstanceGet(errorKey); !noted {
		db.InstanceSet(errorKey, db.Error)
	}
}

// endStatement returns the last of the plugin's callbacks. It restores an error that a later one hides, and reports a refusal.
func (p *Plugin) endStatement(op string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		p.restoreError(db, op)
		dropWhere(db.Statement)
		leaveContext(db.Statement)
	}
}

func (p *Plugin) restoreError(db *gorm.DB, op string) {
	if refused, ok := db.Statement.ConnPool.(refusedPool); ok && refused.instead != nil {
		db.Statement.ConnPool = refused.instead // the caller may go on with this statement
		if db.Error == nil {
			db.Error = rowRefusal{refused.err}
		}
		db.InstanceSet(notSentKey, true)
		if isRefusal(refused.err) {
			logRefusal(db.Statement)
		}
	}
	if db.Error == nil {
		return
	}
	if op == "create" {
		p.doubtKeys(db.Statement)
	}
	if errors.Is(db.Error, guard.ErrSetRole) && !errors.Is(db.Error, ErrNoAdminRole) && bypassOf(db.Config.ConnPool) != nil {
		db.Error = fmt.Errorf("%w: %w", ErrNoAdminRole, db.Error)
	}
	if v, ok := db.InstanceGet(errorKey); ok {
		if noted, ok := v.(error); ok && !errors.Is(db.Error, noted) {
			db.Error = hiding{error: db.Error, hidden: noted}
		}
	}
	if isRefusal(db.Error) && !isReported(db.Error) {
		db.Error = p.reportRefusal(db.Statement.Context, explain(db.Statement, op, db.Error))
		logRefusal(db.Statement)
	}
	if _, unsent := db.InstanceGet(notSentKey); unsent && db.Statement.SQL.Len() == 0 {
		db.Statement.SQL.WriteString("-- not sent") // or GORM would not log the error
	}
	if db.Statement.Result != nil {
		db.Statement.Result.Error = db.Error
	}
}

// hiding adds to an error the earlier one, which its text contains and its chain does not.
type hiding struct {
	error
	hidden error
}

func (h hiding) Unwrap() []error { return []error{h.hidden, h.error} }

// refusedPool returns the same error for every statement. It is used where an error in GORM's db.Error would not do:
// (*gorm.DB).Row returns nil then, and Scan on that panics.
type refusedPool struct {
	err     error
	instead gorm.ConnPool // what it stands in for during one statement, or nil

	onBegin func(context.Context, error) error // what else happens when no transaction begins, or nil
}

func (r refusedPool) PrepareContext(context.Context, string) (*sql.Stmt, error) { return nil, r.err }

func (r refusedPool) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, r.err
}

func (r refusedPool) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, r.err
}

// QueryRowContext returns a row whose Scan returns the error. Only database/sql can make a row. Its pools look at the context
// first, so a pool without connections suffices.
func (r refusedPool) QueryRowContext(ctx context.Context, query string, _ ...any) *sql.Row {
	return noConnections.QueryRowContext(refusedContext{ctx, r.err}, query)
}

// BeginTx makes it a gorm.ConnPoolBeginner.
func (r refusedPool) BeginTx(ctx context.Context, _ *sql.TxOptions) (gorm.ConnPool, error) {
	if r.onBegin != nil {
		return nil, r.onBegin(ctx, r.err)
	}
	return nil, r.err
}

// GetDBConn makes it a gorm.GetDBConnector.
func (r refusedPool) GetDBConn() (*sql.DB, error) { return nil, r.err }

var (
	_ gorm.ConnPoolBeginner = refusedPool{}
	_ gorm.GetDBConnector   = refusedPool{}

	noConnections sql.DB
	done          = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
)

// refusedContext is a context that has ended with the refusal as its error.
type refusedContext struct {
	context.Context
	err error
}

func (refusedContext) Done() <-chan struct{} { return done }
func (c refusedContext) Err() error          { return c.err }

// quietLogger drops what GORM logs about callbacks.
type quietLogger struct{ logger.Interface }

func (quietLogger) Info(context.Context, string, ...any) {}
func (quietLogger) Warn(context.Context, string, ...any) {}
