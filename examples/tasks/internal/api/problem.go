package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Errors that handlers and seams return. Each is answered as application/problem+json (RFC 9457).
var (
	ErrForbidden error = huma.Error403Forbidden("the key may not do this")
	ErrTaken     error = huma.Error409Conflict("there is one already")
	ErrChanged   error = huma.Error412PreconditionFailed("it has changed: get it again, and send its new ETag as If-Match")

	errNoRoute  = huma.Error404NotFound("there is nothing at this address")
	errNoMethod = huma.Error405MethodNotAllowed("this address has other methods")
	errPanic    = huma.Error500InternalServerError("the server failed")
)

// problem turns the error of a handler into an answer. What it does not know is an error of the server, whose text goes to the log alone.
func (a *API) problem(ctx context.Context, err error) huma.StatusError {
	var known huma.StatusError
	var postgres *pgconn.PgError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, gorm.ErrRecordNotFound):
		return huma.Error404NotFound("there is none with this id")
	case errors.Is(err, gorm.ErrDuplicatedKey):
		return huma.Error409Conflict("there is one already")
	case errors.Is(err, gorm.ErrForeignKeyViolated):
		return huma.Error422UnprocessableEntity("it refers to something that does not exist")
	case errors.As(err, &postgres) && (postgres.Code == "40P01" || postgres.Code == "40001"):
		return huma.Error409Conflict("another request is changing the same rows: send it again")
	case errors.As(err, &postgres) && strings.HasPrefix(postgres.Code, "22"): // a NUL byte in a text, for example
		return huma.Error422UnprocessableEntity("a value cannot be stored")
	}
	switch status := tenanthttp.Status(err); status {
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
		a.log(ctx, err)
		return huma.NewError(status, "the server failed")
	case http.StatusUnauthorized:
		return huma.Error401Unauthorized("send an API key that is valid as X-API-Key")
	default:
		return huma.NewError(status, strings.ToLower(http.StatusText(status)))
	}
}

// refuse answers with the problem of an error.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	problem := a.problem(r.Context(), err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(problem.GetStatus())
	_ = json.NewEncoder(w).Encode(problem)
}

func isNotFound(err error) bool { return errors.Is(err, gorm.ErrRecordNotFound) }

// Describe returns the text of an error for the log, without values of rows.
func Describe(err error) string {
	if postgres, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("PostgreSQL %s", postgres.Code)
	}
	return err.Error()
}
