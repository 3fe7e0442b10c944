package tenanthttp_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

var (
	edMethod = jwt.SigningMethodEdDSA
	secret   = []byte("a secret of thirty-two bytes, or more")
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { _, key := must2(ed25519.GenerateKey(rand.Reader)); return key })
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func must2[T, U any](a T, b U, err error) (T, U) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// claims are those of a good token, changed by the functions.
func claims(change ...func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": "https://login.example.com", "aud": "orders", "sub": "ann", "tenant": "acme",
		"iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func with(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

func without(name string) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { delete(c, name) }
}

func sign(t testing.TB, method jwt.SigningMethod, key any, c jwt.MapClaims, kid ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	for _, k := range kid {
		token.Header["kid"] = k
	}
	s, err := token.SignedString(key)
	require.NoError(t, err)
	return s
}

func authorization(token string) func(*http.Request) { return header("Authorization", "Bearer "+token) }

// fixed is a TokenConfig.Key that always returns the same key.
func fixed(key any) func(context.Context, string, string) (any, error) {
	return func(context.Context, string, string) (any, error) { return key, nil }
}

func newTokens(t testing.TB, algorithm string, key any) *tenanthttp.Tokens {
	t.Helper()
	tokens, err := tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{algorithm}, Key: fixed(key), Issuer: "https://login.example.com", Audience: "orders",
	})
	require.NoError(t, err)
	return tokens
}

func TestClaimByAlgorithm(t *testing.T) {
	for _, test := range []struct {
		method jwt.SigningMethod
		sign   any
		verify any
	}{
		{jwt.SigningMethodHS256, secret, secret},
		{jwt.SigningMethodRS256, rsaKey(), rsaKey().Public()},
		{jwt.SigningMethodPS256, rsaKey(), rsaKey().Public()},
		{jwt.SigningMethodES256, ecKey(), ecKey().Public()},
		{jwt.SigningMethodEdDSA, edKey(), edKey().Public()},
	} {
		resolve := newTokens(t, test.method.Alg(), test.verify).Claim("tenant")
		tenant, err := resolve(request(authorization(sign(t, test.method, test.sign, claims()))))
		require.NoError(t, err, test.method.Alg())
		require.Equal(t, "acme", tenant)
	}
}

// TestTokenRefused is about tokens that are signed rightly and do not hold, and such that are not signed rightly.
func TestTokenRefused(t *testing.T) {
	tokens := newTokens(t, "EdDSA", edKey().Public())
	good := func(change ...func(jwt.MapClaims)) string {
		return sign(t, jwt.SigningMethodEdDSA, edKey(), claims(change...))
	}
	_, foreign := must2(ed25519.GenerateKey(rand.Reader))
	part := strings.Split(good(), ".")
	for name, test := range map[string]struct {
		token string
		why   error
	}{
		"expired":            {good(with("exp", time.Now().Add(-time.Second).Unix())), jwt.ErrTokenExpired},
		"never expires":      {good(without("exp")), jwt.ErrTokenRequiredClaimMissing},
		"not yet valid":      {good(with("nbf", time.Now().Add(time.Minute).Unix())), jwt.ErrTokenNotValidYet},
		"from the future":    {good(with("iat", time.Now().Add(time.Minute).Unix())), jwt.ErrTokenUsedBeforeIssued},
		"other audience":     {good(with("aud", "billing")), jwt.ErrTokenInvalidAudience},
		"other audiences":    {good(with("aud", []string{"billing", "mail"})), jwt.ErrTokenInvalidAudience},
		"no audience":        {good(without("aud")), jwt.ErrTokenRequiredClaimMissing},
		"other issuer":       {good(with("iss", "https://evil.example")), jwt.ErrTokenInvalidIssuer},
		"no issuer":          {good(without("iss")), jwt.ErrTokenRequiredClaimMissing},
		"other key":          {sign(t, jwt.SigningMethodEdDSA, foreign, claims()), jwt.ErrTokenSignatureInvalid},
		"none":               {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), jwt.ErrTokenSignatureInvalid},
		"other algorithm":    {sign(t, jwt.SigningMethodHS256, []byte(edKey().Public().(ed25519.PublicKey)), claims()), jwt.ErrTokenSignatureInvalid},
		"no signature":       {part[0] + "." + part[1] + ".", jwt.ErrTokenSignatureInvalid},
		"another's body":     {part[0] + "." + strings.Split(good(with("tenant", "globex")), ".")[1] + "." + part[2], jwt.ErrTokenSignatureInvalid},
		"two parts":          {part[0] + "." + part[1], jwt.ErrTokenMalformed},
		"garbage":            {"garbage", jwt.ErrTokenMalformed},
		"dots":               {"..", jwt.ErrTokenMalformed},
		"10 kB":              {strings.Repeat("a", 10<<10), jwt.ErrTokenMalformed},
		"10 kB, signed":      {good(with("tenant", strings.Repeat("a", 10<<10))), jwt.ErrTokenMalformed},
		"two in one header":  {good() + ", Bearer " + good(), jwt.ErrTokenMalformed},
		"exp is no number":   {good(with("exp", "soon")), jwt.ErrTokenMalformed},
		"NUL in the header":  {"\x00" + good(), jwt.ErrTokenMalformed},
		"invalid UTF-8 kid":  {"eyJhbGciOiJFZERTQSIsImtpZCI6Iv__In0." + part[1] + "." + part[2], jwt.ErrTokenMalformed},
		"alg is not text":    {"eyJhbGciOjF9." + part[1] + "." + part[2], jwt.ErrTokenUnverifiable},
		"the claims are [ ]": {part[0] + ".W10." + part[2], jwt.ErrTokenMalformed},
	} {
		tenant, err := tokens.Claim("tenant")(request(authorization(test.token)))
		require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
		require.ErrorIs(t, err, test.why, name)
		require.NotErrorIs(t, err, tenanthttp.ErrNoTenant, name)
		require.Empty(t, tenant, name)
		require.NotContains(t, err.Error(), "acme", name)
		require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(err), name)
	}
}

// TestPublicKeyIsNoSecret is the confusion of HS and RS: a token signed with the public key as the secret.
func TestPublicKeyIsNoSecret(t *testing.T) {
	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	forged := request(authorization(sign(t, jwt.SigningMethodHS256, public, claims())))

	_, err := newTokens(t, "RS256", rsaKey().Public()).Claim("tenant")(forged)
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, "RS256 is expected")

	_, err = newTokens(t, "HS256", public).Claim("tenant")(forged)
	require.ErrorContains(t, err, "secret", "the server's mistake: a public key as the secret")
	require.Equal(t, http.StatusInternalServerError, tenanthttp.Status(err))

	_, err = newTokens(t, "HS256", rsaKey().Public()).Claim("tenant")(forged)
	require.Equal(t, http.StatusInternalServerError, tenanthttp.Status(err))

	_, err = newTokens(t, "HS256", []byte("short")).Claim("tenant")(forged)
	require.Equal(t, http.StatusInternalServerError, tenanthttp.Status(err))
}

// TestNoToken: a request without any is told apart from one with a bad one, so that FirstOf and Optional can go on.
func TestNoToken(t *testing.T) {
	claim := newTokens(t, "HS256", secret).Claim("tenant")
	for name, r := range map[string]*http.Request{
		"absent":       request(),
		"empty":        request(header("Authorization", "")),
		"only Bearer":  request(header("Authorization", "Bearer")),
		"spaces":       request(header("Authorization", "Bearer   ")),
		"other scheme": request(header("Authorization", "Basic YWNtZTphY21l")),
	} {
		_, err := claim(r)
		require.ErrorIs(t, err, tenanthttp.ErrNoTenant, name)
		require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
		require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(err))

		_, err = tenanthttp.FirstOf(claim, tenanthttp.Header("X-Tenant"))(r)
		require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(err), name)
	}

	good := sign(t, jwt.SigningMethodHS256, secret, claims())
	_, err := claim(request(header("Authorization", "Bearer "+good, "Bearer "+good)))
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, "repeated")
	require.NotErrorIs(t, err, tenanthttp.ErrNoTenant, "repeated")

	tenant, err := claim(request(header("Authorization", "bearer  "+good)))
	require.NoError(t, err, "the scheme's case does not matter")
	require.Equal(t, "acme", tenant)
}

func TestClaimValues(t *testing.T) {
	tokens := newTokens(t, "HS256", secret)
	for name, test := range map[string]struct {
		value  any
		tenant string
		err    error
	}{
		"text":        {value: "globex", tenant: "globex"},
		"number":      {value: 42, tenant: "42"},
		"big number":  {value: int64(9007199254740993), tenant: "9007199254740993"},
		"empty":       {value: "", err: tenanthttp.ErrNoTenant},
		"null":        {value: nil, err: tenanthttp.ErrNoTenant},
		"fraction":    {value: 4.5, err: tenanthttp.ErrMalformed},
		"negative":    {value: -1, err: tenanthttp.ErrMalformed},
		"exponent":    {value: 1e30, err: tenanthttp.ErrMalformed},
		"true":        {value: true, err: tenanthttp.ErrMalformed},
		"list":        {value: []string{"acme"}, err: tenanthttp.ErrMalformed},
		"object":      {value: map[string]any{"id": "acme"}, err: tenanthttp.ErrMalformed},
		"not a name":  {value: "../acme", err: tenanthttp.ErrMalformed},
		"two in one":  {value: "acme globex", err: tenanthttp.ErrMalformed},
		"long number": {value: strings.Repeat("9", 200), err: tenanthttp.ErrMalformed},
	} {
		r := request(authorization(sign(t, jwt.SigningMethodHS256, secret, claims(with("tenant", test.value)))))
		tenant, err := tokens.Claim("tenant")(r)
		require.ErrorIs(t, err, test.err, name)
		require.Equal(t, test.tenant, tenant, name)
	}
	r := request(authorization(sign(t, jwt.SigningMethodHS256, secret, claims())))
	_, err := tokens.Claim("org")(r)
	require.ErrorIs(t, err, tenanthttp.ErrNoTenant, "a token without the claim")
	all, err := tokens.Claims(r)
	require.NoError(t, err)
	require.Equal(t, "ann", all["sub"])
}

func TestLeewayAndFrom(t *testing.T) {
	tokens, err := tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{"HS256", "HS512"}, Key: fixed(secret), Issuer: "https://login.example.com", Audience: "orders",
		Leeway: time.Minute,
		From:   func(r *http.Request) string { return r.URL.Query().Get("token") },
	})
	require.NoError(t, err)
	late := claims(with("exp", time.Now().Add(-30*time.Second).Unix()))
	tenant, err := tokens.Claim("tenant")(request(func(r *http.Request) {
		r.URL.RawQuery = "token=" + sign(t, jwt.SigningMethodHS512, secret, late)
	}))
	require.NoError(t, err)
	require.Equal(t, "acme", tenant)
}

// TestKeyErrors: what a key function says of a kid is the client's fault only if it says so.
func TestKeyErrors(t *testing.T) {
	gone := errors.New("the key server is gone")
	tokens, err := tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{"HS256"}, Issuer: "https://login.example.com", Audience: "orders",
		Key: func(_ context.Context, kid, algorithm string) (any, error) {
			require.Equal(t, "HS256", algorithm)
			switch kid {
			case "1":
				return secret, nil
			case "2":
				return nil, gone
			default:
				return nil, tenanthttp.ErrUnauthenticated
			}
		},
	})
	require.NoError(t, err)
	resolve := func(kid ...string) error {
		_, err := tokens.Claim("tenant")(request(authorization(sign(t, jwt.SigningMethodHS256, secret, claims(), kid...))))
		return err
	}
	require.NoError(t, resolve("1"))
	require.Equal(t, http.StatusInternalServerError, tenanthttp.Status(resolve("2")))
	require.ErrorIs(t, resolve("2"), gone)
	require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(resolve("3")))
	require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(resolve()))
}

func TestTokenConfig(t *testing.T) {
	good := func() tenanthttp.TokenConfig {
		return tenanthttp.TokenConfig{Algorithms: []string{"ES256"}, Key: fixed(crypto.PublicKey(nil)), Issuer: "i", Audience: "a"}
	}
	_, err := tenanthttp.NewTokens(good())
	require.NoError(t, err)
	for name, test := range map[string]struct {
		change func(*tenanthttp.TokenConfig)
		says   string
	}{
		"no algorithm":      {func(c *tenanthttp.TokenConfig) { c.Algorithms = nil }, "Algorithms is empty"},
		"none":              {func(c *tenanthttp.TokenConfig) { c.Algorithms = []string{"ES256", "none"} }, `"none"`},
		"not an algorithm":  {func(c *tenanthttp.TokenConfig) { c.Algorithms = []string{"es256"} }, `"es256"`},
		"HS and RS":         {func(c *tenanthttp.TokenConfig) { c.Algorithms = []string{"RS256", "HS256"} }, "mixes"},
		"no issuer":         {func(c *tenanthttp.TokenConfig) { c.Issuer = "" }, "Issuer"},
		"no audience":       {func(c *tenanthttp.TokenConfig) { c.Audience = "" }, "Audience"},
		"no key":            {func(c *tenanthttp.TokenConfig) { c.Key = nil }, "either Key or JWKS"},
		"two kinds of keys": {func(c *tenanthttp.TokenConfig) { c.JWKS = []byte(`{}`) }, "either Key or JWKS"},
		"negative leeway":   {func(c *tenanthttp.TokenConfig) { c.Leeway = -1 }, "Leeway"},
	} {
		cfg := good()
		test.change(&cfg)
		_, err := tenanthttp.NewTokens(cfg)
		require.ErrorContains(t, err, test.says, name)
	}
}
