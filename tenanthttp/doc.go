// Package tenanthttp finds out which tenant an HTTP request is for and whether its sender may act for that tenant. It puts the
// tenant into the request's context, where package tenancy reads it.
//
//	tokens, err := tenanthttp.NewTokens(config) // a TokenConfig: keys, issuer, audience
//	withTenant := tenanthttp.Middleware(
//		tenanthttp.CrossCheck(tokens.Claim("tenant"), tenanthttp.Header("X-Tenant-ID")),
//		tenanthttp.Authorize(isMember),
//		tenanthttp.Skip("GET /healthz", "POST /login"),
//	)
//	http.ListenAndServe(addr, withTenant(mux))
//
// # Two questions
//
// A [Resolver] answers which tenant a request names: by [Header], [Subdomain], [Domain], [PathValue], [Cookie], [Func]
// (a session's) or [Tokens.Claim]. Anyone can write any header, host name, path or cookie, so the name alone proves
// nothing. Who may act for the tenant is the second question, and [Middleware] does not work without an answer: [Authorize]
// asks the application, [DangerouslyTrustResolver] says that the name is enough.
//
// [FirstOf] and [CrossCheck] combine resolvers; [Lookup] turns a name into an id by a [Finder], which a [Cache] keeps from
// being asked for every request.
//
// # What a client learns
//
// Errors are answered as application/problem+json (RFC 9457): 400 for a request that names no tenant, or garbage; 401 for
// one without a valid token; 403 for a tenant that its sender may not act for, and the same 403 for one that does not
// exist, unless [RevealTenants] says that it may be known; 503 for a lookup that took too long. Other errors are 500. The text
// of an error never reaches the client: see [Status] and [Problem]. What a refused request asks the database does not depend on whether
// its tenant exists either.
//
// # Other services
//
// A [Propagator] takes the tenant to other services: [Propagator.Transport] with requests, [Propagator.InjectMessage] with messages
// of a queue.
package tenanthttp
