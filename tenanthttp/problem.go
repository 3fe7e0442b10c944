package tenanthttp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/gormtenancy/tenancy"
)

// refuseKey is the key of the *middleware in a context.
type refuseKey struct{}

// refuse answers as the middleware around the handler does, or with Problem if there is none.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if m, ok := r.Context().Value(refuseKey{}).(*middleware); ok {
		m.refuse(w, r, err)
		return
	}
	Problem(w, r, err)
}

func (m *middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	m.event(r, Event{Kind: kindOf(err), Err: err})
	m.onError(w, r, err)
}

// Status returns the HTTP status for an error:
//
//   - 400 for [ErrNoTenant] and [ErrMalformed], and for tenancy.ErrInvalidTenant: the request names a tenant id that the tenant
//     column's type cannot hold, such as "acme" for an integer;
//   - 401 for [ErrUnauthenticated];
//   - 403 for [ErrForbidden] and [ErrUnknownTenant], so that it does not reveal whether a tenant exists;
//   - 503 for [context.DeadlineExceeded] and [context.Canceled]: a lookup or a statement took too long, or the client is gone;
//   - 500 for every other error. Those of package tenancy are among them, such as tenancy.ErrNoTenant and
//     tenancy.ErrTenantMismatch, because they are mistakes of the server.
func Status(err error) int {
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, ErrNoTenant), errors.Is(err, ErrMalformed), errors.Is(err, tenancy.ErrInvalidTenant):
		return http.StatusBadRequest
	case errors.Is(err, ErrForbidden), errors.Is(err, ErrUnknownTenant):
		return http.StatusForbidden
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Problem answers with the [Status] of an error and a body of application/problem+json (RFC 9457). The body is the same for all
// errors of a status: no text of an error reaches the client. An error of status 500 or 503 is logged by the default logger of
// package slog; of PostgreSQL's errors, which quote values, only the SQLSTATE is logged.
func Problem(w http.ResponseWriter, r *http.Request, err error) {
	writeProblem(w, r, Status(err), err)
}

// problem is the default of OnError.
func (m *middleware) problem(w http.ResponseWriter, r *http.Request, err error) {
	status := Status(err)
	if m.reveal && errors.Is(err, ErrUnknownTenant) {
		status = http.StatusNotFound
	}
	writeProblem(w, r, status, err)
}

// details are the texts for clients, by status. They are the same for all tenants.
var details = map[int]string{
	http.StatusBadRequest:          "The request does not name a valid tenant.",
	http.StatusUnauthorized:        "A valid token is needed.",
	http.StatusForbidden:           "You may not act for this tenant.",
	http.StatusNotFound:            "There is no such tenant.",
	http.StatusInternalServerError: "The server failed to answer the request.",
	http.StatusServiceUnavailable:  "The server could not answer the request in time.",
}

func writeProblem(w http.ResponseWriter, r *http.Request, status int, err error) {
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	if status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	if status >= http.StatusInternalServerError {
		slog.ErrorContext(r.Context(), "tenanthttp: the server failed to answer a request", "status", status, "error", loggable(err))
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, details[status]}) // fails only if the client is gone
}

// loggable returns what a log may show of an error.
func loggable(err error) string {
	var fromSQL interface {
		error
		SQLState() string
	}
	if errors.As(err, &fromSQL) {
		return "PostgreSQL returned SQLSTATE " + fromSQL.SQLState()
	}
	return err.Error()
}
