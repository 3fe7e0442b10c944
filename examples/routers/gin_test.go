package routers

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// ginEngine: gin has its own type of middleware. ginMiddleware adapts net/http's.
func ginEngine(owls http.HandlerFunc) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	handler := gin.WrapF(owls)
	engine.GET("/owls", ginMiddleware(bySubdomain), handler)
	engine.GET("/t/:tenant/owls", ginMiddleware(byPath), handler)
	engine.GET("/forgotten", handler)
	return engine
}

// ginMiddleware adapts middleware of net/http to gin: it passes the values of the path, keeps the request with its new
// context, and stops if the middleware has written the response itself.
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
