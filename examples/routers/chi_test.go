package routers

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

// chiRouter: its middlewares are net/http's. One that needs a value of the path stands below the route that has it, in
// Route, Group or With. Use on the router itself would come before the route is known.
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
