package rls

import (
	"context"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/rls/internal/locks"
)

// retryLogger is GORM's logger during a migration. That a lock was not free is no error while the migration tries again: the logger gets it at
// the level Info, and as an error only when the migration has failed.
type retryLogger struct {
	logger.Interface
	last *lastWait
}

// lastWait is the last statement of a try whose lock was not free. Loggers of other levels share it.
type lastWait struct {
	mu  sync.Mutex
	log func() // as an error; nil if all locks were free
}

// LogMode is of logger.Interface. Without it, a session of another level would lose this logger.
func (l retryLogger) LogMode(level logger.LogLevel) logger.Interface {
	return retryLogger{l.Interface.LogMode(level), l.last}
}

// Trace is of logger.Interface.
func (l retryLogger) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if !locks.NotFree(err) {
		l.Interface.Trace(ctx, begin, fc, err)
		return
	}
	sql, rows := fc()
	l.last.set(func() { l.Interface.Trace(ctx, begin, func() (string, int64) { return sql, rows }, err) })
	l.Info(ctx, "the migration tries again, because a lock was not free: %v", err)
}

// ParamsFilter is of gorm.ParamsFilter: it leaves the values of statements out where the logger does.
func (l retryLogger) ParamsFilter(ctx context.Context, sql string, params ...any) (string, []any) {
	if filter, ok := l.Interface.(gorm.ParamsFilter); ok {
		return filter.ParamsFilter(ctx, sql, params...)
	}
	return sql, params
}

func (w *lastWait) set(log func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = log
}

// report gives the logger the statement as the error that has ended the migration.
func (w *lastWait) report() {
	w.mu.Lock()
	log := w.log
	w.log = nil
	w.mu.Unlock()
	if log != nil {
		log()
	}
}
