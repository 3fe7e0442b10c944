package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
)

const forbidden = `{"type":"about:blank","title":"Forbidden","status":403,"detail":"You may not act for this tenant."}`

// TestTokenMustBeAsSigned: a token is good only as it was signed.
func TestTokenMustBeAsSigned(t *testing.T) {
	w := newFixture(t)
	_, otherKey, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		require.NoError(t, err)
		return token
	}
	good := func() jwt.MapClaims { return w.claims(t, "aud", audience) }
	with := func(name string, value any) jwt.MapClaims { return w.claims(t, name, value) }
	ours := func(claims jwt.MapClaims) string { return sign(jwt.SigningMethodEdDSA, w.key, claims) }
	require.Equal(t, http.StatusOK, w.do(t, request{path: "/projects", token: ours(good())}).status, "the tests' own tokens")

	parts := strings.Split(w.ann, ".")
	theirs := strings.Split(w.eve, ".")
	hour := time.Now().Add(time.Hour).Unix()
	for name, token := range map[string]string{
		"none":                        sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good()),
		"None":                        base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"None"}`)) + "." + parts[1] + ".",
		"public key as HMAC secret":   sign(jwt.SigningMethodHS256, []byte(w.key.Public().(ed25519.PublicKey)), good()),
		"RS256":                       sign(jwt.SigningMethodRS256, rsaKey, good()),
		"another EdDSA key":           sign(jwt.SigningMethodEdDSA, otherKey, good()),
		"expired":                     ours(with("exp", time.Now().Add(-time.Second).Unix())),
		"without an end":              ours(with("exp", nil)),
		"not valid yet":               ours(with("nbf", hour)),
		"issued in the future":        ours(with("iat", hour)),
		"another audience":            ours(with("aud", "payroll")),
		"another issuer":              ours(with("iss", "https://evil.example")),
		"no subject":                  ours(with("sub", 7)),
		"no signature":                parts[0] + "." + parts[1] + ".",
		"another token's payload":     parts[0] + "." + theirs[1] + "." + parts[2],
		"header alone":                parts[0],
		"garbage":                     "xyz",
		"10 kB":                       strings.Repeat("a", 10_000),
		"twice":                       w.ann + ", Bearer " + w.ann,
		"a key that the token brings": "eyJhbGciOiJFZERTQSIsImp3ayI6e319." + parts[1] + "." + parts[2],
	} {
		t.Run(name, func(t *testing.T) {
			got := w.do(t, request{path: "/projects", token: token})
			require.Equal(t, http.StatusUnauthorized, got.status, got.body)
			require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		})
	}
}

// claims are those of Ann's token, with one of them changed; nil removes it.
func (w *fixture) claims(t *testing.T, name string, value any) (claims jwt.MapClaims) {
	t.Helper()
	_, _, err := jwt.NewParser().ParseUnverified(w.ann, &claims)
	require.NoError(t, err)
	claims[name] = value
	if value == nil {
		delete(claims, name)
	}
	return claims
}

// TestTokensElsewhere: a token is read from one Authorization header only.
func TestTokensElsewhere(t *testing.T) {
	w := newFixture(t)
	for name, header := range map[string]http.Header{
		"no header":     {},
		"other scheme":  {"Authorization": {"Basic YW5uOm9wZW4gc2VzYW1l"}},
		"in a cookie":   {"Cookie": {"token=" + w.ann}},
		"two headers":   {"Authorization": {"Bearer " + w.ann, "Bearer " + w.eve}},
		"the user only": {"X-User": {"ann@acme.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, http.StatusUnauthorized, w.do(t, request{path: "/projects", header: header}).status)
		})
	}
}

// TestTokensWithoutTenant are valid, but name no tenant.
func TestTokensWithoutTenant(t *testing.T) {
	w := newFixture(t)
	for name, test := range map[string]struct {
		claims jwt.MapClaims
		status int
	}{
		"no tenant":       {w.claims(t, "tenant", nil), http.StatusUnauthorized}, // and no key either
		"empty tenant":    {w.claims(t, "tenant", ""), http.StatusUnauthorized},
		"list of tenants": {w.claims(t, "tenant", []string{"a"}), http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, test.claims).SignedString(w.key)
			require.NoError(t, err)
			require.Equal(t, test.status, w.do(t, request{path: "/projects", token: token}).status)
		})
	}
}

// TestTenantCannotBeForged: what the token does not say, no other part of the request can.
func TestTenantCannotBeForged(t *testing.T) {
	w := newFixture(t)
	for name, q := range map[string]request{
		"another's host":            {host: "globex.localhost", token: w.ann},
		"another's token":           {host: "acme.localhost", token: w.eve},
		"own tenant, other token":   {host: "globex.localhost", token: w.zoe}, // she is a member there too
		"host that does not exist":  {host: "initech.localhost", token: w.ann},
		"host with SQL":             {host: "acme'--.localhost", token: w.ann},
		"domain that nobody claims": {host: "acme.example", token: w.ann},
		"suffix of the base":        {host: "acme.localhost.evil.example", token: w.ann},
		"headers":                   {host: "globex.localhost", token: w.ann, header: http.Header{"X-Tenant-Id": {"acme"}, "X-Forwarded-Host": {"acme.localhost"}, "Forwarded": {"host=acme.localhost"}}},
		"no tenant in the host":     {host: "localhost", token: w.ann},
		"IP address":                {host: "127.0.0.1", token: w.ann},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/projects", "/projects/1", "/overview", "/domains", "/nowhere"} {
				q.path = path
				got := w.do(t, q)
				require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, got.status, path)
				if got.status == http.StatusForbidden {
					require.Equal(t, forbidden, got.body, "the same for tenants that exist and that do not")
				}
			}
		})
	}
	got := w.do(t, request{host: "ACME.localhost.:8080", token: w.ann, path: "/projects?limit=1&tenant=globex",
		header: http.Header{"X-Tenant-Id": {"globex"}, "X-Forwarded-Host": {"globex.localhost"}}})
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, "Acme project 1")
}

// TestOtherTenantsIDs get the same answers as ids that never were, and change nothing.
func TestOtherTenantsIDs(t *testing.T) {
	w := newFixture(t)
	before := w.do(t, request{host: "globex.localhost", token: w.eve, path: "/projects"})
	require.Contains(t, before.body, `{"id":6,"name":"Globex project 1","version":1}`)
	tag := http.Header{"If-Match": {`"1"`}}
	for _, q := range []request{
		{method: "GET", path: "/projects/%s"},
		{method: "PUT", path: "/projects/%s", header: tag, body: `{"name":"Stolen"}`},
		{method: "DELETE", path: "/projects/%s", header: tag},
		{method: "POST", path: "/projects/%s/restore"},
		{method: "POST", path: "/tasks", body: `{"project_id":%s,"title":"Spy"}`},
	} {
		t.Run(q.method+" "+q.path, func(t *testing.T) {
			q.token = w.ann
			with := func(id string) response {
				q := q
				q.path, q.body = strings.Replace(q.path, "%s", id, 1), strings.Replace(q.body, "%s", id, 1)
				return w.do(t, q)
			}
			theirs, never := with("6"), with("987654321")
			require.Contains(t, []int{http.StatusNotFound, http.StatusUnprocessableEntity}, theirs.status)
			require.Equal(t, never.status, theirs.status)
			require.Equal(t, never.body, theirs.body)
		})
	}
	require.Equal(t, before.body, w.do(t, request{host: "globex.localhost", token: w.eve, path: "/projects"}).body)

	// And if the application forgot to look, PostgreSQL would not.
	tenant, err := w.tenantBySlug(tenancy.WithoutTenant(t.Context()), "acme")
	require.NoError(t, err)
	err = w.db.WithContext(tenancy.WithTenant(t.Context(), tenant)).Create(&Task{ProjectID: 6, Title: "Spy"}).Error
	require.ErrorContains(t, err, "violates foreign key constraint")
}

// TestMassAssignment: no body sets what it is not asked for.
func TestMassAssignment(t *testing.T) {
	w := newFixture(t)
	globex, err := w.tenantBySlug(tenancy.WithoutTenant(t.Context()), "globex")
	require.NoError(t, err)
	before := w.do(t, request{token: w.ann, path: "/overview"}).body
	for _, q := range []request{
		{method: "POST", path: "/projects", body: `{"name":"x",%s}`},
		{method: "PUT", path: "/projects/1", body: `{"name":"x",%s}`, header: http.Header{"If-Match": {`"1"`}}},
		{method: "POST", path: "/tasks", body: `{"project_id":1,"title":"x",%s}`},
		{method: "POST", path: "/domains", body: `{"name":"work.acme.example",%s}`},
		{method: "POST", path: "/login", body: `{"email":"ann@acme.example","password":"open sesame",%s}`},
	} {
		for _, extra := range []string{
			`"tenant_id":"` + globex + `"`, `"TenantID":"` + globex + `"`, `"tenant":"globex"`, `"Tenant":{"Slug":"globex"}`,
			`"id":6`, `"version":9`, `"deleted_at":null`, `"role":"admin"`, `"verified":true`, `"Tasks":[{"Title":"y"}]`,
		} {
			q := q
			q.token, q.body = w.ann, strings.Replace(q.body, "%s", extra, 1)
			require.Equal(t, http.StatusBadRequest, w.do(t, q).status, "%s %s", q.path, q.body)
		}
	}
	require.Equal(t, before, w.do(t, request{token: w.ann, path: "/overview"}).body)
	require.Equal(t, "[]", w.do(t, request{token: w.ann, path: "/domains"}).body)
}

// TestSQL: what a client searches for is a text, and what it sorts by is one of two.
func TestSQL(t *testing.T) {
	w := newFixture(t)
	const none = `{"projects":[]}`
	for query, want := range map[string]string{
		"q=' OR true --":                     none,
		"q=%25":                              none,
		"q=_":                                none,
		`q=\`:                                none,
		"q='; DROP TABLE projects; --":       none,
		"q=x') UNION SELECT * FROM users --": none,
		"q=$1":                               none,
		"q=?":                                none,
		"q=@name":                            none,
		"q=globex":                           none,
		"q=ACME PROJECT 1":                   `{"projects":[{"id":1,"name":"Acme project 1","version":1}]}`,
		"q=acme project 1&q=globex":          `{"projects":[{"id":1,"name":"Acme project 1","version":1}]}`,
		"q=%00":                              "",
		"q=%ff":                              "",
		"q=" + strings.Repeat("a", 101):      "",
		"sort=name; DROP TABLE projects":     "",
		"sort=(SELECT set_config('app.tenant_id','x',f))": "",
		"sort=tenant_id":                      "",
		"sort=-id":                            "",
		"limit=0":                             "",
		"limit=-1":                            "",
		"limit=101":                           "",
		"limit=1 OFFSET 5":                    "",
		"limit=99999999999999999999":          "",
		"cursor=1":                            "",
		"cursor=' OR true --":                 "",
		"cursor=" + strings.Repeat("A", 5000): "",
	} {
		t.Run(query, func(t *testing.T) {
			got := w.do(t, request{token: w.ann, path: "/projects?" + strings.NewReplacer(" ", "%20", ";", "%3B", "?", "%3F").Replace(query)})
			if want == "" {
				require.Equal(t, http.StatusBadRequest, got.status, got.body)
				return
			}
			require.Equal(t, want, got.body)
		})
	}
	for _, id := range []string{"1%20OR%20true", "1;SELECT", "-1", "0x1", "99999999999999999999", "%00", "''"} {
		require.Equal(t, http.StatusNotFound, w.do(t, request{token: w.ann, path: "/projects/" + id}).status, id)
	}
	require.Contains(t, w.do(t, request{token: w.ann, path: "/overview"}).body, "Acme project 5")
}

// TestMembershipRevoked: a membership that has ended, or a role that has changed, counts from the next request on.
func TestMembershipRevoked(t *testing.T) {
	w := newFixture(t)
	owner, err := connect(w.database.Owner.DSN)
	require.NoError(t, err)
	defer func() { require.NoError(t, demo.Disconnect(owner)) }()

	require.Equal(t, http.StatusOK, w.do(t, request{token: w.bob, path: "/projects"}).status)
	require.Equal(t, http.StatusNoContent, w.do(t, request{token: w.ann, method: "DELETE", path: "/members/Bob@acme.example"}).status)
	got := w.do(t, request{token: w.bob, path: "/projects"})
	require.Equal(t, http.StatusForbidden, got.status)
	require.Equal(t, forbidden, got.body)
	again := w.do(t, request{method: "POST", path: "/login", body: `{"email":"bob@acme.example","password":"open sesame"}`})
	require.Equal(t, http.StatusUnauthorized, again.status)

	// Zoe loses one of two memberships.
	atGlobex := w.token(t, "globex", "zoe@example.com")
	require.Equal(t, http.StatusNoContent, w.do(t, request{token: w.ann, method: "DELETE", path: "/members/zoe@example.com"}).status)
	require.Equal(t, http.StatusForbidden, w.do(t, request{token: w.zoe, path: "/projects"}).status)
	require.Equal(t, http.StatusOK, w.do(t, request{host: "globex.localhost", token: atGlobex, path: "/projects"}).status)

	// Nobody ends a membership of another tenant, or the own.
	for _, email := range []string{"eve@globex.example", "zoe@example.com", "ann@acme.example", "nobody@acme.example", "%00", "'%20OR%20true--"} {
		require.Equal(t, http.StatusNotFound, w.do(t, request{token: w.ann, method: "DELETE", path: "/members/" + email}).status, email)
	}
	require.Equal(t, http.StatusOK, w.do(t, request{host: "globex.localhost", token: w.eve, path: "/domains"}).status)

	// An admin becomes a member.
	tenant, err := w.tenantBySlug(tenancy.WithoutTenant(t.Context()), "acme")
	require.NoError(t, err)
	require.NoError(t, ownerAs(owner, tenant, func(tx *gorm.DB) error {
		return tx.Model(&Membership{}).Where("role = 'admin'").Update("role", "member").Error
	}))
	require.Equal(t, http.StatusForbidden, w.do(t, request{token: w.ann, path: "/domains"}).status)
	require.Equal(t, http.StatusOK, w.do(t, request{token: w.ann, path: "/projects"}).status)

	// A user is deleted, after its memberships.
	require.ErrorContains(t, owner.Where("email = 'ann@acme.example'").Delete(&User{}).Error, "violates foreign key constraint")
	require.NoError(t, ownerAs(owner, tenant, func(tx *gorm.DB) error {
		return tx.Where("user_id = (SELECT id FROM users WHERE email = 'ann@acme.example')").Delete(&Membership{}).Error
	}))
	require.NoError(t, owner.Where("email = 'ann@acme.example'").Delete(&User{}).Error)
	require.Equal(t, http.StatusForbidden, w.do(t, request{token: w.ann, path: "/projects"}).status)
}

// TestRoutesOfAdminsRefuseOthers: the routes that Require guards.
func TestRoutesOfAdminsRefuseOthers(t *testing.T) {
	w := newFixture(t)
	for _, q := range []request{
		{method: "DELETE", path: "/projects/1", header: http.Header{"If-Match": {`"1"`}}},
		{method: "POST", path: "/projects/1/restore"},
		{method: "DELETE", path: "/members/ann@acme.example"},
		{method: "POST", path: "/keys"},
		{method: "DELETE", path: "/keys/1"},
		{method: "GET", path: "/domains"},
		{method: "POST", path: "/domains", body: `{"name":"work.acme.example"}`},
		{method: "POST", path: "/domains/work.acme.example/verify"},
		{method: "DELETE", path: "/domains/work.acme.example"},
	} {
		q.token = w.bob
		require.Equal(t, http.StatusForbidden, w.do(t, q).status, "%s %s", q.method, q.path)
		q.token = ""
		require.Equal(t, http.StatusUnauthorized, w.do(t, q).status, "%s %s", q.method, q.path)
	}
}

// TestSizes: nothing is read without end.
func TestSizes(t *testing.T) {
	w := newFixture(t)
	big := strings.Repeat("a", 1<<17)
	for _, path := range []string{"/login", "/projects", "/tasks", "/domains"} {
		got := w.do(t, request{method: "POST", path: path, token: w.ann, body: fmt.Sprintf(`{"name":%q}`, big)})
		require.Equal(t, http.StatusRequestEntityTooLarge, got.status, path)
	}
	deep := w.do(t, request{method: "POST", path: "/projects", token: w.ann, body: strings.Repeat(`{"name":`, 8000)})
	require.Equal(t, http.StatusBadRequest, deep.status)
	require.Equal(t, http.StatusBadRequest, w.do(t, request{host: strings.Repeat("a", 10_000) + ".localhost", token: w.ann, path: "/projects"}).status)
}

// TestCursors are good for the list that they are from.
func TestCursors(t *testing.T) {
	w := newFixture(t)
	next := func(q request) string {
		got := w.do(t, q)
		require.Equal(t, http.StatusOK, got.status)
		_, cursor, found := strings.Cut(got.body, `"next":"`)
		require.True(t, found)
		return strings.TrimSuffix(cursor, `"}`)
	}
	acmes := next(request{token: w.ann, path: "/projects?limit=2"})
	require.Equal(t, http.StatusOK, w.do(t, request{token: w.bob, path: "/projects?cursor=" + acmes}).status)
	for name, q := range map[string]request{
		"another tenant":         {host: "globex.localhost", token: w.eve, path: "/projects?cursor=" + acmes},
		"another tenant's":       {token: w.ann, path: "/projects?cursor=" + next(request{host: "globex.localhost", token: w.eve, path: "/projects?limit=2"})},
		"another order":          {token: w.ann, path: "/projects?sort=name&cursor=" + acmes},
		"another search":         {token: w.ann, path: "/projects?q=acme&cursor=" + acmes},
		"changed":                {token: w.ann, path: "/projects?cursor=" + "A" + acmes[1:]},
		"cut off":                {token: w.ann, path: "/projects?cursor=" + acmes[:20]},
		"plain text as a cursor": {token: w.ann, path: "/projects?cursor=" + base64.RawURLEncoding.EncodeToString([]byte(`{"ID":6}`))},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "changed" && acmes[0] == 'A' {
				q.path = "/projects?cursor=B" + acmes[1:]
			}
			got := w.do(t, q)
			require.Equal(t, http.StatusBadRequest, got.status, got.body)
		})
	}
	position, err := base64.RawURLEncoding.DecodeString(acmes)
	require.NoError(t, err)
	require.NotContains(t, string(position), "Acme", "nobody reads a name from it")
}
