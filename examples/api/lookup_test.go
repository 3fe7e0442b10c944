package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// as is the context of a tenant.
func (w *fixture) as(t *testing.T, slug string) context.Context {
	t.Helper()
	tenant, err := w.tenantBySlug(tenancy.WithoutTenant(t.Context()), slug)
	require.NoError(t, err)
	return tenancy.WithTenant(t.Context(), tenant)
}

// newKey makes a key of acme, and returns its id and the key.
func (w *fixture) newKey(t *testing.T) (id, key string) {
	t.Helper()
	got := w.do(t, request{token: w.ann, method: "POST", path: "/keys"})
	require.Equal(t, http.StatusCreated, got.status, got.body)
	var out struct {
		ID, Key string
	}
	require.NoError(t, json.Unmarshal([]byte(got.body), &out))
	return out.ID, out.Key
}

// TestTenantsSeeTheirOwnRows: what is looked up before the tenant is known is not shown to tenants.
func TestTenantsSeeTheirOwnRows(t *testing.T) {
	w := newFixture(t)
	for slug, names := range map[string]int{"acme": 3, "globex": 2} {
		ctx := w.as(t, slug)
		id, _ := tenancy.TenantFromContext(ctx)
		require.NoError(t, w.db.WithContext(ctx).Create(&DomainClaim{Name: slug + ".example", Challenge: "x"}).Error)
		var claim DomainClaim
		require.NoError(t, w.db.WithContext(ctx).Take(&claim).Error)
		require.NoError(t, w.db.WithContext(ctx).Create(&Domain{Name: claim.Name, ClaimID: claim.ID}).Error)

		var memberships []Membership
		require.NoError(t, w.db.WithContext(ctx).Find(&memberships).Error)
		require.Len(t, memberships, names)
		var domains []Domain
		require.NoError(t, w.db.WithContext(ctx).Find(&domains).Error)
		require.Equal(t, []Domain{{Name: claim.Name, TenantID: id, ClaimID: claim.ID}}, domains)
		var tenants []Tenant
		require.NoError(t, w.db.WithContext(ctx).Find(&tenants).Error)
		require.Equal(t, []Tenant{{ID: id, Slug: slug}}, tenants)
		for _, m := range memberships {
			require.Equal(t, id, m.TenantID)
		}
		raw := int64(0)
		require.NoError(t, w.db.WithContext(ctx).Raw("SELECT count(*) FROM memberships").Scan(&raw).Error)
		require.EqualValues(t, names, raw, "not in SQL of its own either")
	}
	var all []string
	lookup := w.db.WithContext(tenancy.WithoutTenant(t.Context()))
	require.NoError(t, lookup.Model(&Domain{}).Order("name").Pluck("name", &all).Error)
	require.Equal(t, []string{"acme.example", "globex.example"}, all)
}

// TestLookupRoleReadsNamedColumns, and changes nothing.
func TestLookupRoleReadsNamedColumns(t *testing.T) {
	w := newFixture(t)
	w.newKey(t)
	lookup := w.db.WithContext(tenancy.WithoutTenant(t.Context()))
	var keys []apikey.Key
	require.NoError(t, lookup.Select("id", "tenant_id").Find(&keys).Error)
	require.Len(t, keys, 1)
	for name, err := range map[string]error{
		"hash of a key":        lookup.Select("hash").Find(&keys).Error,
		"all of a key":         lookup.Find(&keys).Error,
		"comparison of a hash": lookup.Select("id").Where("hash <> ''").Find(&keys).Error,
		"claim of a domain":    lookup.Find(&[]Domain{}).Error,
		"claims":               lookup.Find(&[]DomainClaim{}).Error,
		"projects":             lookup.Find(&[]Project{}).Error,
		"deletion":             lookup.Exec("DELETE FROM memberships").Error,
		"change":               lookup.Exec("UPDATE memberships SET role = 'admin'").Error,
		"change of a user":     lookup.Exec("UPDATE users SET email = ''").Error,
	} {
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, "42501", refused.Code, name)
	}
}

func TestAPIKey(t *testing.T) {
	w := newFixture(t)
	id, key := w.newKey(t)
	require.NotContains(t, w.log.String(), key)
	with := func(key, host, method, path string) response {
		return w.do(t, request{host: host, method: method, path: path, header: http.Header{keyHeader: {key}}})
	}
	got := with(key, "acme.localhost", "GET", "/projects?limit=1")
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Contains(t, got.body, "Acme project 1")
	require.Equal(t, http.StatusForbidden, with(key, "globex.localhost", "GET", "/projects").status)
	require.Equal(t, http.StatusForbidden, with(key, "acme.localhost", "GET", "/domains").status, "a key is no admin")

	other := strings.Repeat("a", 38)
	for _, wrong := range []string{
		"x", "_", id, key[:len(key)-38] + other, strings.Replace(key, key[20:24], "0000", 1), key + "x", key + " OR true", strings.ToUpper(key),
	} {
		require.Equal(t, http.StatusUnauthorized, with(wrong, "acme.localhost", "GET", "/projects").status, wrong)
	}
	require.Equal(t, http.StatusNotFound, w.do(t, request{host: "globex.localhost", token: w.eve, method: "DELETE", path: "/keys/" + id}).status)
	require.Equal(t, http.StatusOK, with(key, "acme.localhost", "GET", "/projects").status)
	require.Equal(t, http.StatusNoContent, w.do(t, request{token: w.ann, method: "DELETE", path: "/keys/" + id}).status)
	require.Equal(t, http.StatusUnauthorized, with(key, "acme.localhost", "GET", "/projects").status)
}

// TestMigrateAgain changes nothing, because what was revoked stays revoked, and finds nothing.
func TestMigrateAgain(t *testing.T) {
	w := newFixture(t)
	owner, err := connect(w.database.Owner.DSN)
	require.NoError(t, err)
	defer func() { require.NoError(t, demo.Disconnect(owner)) }()
	result, err := isolation(w.database).Migrate(t.Context(), owner, models()...)
	require.NoError(t, err)
	require.Empty(t, result.Changes)
	require.Empty(t, result.Findings)
}
