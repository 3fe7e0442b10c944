// Package apikeytest checks that an [apikey.Store] does what package apikey relies on.
package apikeytest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// Run checks a store for two tenants, by their ids. The store need not be empty.
func Run(t *testing.T, store apikey.Store, mine, theirs string) {
	t.Helper()
	as := func(tenant string) context.Context { return tenancy.WithTenant(t.Context(), tenant) }
	none := tenancy.WithoutTenant(t.Context())
	const id = "5f3c8a52-1b7e-4c3d-9f00-0123456789ab"
	at := time.Now().Truncate(time.Millisecond)
	expires := at.Add(time.Hour)
	created := apikey.Key{
		ID: id, TenantID: mine, Name: "contract", Scopes: "read write", Hash: []byte{0, 1, 255}, Pepper: 7, CreatedAt: at, ExpiresAt: &expires,
	}

	notFound := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, apikey.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
	}
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	read := func() apikey.Key {
		t.Helper()
		key, err := store.Key(as(mine), id)
		ok("Key", err)
		return key
	}

	_, err := store.Tenant(none, id)
	notFound("Tenant before Create", err)
	_, err = store.Key(as(mine), id)
	notFound("Key before Create", err)
	notFound("Revoke before Create", store.Revoke(as(mine), id, at))

	ok("Create", store.Create(as(mine), &created))
	again := created
	if store.Create(as(mine), &again) == nil {
		t.Error("Create accepts the same id twice")
	}
	tenant, err := store.Tenant(none, id)
	ok("Tenant", err)
	if tenant != mine {
		t.Errorf("Tenant: got %q, want the creator's", tenant)
	}
	got := read()
	if got.ID != id || got.TenantID != mine || got.Name != "contract" || got.Scopes != "read write" || string(got.Hash) != "\x00\x01\xff" ||
		got.Pepper != 7 || !got.CreatedAt.Equal(at) || got.ExpiresAt == nil || !got.ExpiresAt.Equal(expires) ||
		got.LastUsedAt != nil || got.RevokedAt != nil {
		t.Errorf("Key: got %+v", got)
	}

	_, err = store.Key(as(theirs), id)
	notFound("Key of another tenant", err)
	notFound("Revoke of another tenant's", store.Revoke(as(theirs), id, at))
	notFound("Used of another tenant's", store.Used(as(theirs), id, at))
	if got := read(); got.RevokedAt != nil || got.LastUsedAt != nil {
		t.Error("another tenant has changed the key")
	}

	ok("Used", store.Used(as(mine), id, at))
	ok("Used earlier", store.Used(as(mine), id, at.Add(-time.Hour)))
	if got := read(); got.LastUsedAt == nil || !got.LastUsedAt.Equal(at) {
		t.Errorf("LastUsedAt: got %v, want the latest use", got.LastUsedAt)
	}
	ok("Revoke", store.Revoke(as(mine), id, at))
	ok("Revoke again", store.Revoke(as(mine), id, at.Add(time.Hour)))
	if got := read(); got.RevokedAt == nil || !got.RevokedAt.Equal(at) {
		t.Errorf("RevokedAt: got %v, want the first time", got.RevokedAt)
	}
}
