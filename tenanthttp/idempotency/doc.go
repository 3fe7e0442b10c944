// Package idempotency lets a client send a request again, after an answer that did not arrive, without its effects happening twice. The
// client sends the same Idempotency-Key with each attempt (draft-ietf-httpapi-idempotency-key-header).
//
//	once := idempotency.Middleware(idempotency.Config{DB: db, Sender: userOf})
//	mux.Handle("POST /orders", withTenant(once(http.HandlerFunc(addOrder))))
//
// A handler works in one transaction, which [DB] returns. Its rows and the record of its answer are committed together, so that the
// effects in the database happen exactly once, also if the server dies at any moment. The answer leaves after the commit.
//
// What a handler does outside of this transaction, such as a mail or a statement of another client, is not covered: write it down in the
// transaction, and do it afterwards.
package idempotency
