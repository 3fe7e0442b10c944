package web

import "net/http"

// Routes serves a mux, and writes the mux's own errors, for unknown paths and methods, as problems too.
func Routes(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		own := &statusOnly{header: w.Header()} // keeps Allow, for one
		handler.ServeHTTP(own, r)
		problem(w, own.status, "")
	})
}

// statusOnly records the status of a response and drops its body.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
