// Package web reads and writes JSON for the examples, with errors as RFC 9457 wants them.
package web

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/examples/internal/meter"
)

// maxBody is the largest request body in bytes.
const maxBody = 64 << 10

// Read decodes the body of a request into a value. It answers the request itself, and returns false, if the body is too
// large, is not one JSON value, or has a field that the value does not have: a field that is silently ignored is a
// mistake of the client's, or an attempt.
func Read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return true
		}
		err = errors.Join(err, errors.New("more than one value"))
	}
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		Problem(w, http.StatusRequestEntityTooLarge, "the body is too large")
		return false
	}
	Problem(w, http.StatusBadRequest, "the body must be one JSON object with the documented fields")
	return false
}

// Write answers with a JSON value.
func Write(w http.ResponseWriter, status int, body any) { write(w, status, "application/json", body) }

// Problem answers with an error (https://www.rfc-editor.org/rfc/rfc9457). The detail is for the client to read: it must
// not say more than the client may know.
func Problem(w http.ResponseWriter, status int, detail string) {
	write(w, status, "application/problem+json", struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail})
}

// Failed answers a request that failed for no fault of the client's, and logs why. PostgreSQL's messages can quote
// values, so only their codes are logged.
func Failed(w http.ResponseWriter, r *http.Request, err error) {
	Log(r, err)
	Problem(w, http.StatusInternalServerError, "")
}

// Log logs an error of a request.
func Log(r *http.Request, err error) {
	why := err.Error()
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		why = "PostgreSQL answered with SQLSTATE " + pg.Code
	}
	slog.ErrorContext(r.Context(), "request failed", "error", why, "request_id", meter.RequestID(r.Context()))
}

// IsText reports whether PostgreSQL can store s and people can read it: it is not blank, has at most that many characters,
// and none that controls.
func IsText(s string, atMost int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= atMost && strings.TrimSpace(s) != "" &&
		!strings.ContainsFunc(s, unicode.IsControl)
}

func write(w http.ResponseWriter, status int, contentType string, body any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone, if anything
}
