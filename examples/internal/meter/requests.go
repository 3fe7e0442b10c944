package meter

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Request describes a request that has ended.
type Request struct {
	ID         string // see RequestID
	Method     string
	Route      string // the pattern it matched; empty if none
	Status     int
	Duration   time.Duration
	Statements int64
	RoundTrips int64
	Tenant     string // as given to Tenant; may be empty
}

// Requests gives each request an id and a Counter, and logs a line when it is over. The mux names its route, even if
// the request is refused earlier. Each of done is called after the line was logged.
func Requests(log *slog.Logger, mux *http.ServeMux, done ...func(Request)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			started := time.Now()
			req := &Request{ID: idOf(r), Method: r.Method}
			_, req.Route = mux.Handler(r)
			w.Header().Set(idHeader, req.ID)
			ctx, counter := WithCounter(context.WithValue(r.Context(), requestKey{}, req))
			answer := &answer{ResponseWriter: w, status: http.StatusInternalServerError} // of a handler that panics
			defer func() {
				req.Status, req.Duration = answer.status, time.Since(started)
				req.Statements, req.RoundTrips = counter.Statements(), counter.RoundTrips()
				req.log(ctx, log)
				for _, f := range done {
					f(*req)
				}
			}()
			next.ServeHTTP(answer, r.WithContext(ctx))
			answer.note(http.StatusOK) // of a handler that wrote nothing
		})
	}
}

// log leaves out the path, the query and the body: they may hold data of the tenant.
func (r *Request) log(ctx context.Context, log *slog.Logger) {
	log.LogAttrs(ctx, slog.LevelInfo, "request",
		slog.String("route", r.Route), slog.String("method", r.Method), slog.Int("status", r.Status),
		slog.Int64("statements", r.Statements), slog.Int64("round_trips", r.RoundTrips),
		slog.Duration("duration", r.Duration.Round(10*time.Microsecond)),
		slog.String("tenant", r.Tenant), slog.String("request_id", r.ID))
}

type requestKey struct{}

// Tenant adds the tenant to the log line of the request. Use it with tenanthttp.OnTenant.
func Tenant(ctx context.Context, tenant string) context.Context {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		r.Tenant = tenant
	}
	return ctx
}

// RequestID is the id of the request that ctx belongs to, or empty.
func RequestID(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r.ID
	}
	return ""
}

// answer remembers the status.
type answer struct {
	http.ResponseWriter
	status int
	known  bool
}

func (a *answer) note(status int) {
	if informational := status >= 100 && status < 200; !a.known && !informational {
		a.status, a.known = status, true
	}
}

func (a *answer) WriteHeader(status int) {
	a.note(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.note(http.StatusOK)
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
