package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
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
			err := Read(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body)), &in)
			if c.status == 0 {
				require.NoError(t, err)
				require.Equal(t, "Ann", in.Name)
				return
			}
			var refusal *Refusal
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, c.status, refusal.Status)
		})
	}
}

// TestErrors: what the server does not want to say, it says to nobody.
func TestErrors(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	for _, c := range []struct {
		err    error
		status int
		body   string
		logs   string
	}{
		{fmt.Errorf("x: %w", Refuse(http.StatusConflict, "taken")), http.StatusConflict,
			`{"type":"about:blank","title":"Conflict","status":409,"detail":"taken"}`, ""},
		{fmt.Errorf("x: %w", gorm.ErrRecordNotFound), http.StatusNotFound,
			`{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no such record"}`, ""},
		{errors.Join(&pgconn.PgError{Code: "22P02", Message: "secret"}), http.StatusInternalServerError,
			`{"type":"about:blank","title":"Internal Server Error","status":500}`, "SQLSTATE 22P02"},
		{io.ErrUnexpectedEOF, http.StatusInternalServerError,
			`{"type":"about:blank","title":"Internal Server Error","status":500}`, "unexpected EOF"},
	} {
		log.Reset()
		w := httptest.NewRecorder()
		Handler(func(http.ResponseWriter, *http.Request) error { return c.err }).
			ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		require.Equal(t, c.status, w.Code)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.JSONEq(t, c.body, w.Body.String())
		require.NotContains(t, log.String(), "secret")
		if c.logs == "" {
			require.Empty(t, log.String())
		}
		require.Contains(t, log.String(), c.logs)
	}
}

func TestRoutes(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /owls/{id}", Handler(func(w http.ResponseWriter, r *http.Request) error {
		return Write(w, http.StatusOK, r.PathValue("id"))
	}))
	mux.HandleFunc("GET /nests/", func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		method, path string
		status       int
		contentType  string
		header       string
		value        string
	}{
		{"GET", "/owls/7", http.StatusOK, "application/json", "Allow", ""},
		{"GET", "/owl", http.StatusNotFound, "application/problem+json", "Allow", ""},
		{"POST", "/owls/7", http.StatusMethodNotAllowed, "application/problem+json", "Allow", "GET, HEAD"},
		{"GET", "/nests", 0, "text/html; charset=utf-8", "Location", "/nests/"}, // its status depends on Go's version
	} {
		w := httptest.NewRecorder()
		Routes(mux).ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if c.status != 0 {
			require.Equal(t, c.status, w.Code, c.path)
		}
		require.Equal(t, c.contentType, w.Header().Get("Content-Type"), c.path)
		require.Equal(t, c.value, w.Header().Get(c.header), c.path)
	}
}

func TestIsText(t *testing.T) {
	for _, text := range []string{"Ann", "'; DROP TABLE students; --", strings.Repeat("é", 26)} {
		require.True(t, IsText(text, 26), text)
	}
	for _, other := range []string{"", " ", "a\x00b", "a\nb", "\xff", strings.Repeat("é", 27)} {
		require.False(t, IsText(other, 23), other)
	}
}
