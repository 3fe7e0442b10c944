package routers

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

// chiRouter: middleware of chi is middleware of net/http. If it needs a value of the path, use it below the route that has
// the value, in Route, Group or With: Use on the router itself runs before the route is known.
func chiRouter(owls http.HandlerFunc) http.Handler {
	r := chi.NewRouter()
	r.With(bySubdomain).Get("/owls", owls)
	r.Route("/t/{tenant}", func(r chi.Router) {
		r.Use(byPath)
		r.Get("/owls", owls)
	})
	r.Get("/forgotten", owls)
	return r
}
