package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// withRequestID names each request. The name is ours: one that a client sends could be another's.
func withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(caller.WithRequestID(r.Context(), id)))
	})
}

// recover answers a request whose handler has panicked, and logs where, without the value, which may be a tenant's.
func (a *API) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.Log.ErrorContext(r.Context(), "panic", "type", fmt.Sprintf("%T", v), "request", caller.RequestID(r.Context()),
					"stack", string(debug.Stack()))
				a.refuse(w, r, errPanic)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// onTenant says who acts: the audit trail has it, and everything that asks package caller.
func (a *API) onTenant(ctx context.Context, tenant string) context.Context {
	if key, ok := apikey.FromContext(ctx); ok {
		ctx = caller.With(ctx, caller.Caller{Subject: "key:" + key.ID, KeyID: key.ID})
		ctx = tenancy.WithRequestID(tenancy.WithActor(ctx, "key:"+key.ID), caller.RequestID(ctx))
	}
	if a.Seams.OnTenant != nil {
		ctx = a.Seams.OnTenant(ctx, tenant)
	}
	return ctx
}

// sender says whose Idempotency-Key it is.
func sender(r *http.Request) string { return caller.From(r.Context()).KeyID }

// authorize lets a request pass whose key has the permission as a scope, if the seam agrees.
func (a *API) authorize(permission string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		err := ErrForbidden
		if key, ok := apikey.FromContext(ctx); ok && key.Allows(permission) {
			err = nil
			if a.Seams.Authorize != nil {
				err = a.Seams.Authorize(ctx, permission)
			}
		}
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// log writes an error of the server. PostgreSQL's quote values, and are cut down to their code.
func (a *API) log(ctx context.Context, err error) {
	a.Log.LogAttrs(ctx, slog.LevelError, "request failed",
		slog.String("request", caller.RequestID(ctx)), slog.String("error", Describe(err)))
}
