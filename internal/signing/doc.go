// Package signing makes the proof that a statement runs for a tenant, which SQL cannot make: an HMAC by a key that only the
// application and one role of the database have. It also holds the functions that verify the proof in PostgreSQL.
package signing
