package routers

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// ginEngine: gin has its own kind of middleware, which ginMiddleware makes.
func ginEngine(owls http.HandlerFunc) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	handler := gin.WrapF(owls)
	engine.GET("/owls", ginMiddleware(bySubdomain), handler)
	engine.GET("/t/:tenant/owls", ginMiddleware(byPath), handler)
	engine.GET("/forgotten", handler)
	return engine
}

// ginMiddleware makes gin's kind of middleware from net/http's: it hands over the values of the path, takes the request
// with its new context, and stops when the middleware has answered by itself.
func ginMiddleware(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		for _, p := range c.Params {
			c.Request.SetPathValue(p.Key, p.Value)
		}
		passed := false
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			passed = true
			c.Request = r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort()
		}
	}
}
