package tenanthttp

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
)

// refuseKey is the key of the function in a context that answers refused requests.
type refuseKey struct{}

// refuse answers as the middleware around does.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	answer, ok := r.Context().Value(refuseKey{}).(func(http.ResponseWriter, *http.Request, error))
	if !ok {
		answer = Problem
	}
	answer(w, r, err)
}

// Status returns the HTTP status for an error of this package, and 500 for any other. It does not reveal whether a tenant
// exists: [ErrUnknownTenant] is 403.
func Status(err error) int {
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, ErrNoTenant), errors.Is(err, ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrForbidden), errors.Is(err, ErrUnknownTenant):
		return http.StatusForbidden
	default:
		return http.StatusInternalServerError
	}
}

// Problem answers with the [Status] of an error and a body of application/problem+json (RFC 9457). The error itself goes
// to the default logger of package slog, and only if it is the server's; of PostgreSQL's errors, which quote values, their
// code alone.
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

// details says what is wrong, by status, in words that are the same for all tenants.
var details = map[int]string{
	http.StatusBadRequest:          "The request does not name its tenant, or not in the way it should.",
	http.StatusUnauthorized:        "A valid token is needed.",
	http.StatusForbidden:           "You may not act for this tenant.",
	http.StatusNotFound:            "There is no such tenant.",
	http.StatusInternalServerError: "The tenant of the request could not be found out.",
}

func writeProblem(w http.ResponseWriter, r *http.Request, status int, err error) {
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	if status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	if status == http.StatusInternalServerError {
		slog.ErrorContext(r.Context(), "tenanthttp: the tenant of a request could not be found out", "error", loggable(err))
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
		return "PostgreSQL answered with SQLSTATE " + fromSQL.SQLState()
	}
	return err.Error()
}
