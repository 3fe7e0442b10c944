package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

const domain = "work.acme.example"

// TestDomain: from the claim to the end of it.
func TestDomain(t *testing.T) {
	w := newFixture(t)
	atDomain := request{host: domain + ":8080", token: w.ann, path: "/projects?limit=1"}
	resolves := func() bool {
		got := w.do(t, atDomain)
		require.Contains(t, []int{http.StatusOK, http.StatusForbidden}, got.status)
		require.Equal(t, got.status == http.StatusForbidden, got.body == forbidden)
		return got.status == http.StatusOK
	}
	require.False(t, resolves())
	claim := w.claimed(t, "acme.localhost", w.ann, "Work.ACME.example.")
	require.Equal(t, domainOutput{Name: domain, Record: "_tenancy." + domain, Value: claim.Value}, claim)
	require.Regexp(t, `^tenancy-verify=[A-Z2-7]{26}$`, claim.Value)
	require.False(t, resolves(), "unverified")
	require.Equal(t, http.StatusConflict, w.do(t, request{token: w.ann, method: "POST", path: "/domains", body: `{"name":"work.acme.example"}`}).status)

	require.Equal(t, http.StatusConflict, w.verify(t, "acme.localhost", w.ann).status, "no record")
	w.dns.set(claim.Record, "v=spf1 -all", "tenancy-verify=")
	require.Equal(t, http.StatusConflict, w.verify(t, "acme.localhost", w.ann).status, "other records")
	w.dns.fail(errors.New("timeout"))
	require.Equal(t, http.StatusServiceUnavailable, w.verify(t, "acme.localhost", w.ann).status)
	w.dns.fail(nil)
	require.False(t, resolves())

	w.dns.set(claim.Record, "v=spf1 -all", claim.Value)
	for range 2 {
		got := w.verify(t, "acme.localhost", w.ann)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.True(t, resolves(), "at once")
	}
	require.NotEmpty(t, w.token(t, "acme", "ann@acme.example"))
	login := w.do(t, request{host: domain, method: "POST", path: "/login", body: `{"email":"bob@acme.example","password":"open sesame"}`})
	require.Equal(t, http.StatusOK, login.status)
	require.Equal(t, http.StatusForbidden, w.do(t, request{host: domain, token: w.eve, path: "/projects"}).status)

	require.Equal(t, http.StatusNoContent, w.do(t, request{token: w.ann, method: "DELETE", path: "/domains/" + domain}).status)
	require.False(t, resolves(), "at once")
	require.Equal(t, "[]", w.do(t, request{token: w.ann, path: "/domains"}).body)
}

// TestDomainOfAnother: a tenant cannot take, see or drop the domain of another.
func TestDomainOfAnother(t *testing.T) {
	w := newFixture(t)
	anns := w.claimed(t, "acme.localhost", w.ann, domain)
	eves := w.claimed(t, "globex.localhost", w.eve, domain) // anyone can claim anything
	require.NotEqual(t, anns.Value, eves.Value)
	w.dns.set(anns.Record, anns.Value)
	require.Equal(t, http.StatusConflict, w.verify(t, "globex.localhost", w.eve).status, "the record is Ann's")
	require.Equal(t, http.StatusOK, w.verify(t, "acme.localhost", w.ann).status)

	w.dns.set(anns.Record, eves.Value)
	got := w.verify(t, "globex.localhost", w.eve)
	require.Equal(t, http.StatusConflict, got.status)
	require.Contains(t, got.body, "another tenant's")
	require.Contains(t, w.do(t, request{host: "globex.localhost", token: w.eve, path: "/domains"}).body, `"verified":false`)
	require.Equal(t, http.StatusForbidden, w.do(t, request{host: domain, token: w.eve, path: "/projects"}).status)
	require.Equal(t, http.StatusNoContent, w.do(t, request{host: "globex.localhost", token: w.eve, method: "DELETE", path: "/domains/" + domain}).status)
	require.Equal(t, http.StatusOK, w.do(t, request{host: domain, token: w.ann, path: "/projects"}).status, "it was Eve's claim")
	require.Equal(t, http.StatusNotFound, w.do(t, request{host: "globex.localhost", token: w.eve, method: "DELETE", path: "/domains/" + domain}).status)
	require.Equal(t, http.StatusNotFound, w.verify(t, "globex.localhost", w.eve).status)

	// And if the application forgot to look, PostgreSQL would not.
	ctx := tenancy.WithoutTenant(t.Context())
	globex, err := w.tenantBySlug(ctx, "globex")
	require.NoError(t, err)
	require.ErrorIs(t, w.db.WithContext(ctx).Model(&Domain{Name: domain}).Update("tenant_id", globex).Error, tenancy.ErrNoTenant)
	require.ErrorContains(t, w.db.WithContext(ctx).Delete(&Domain{Name: domain}).Error, "permission denied")
	for _, ctx := range []context.Context{ctx, tenancy.WithTenant(ctx, globex)} {
		require.ErrorContains(t, w.db.WithContext(ctx).Exec("UPDATE domains SET tenant_id = ?", globex).Error, "permission denied")
		require.ErrorContains(t, w.db.WithContext(ctx).Exec("DELETE FROM domains").Error, "permission denied")
	}
	err = w.db.WithContext(tenancy.WithTenant(ctx, globex)).Create(&Domain{Name: "a.acme.example", TenantID: globex, ClaimID: 1}).Error
	require.ErrorContains(t, err, "violates foreign key constraint", "the claim is Ann's")

	// When Ann gives it up, Eve can have it, if DNS says so.
	require.Equal(t, http.StatusNoContent, w.do(t, request{token: w.ann, method: "DELETE", path: "/domains/" + domain}).status)
	w.dns.set(anns.Record, w.claimed(t, "globex.localhost", w.eve, domain).Value)
	require.Equal(t, http.StatusOK, w.verify(t, "globex.localhost", w.eve).status)
	require.Equal(t, http.StatusOK, w.do(t, request{host: domain, token: w.eve, path: "/projects"}).status)
	require.Equal(t, http.StatusForbidden, w.do(t, request{host: domain, token: w.ann, path: "/projects"}).status)
}

// TestDomainNames: some names cannot be claimed.
func TestDomainNames(t *testing.T) {
	w := newFixture(t)
	for _, name := range []string{
		"", "example", "localhost", "globex.localhost", "Globex.LocalHost.", "a.b.localhost", "127.0.0.1", "1.2.3.4", "::1", "[::1]",
		"acme.example:8080", "https://acme.example", "acme.example/x", "*.acme.example", "-a.example", "a-.example", "a..example",
		".acme.example", "acme.example..", "acmé.example", "acme_x.example", "acme.example'--", "a b.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 120) + "example",
	} {
		body, err := json.Marshal(map[string]string{"name": name})
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, w.do(t, request{token: w.ann, method: "POST", path: "/domains", body: string(body)}).status, name)
	}
	for _, name := range []string{"acme.example", "xn--acm-dma.example", "a.b.c.d.example", "1.acme.example", "localhost.example"} {
		w.claimed(t, "acme.localhost", w.ann, name)
	}
	for _, name := range []string{"nobody.example", "%00", "'%20OR%20true--", "localhost"} {
		require.Equal(t, http.StatusNotFound, w.do(t, request{token: w.ann, method: "POST", path: "/domains/" + name + "/verify"}).status, name)
		require.Equal(t, http.StatusNotFound, w.do(t, request{token: w.ann, method: "DELETE", path: "/domains/" + name}).status, name)
	}
}

func TestTXTFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dns.txt")
	found, err := txtFile(file).LookupTXT(t.Context(), "a.example")
	require.NoError(t, err)
	require.Empty(t, found)
	require.NoError(t, os.WriteFile(file, []byte("a.example one\nb.example two\n\na.example three four\nodd\n"), 0o600))
	found, err = txtFile(file).LookupTXT(t.Context(), "a.example")
	require.NoError(t, err)
	require.Equal(t, []string{"one", "three four"}, found)
	_, err = txtFile(t.TempDir()).LookupTXT(t.Context(), "a.example")
	require.Error(t, err)
}

func (w *fixture) claimed(t *testing.T, host, token, name string) (claim domainOutput) {
	t.Helper()
	got := w.do(t, request{host: host, token: token, method: "POST", path: "/domains", body: `{"name":"` + name + `"}`})
	require.Equal(t, http.StatusCreated, got.status, got.body)
	require.NoError(t, json.Unmarshal([]byte(got.body), &claim))
	return claim
}

func (w *fixture) verify(t *testing.T, host, token string) response {
	t.Helper()
	return w.do(t, request{host: host, token: token, method: "POST", path: "/domains/" + domain + "/verify"})
}
