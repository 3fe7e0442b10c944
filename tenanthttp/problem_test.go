package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

func TestProblemOfOtherErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		logged string
	}{
		"invalid tenant": {
			err: &tenancy.Error{Op: "query", Table: "notes", Err: tenancy.ErrInvalidTenant}, status: http.StatusBadRequest,
		},
		"no tenant for a statement": {
			err: &tenancy.Error{Op: "query", Table: "notes", Err: tenancy.ErrNoTenant}, status: http.StatusInternalServerError,
			logged: "no tenant",
		},
		"other tenant": {err: tenancy.ErrTenantMismatch, status: http.StatusInternalServerError, logged: "mismatch"},
		"not isolated": {err: tenancy.ErrNotIsolated, status: http.StatusInternalServerError, logged: "not isolated"},
		"deadline": {
			err: fmt.Errorf("find the tenant: %w", context.DeadlineExceeded), status: http.StatusServiceUnavailable,
			logged: "deadline exceeded",
		},
		"client gone": {err: context.Canceled, status: http.StatusServiceUnavailable, logged: "canceled"},
		"PostgreSQL": {
			err:    errors.Join(&pgconn.PgError{Code: "22P02", Message: "secret"}),
			status: http.StatusInternalServerError, logged: "SQLSTATE 22P02",
		},
		"any": {err: errors.New("the disk is full"), status: http.StatusInternalServerError, logged: "the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			logged := logTo(t)
			w := httptest.NewRecorder()
			tenanthttp.Problem(w, request(), c.err)
			requireProblem(t, w, c.status)
			require.NotContains(t, w.Body.String(), c.err.Error())
			require.NotContains(t, logged.String(), "secret")
			if c.logged == "" {
				require.Empty(t, logged.String())
				return
			}
			require.NotContains(t, w.Body.String(), c.logged)
			require.Contains(t, logged.String(), c.logged)
		})
	}
}
