package main

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
)

// maxForm is the largest form in bytes.
const maxForm = 64 << 10

// headers makes browsers strict: no resources of other sites, no scripts, no cached pages.
func (a *app) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "+
			"frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		if a.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses requests that another site made a browser send. Current browsers send the origin of a request. For
// others, forms carry the session's token as well (see checkToken).
func (a *app) sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This form was sent from another site.", http.StatusForbidden)
	}))
	return protection.Handler(next)
}

const tokenKey = "csrf"

// token returns the session's token for forms, and makes one if the session has none.
func (a *app) token(r *http.Request) string {
	token := a.sessions.GetString(r.Context(), tokenKey)
	if token == "" {
		token = rand.Text()
		a.sessions.Put(r.Context(), tokenKey, token)
	}
	return token
}

// checkToken reports whether the request changes nothing, or its form carries the session's token.
func (a *app) checkToken(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	want := a.sessions.GetString(r.Context(), tokenKey)
	got := r.PostFormValue(tokenKey)
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// localPath returns the path to open after sign-in. It is always a path of this site.
func localPath(asked string) string {
	u, err := url.Parse(asked)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || u.Opaque != "" ||
		!strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.Contains(u.Path, `\`) {
		return "/"
	}
	return u.RequestURI() // escaped again: no line breaks, no backslashes
}
