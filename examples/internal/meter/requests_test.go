package meter

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestRequests(t *testing.T) {
	db := open(t, pgserver.New(t))
	var log bytes.Buffer
	var last Request
	mux := http.NewServeMux()
	mux.HandleFunc("GET /owls/{id}", func(w http.ResponseWriter, r *http.Request) {
		ctx := Tenant(tenancy.WithTenant(r.Context(), "hogwarts"), "hogwarts")
		require.NoError(t, db.WithContext(ctx).First(&Owl{}).Error)
		require.NoError(t, db.WithContext(ctx).First(&Owl{}).Error)
		require.NoError(t, http.NewResponseController(w).Flush())
		require.Equal(t, w.Header().Get("X-Request-Id"), RequestID(ctx))
		_, _ = w.Write([]byte("secret"))
	})
	mux.HandleFunc("GET /silent", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("secret") })
	handler := Requests(slog.New(slog.NewTextHandler(&log, nil)), mux, func(r Request) { last = r })(mux)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}

	w := get("/owls/1?name=secret")
	require.Equal(t, w.Header().Get("X-Request-Id"), last.ID)
	require.Equal(t, Request{ID: last.ID, Method: "GET", Route: "GET /owls/{id}", Status: http.StatusOK, Tenant: "hogwarts",
		Duration: last.Duration, Statements: 2, RoundTrips: last.RoundTrips}, last)
	require.Positive(t, last.Duration)
	require.NotContains(t, log.String(), "secret")
	require.Contains(t, log.String(), `route="GET /owls/{id}" method=GET status=200 statements=2 round_trips=`)

	get("/silent")
	require.Equal(t, http.StatusOK, last.Status)
	get("/nowhere")
	require.Equal(t, http.StatusNotFound, last.Status)
	require.Empty(t, last.Route)
	require.Panics(t, func() { get("/panic") })
	require.Equal(t, http.StatusInternalServerError, last.Status)
}

func TestRequestIDs(t *testing.T) {
	mux := http.NewServeMux()
	handler := Requests(slog.New(slog.DiscardHandler), mux)(mux)
	for name, c := range map[string]struct {
		given []string
		taken bool
	}{
		"sane":     {[]string{"0f8e-4c.A_1"}, true},
		"none":     {nil, false},
		"short":    {[]string{"1"}, false},
		"long":     {[]string{strings.Repeat("a", 65)}, false},
		"newline":  {[]string{"12345678\nlevel=ERROR"}, false},
		"spaces":   {[]string{"1234 5678 status=200"}, false},
		"repeated": {[]string{"12345678", "87654321"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["X-Request-Id"] = c.given
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			got := w.Header().Values("X-Request-Id")
			require.Len(t, got, 1)
			require.Regexp(t, saneID, got[0])
			require.Equal(t, c.taken, len(c.given) > 0 && got[0] == c.given[0])
		})
	}
}
