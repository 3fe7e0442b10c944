// Package web reads and writes JSON for the examples. Errors are problem details (RFC 9457).
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
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/meter"
)

// maxBody is the largest request body in bytes.
const maxBody = 64 << 10

// Handler answers a request, or returns an error before it has written anything: a Refusal; gorm.ErrRecordNotFound, which
// is answered with 404; or any other, which is logged and answered with 500, without its text.
type Handler func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP makes it an http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	var refusal *Refusal
	switch {
	case err == nil:
	case errors.As(err, &refusal):
		problem(w, refusal.Status, refusal.Detail)
	case errors.Is(err, gorm.ErrRecordNotFound):
		problem(w, http.StatusNotFound, "there is no such record")
	default:
		slog.ErrorContext(r.Context(), "request failed", "error", Loggable(err), "request_id", meter.RequestID(r.Context()))
		problem(w, http.StatusInternalServerError, "")
	}
}

// Refusal is an error of the client. The client reads it, so it must not hold what the client may not know.
type Refusal struct {
	Status int
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

// Refuse returns a Refusal.
func Refuse(status int, detail string) error { return &Refusal{status, detail} }

// Read decodes the body of a request into a value. It returns a Refusal if the body is too large, is not one JSON value,
// or has a field that the value does not have, because a field that is silently ignored hides a mistake or an attack.
func Read(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return Refuse(http.StatusRequestEntityTooLarge, "the body is too large")
	}
	return Refuse(http.StatusBadRequest, "the body must be one JSON object with the documented fields")
}

// Write answers with a JSON value.
func Write(w http.ResponseWriter, status int, body any) error {
	write(w, status, "application/json", body)
	return nil
}

// IsText reports whether PostgreSQL can store s and people can read it: it is not blank, has at most that many characters,
// and no control characters.
func IsText(s string, atMost int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= atMost && strings.TrimSpace(s) != "" &&
		!strings.ContainsFunc(s, unicode.IsControl)
}

func problem(w http.ResponseWriter, status int, detail string) {
	write(w, status, "application/problem+json", struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail})
}

func write(w http.ResponseWriter, status int, contentType string, body any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone, if anything
}

// Loggable leaves out PostgreSQL's messages, which can quote values.
func Loggable(err error) string {
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		return "PostgreSQL answered with SQLSTATE " + pg.Code
	}
	return err.Error()
}
