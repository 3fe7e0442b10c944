package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"fits":             {`{"name":"Ann"} `, 0},
		"empty":            {``, http.StatusBadRequest},
		"not JSON":         {`name=Ann`, http.StatusBadRequest},
		"cut off":          {`{"name":"Ann"`, http.StatusBadRequest},
		"other type":       {`{"name":7}`, http.StatusBadRequest},
		"list":             {`[]`, http.StatusBadRequest},
		"two values":       {`{"name":"Ann"}{}`, http.StatusBadRequest},
		"text after it":    {`{"name":"Ann"} -`, http.StatusBadRequest},
		"unknown field":    {`{"name":"Ann","tenant_id":"globex"}`, http.StatusBadRequest},
		"large":            {`{"name":"` + strings.Repeat("a", maxBody) + `"}`, http.StatusRequestEntityTooLarge},
		"large after it":   {`{"name":"Ann"}` + strings.Repeat(" ", maxBody), http.StatusRequestEntityTooLarge},
		"large and hollow": {strings.Repeat(" ", maxBody+1), http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			var in struct{ Name string }
			ok := Read(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body)), &in)
			require.Equal(t, c.status == 0, ok)
			if !ok {
				require.Equal(t, c.status, w.Code)
				require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			}
		})
	}
}

// TestFailedSaysNothing of what PostgreSQL has said, to nobody.
func TestFailedSaysNothing(t *testing.T) {
	w := httptest.NewRecorder()
	Failed(w, httptest.NewRequest(http.MethodGet, "/", nil), errors.Join(&pgconn.PgError{Code: "22P02", Message: "secret"}))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.JSONEq(t, `{"type":"about:blank","title":"Internal Server Error","status":500}`, w.Body.String())
}

func TestIsText(t *testing.T) {
	for _, text := range []string{"Ann", "'; DROP TABLE students; --", strings.Repeat("é", 26)} {
		require.True(t, IsText(text, 26), text)
	}
	for _, other := range []string{"", " ", "a\x00b", "a\nb", "\xff", strings.Repeat("é", 27)} {
		require.False(t, IsText(other, 23), other)
	}
}
