package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// GORM is a plugin that makes a span of each statement: its operation, its table, the number of rows and, if it fails, PostgreSQL's code.
//
// The span is around all callbacks of a statement, the transaction included. A callback within it would keep GORM's transaction of a single
// statement, which the plugin of package tenancy leaves out: one round trip more for each write. GORM's own plugin for OpenTelemetry has
// such callbacks, and puts the texts of statements and errors into spans.
func (t *Telemetry) GORM() gorm.Plugin { return statements{t} }

type statements struct{ telemetry *Telemetry }

// Name is the plugin's.
func (statements) Name() string { return "tasks:telemetry" }

// Initialize registers the callbacks.
func (s statements) Initialize(db *gorm.DB) error {
	callbacks := db.Callback()
	const before, after = "tasks:telemetry:before", "tasks:telemetry:after"
	create, query, update, del, row, raw := callbacks.Create(), callbacks.Query(), callbacks.Update(), callbacks.Delete(), callbacks.Row(), callbacks.Raw()
	return errors.Join(
		create.Before("*").Register(before, s.before("INSERT")), create.After("*").Register(after, s.after),
		query.Before("*").Register(before, s.before("SELECT")), query.After("*").Register(after, s.after),
		update.Before("*").Register(before, s.before("UPDATE")), update.After("*").Register(after, s.after),
		del.Before("*").Register(before, s.before("DELETE")), del.After("*").Register(after, s.after),
		row.Before("*").Register(before, s.before("ROW")), row.After("*").Register(after, s.after),
		raw.Before("*").Register(before, s.before("RAW")), raw.After("*").Register(after, s.after),
	)
}

const openKey = "tasks:telemetry:span"

// open is the span of a statement that is being made.
type open struct {
	span        trace.Span
	outer, mine context.Context
}

func (s statements) before(operation string) func(*gorm.DB) {
	return func(tx *gorm.DB) {
		outer := tx.Statement.Context
		ctx, span := s.telemetry.tracer.Start(outer, operation, trace.WithSpanKind(trace.SpanKindClient))
		if span.IsRecording() {
			span.SetAttributes(attribute.String("db.system.name", "postgresql"), attribute.String("db.operation.name", operation))
			if tenant, ok := tenancy.TenantFromContext(outer); ok && tenant != "" {
				span.SetAttributes(tenantID.String(tenant))
			}
		}
		tx.Statement.Context = ctx
		tx.InstanceSet(openKey, open{span, outer, ctx})
	}
}

func (s statements) after(tx *gorm.DB) {
	value, _ := tx.InstanceGet(openKey)
	o, ok := value.(open)
	if !ok {
		return
	}
	if tx.Statement.Context == o.mine { // a hook may have replaced it
		tx.Statement.Context = o.outer
	}
	if o.span.IsRecording() {
		if table := tx.Statement.Table; table != "" && isName(table) {
			o.span.SetAttributes(attribute.String("db.collection.name", table))
		}
		if tx.RowsAffected >= 0 {
			o.span.SetAttributes(attribute.Int64("db.response.returned_rows", tx.RowsAffected))
		}
		if tx.Error != nil && !errors.Is(tx.Error, gorm.ErrRecordNotFound) {
			fail(o.span, tx.Error)
		}
	}
	o.span.End()
}

// isName reports whether a table is a name, and not a subquery, which may have values in it.
func isName(table string) bool { return !strings.ContainsAny(table, " ('\";") }

// fail marks a span. The text of the error is left out, because PostgreSQL's quote values.
func fail(span trace.Span, err error) {
	span.SetStatus(codes.Error, "")
	if postgres, ok := errors.AsType[*pgconn.PgError](err); ok {
		span.SetAttributes(attribute.String("db.response.status_code", postgres.Code))
		return
	}
	span.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", err)))
}
