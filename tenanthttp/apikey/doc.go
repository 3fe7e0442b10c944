// Package apikey finds the tenant of a request by an API key, which a program sends instead of a token.
//
//	keys, err := apikey.New(apikey.Config{
//		Prefix:      "shop",
//		Environment: "live",
//		Peppers:     []apikey.Pepper{{Version: 1, Secret: pepper}},
//		Store:       apikey.NewStore(db),
//	})
//	withTenant := tenanthttp.Middleware(keys.Resolver(), tenanthttp.DangerouslyTrustResolver()) // a key is a proof
//
// A key is text such as "shop_live_<id>_<secret>". The database holds no secret, but an HMAC of it under a pepper, which the database does not
// hold. The end of the secret is a checksum, so that a text that is no key costs no query, and scanners for leaked secrets find keys
// without false alarms; [Redact] takes secrets out of logs.
//
// # Before the tenant is known
//
// The lookup role (tenancy.Config.LookupRole) finds whose a key is: of the table it may read the columns id and tenant_id, as
// [Lookup] says. The hash is read as that tenant. So no role of the application reads the hashes of several tenants. An id that does
// not exist costs the same two queries as a wrong secret.
//
// A key is read for each request and kept in no cache: a revoked key ends with the next request.
package apikey
