package tenancygrpc

import "github.com/gormtenancy/tenancy/tenanthttp"

type config struct {
	propagator *tenanthttp.Propagator
	audience   string
	plaintext  bool
	skip       map[string]bool
}

// An Option changes what an interceptor does.
type Option func(*config)

// DangerouslyAllowPlaintext lets a client send tokens over connections that are not encrypted, where the network can read and use them. A
// service mesh that encrypts by itself is a reason.
func DangerouslyAllowPlaintext() Option { return func(c *config) { c.plaintext = true } }

// Skip lets a server run these methods without a tenant, such as "/grpc.health.v1.Health/Check". Their context says nothing about a
// tenant, whatever the client has sent.
func Skip(methods ...string) Option {
	return func(c *config) {
		for _, method := range methods {
			c.skip[method] = true
		}
	}
}

// newConfig panics if something is missing, because it would only be noticed with the first call.
func newConfig(p *tenanthttp.Propagator, audience string, options []Option) config {
	if p == nil || audience == "" {
		panic("tenancygrpc: an interceptor needs a Propagator and the name of the server")
	}
	c := config{propagator: p, audience: audience, skip: map[string]bool{}}
	for _, option := range options {
		option(&c)
	}
	return c
}

// audienceOf binds a token to a method, which begins with a slash.
func (c config) audienceOf(method string) string { return "grpc " + c.audience + method }
