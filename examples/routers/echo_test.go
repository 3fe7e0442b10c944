package routers

import (
	"net/http"

	"github.com/labstack/echo/v5"
)

// echoServer: echo.WrapMiddleware takes the middleware as it is, with the values of the path.
func echoServer(owls http.HandlerFunc) http.Handler {
	e := echo.New()
	handler := echo.WrapHandler(owls)
	e.GET("/owls", handler, echo.WrapMiddleware(bySubdomain))
	e.GET("/t/:tenant/owls", handler, echo.WrapMiddleware(byPath))
	e.GET("/forgotten", handler)
	return e
}
