package tenanthttp

import (
	"context"
	"log/slog"

	"github.com/gormtenancy/tenancy"
)

// LogHandler returns a handler that adds the attribute "tenant" to each record whose context has a tenant, and passes the record
// to next. The log then contains tenants' ids.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if tenant, ok := tenancy.TenantFromContext(ctx); ok {
		record = record.Clone()
		record.AddAttrs(slog.String("tenant", tenant))
	}
	return h.Handler.Handle(ctx, record)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
