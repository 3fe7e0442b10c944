package tenanthttp_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

type member = map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaJWK(key *rsa.PublicKey) member {
	return member{"kty": "RSA", "kid": "rsa", "use": "sig", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}
}

func ecJWK(key *ecdsa.PublicKey) member {
	point := must(key.Bytes())[1:]
	half := len(point) / 2
	return member{"kty": "EC", "kid": "ec", "alg": "ES256", "crv": "P-256", "x": b64(point[:half]), "y": b64(point[half:])}
}

func edJWK(key ed25519.PublicKey) member {
	return member{"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(key)}
}

func (c jwksConfig) tokens() (*tenanthttp.Tokens, error) {
	return tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: c.algorithms, JWKS: must(json.Marshal(member{"keys": c.keys})),
		Issuer: "https://login.example.com", Audience: "orders",
	})
}

type jwksConfig struct {
	algorithms []string
	keys       []member
}

func TestJWKS(t *testing.T) {
	tokens, err := jwksConfig{[]string{"RS256", "PS256", "ES256", "EdDSA"}, []member{
		{"kty": "quantum", "kid": "q"}, // of the future
		{"kty": "OKP", "kid": "x", "crv": "X25519", "x": b64(make([]byte, 32))},
		{"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB"},
		rsaJWK(&rsaKey().PublicKey), ecJWK(&ecKey().PublicKey), edJWK(edKey().Public().(ed25519.PublicKey)),
	}}.tokens()
	require.NoError(t, err)
	resolve := func(method jwt.SigningMethod, key any, kid ...string) error {
		_, err := tokens.Claim("tenant")(request(authorization(sign(t, method, key, claims(), kid...))))
		return err
	}
	require.NoError(t, resolve(jwt.SigningMethodRS256, rsaKey(), "rsa"))
	require.NoError(t, resolve(jwt.SigningMethodPS256, rsaKey(), "rsa"))
	require.NoError(t, resolve(jwt.SigningMethodES256, ecKey(), "ec"))
	require.NoError(t, resolve(jwt.SigningMethodEdDSA, edKey(), "ed"))

	for name, err := range map[string]error{
		"no kid":              resolve(jwt.SigningMethodRS256, rsaKey()),
		"unknown kid":         resolve(jwt.SigningMethodRS256, rsaKey(), "other"),
		"another key's kid":   resolve(jwt.SigningMethodRS256, rsaKey(), "ed"),
		"a key of an unknown": resolve(jwt.SigningMethodEdDSA, edKey(), "q"),
		"not for signatures":  resolve(jwt.SigningMethodRS256, rsaKey(), "enc"),
	} {
		require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(err), name)
	}
}

// TestJWKSPinsAlgorithms: a key that says what it is for serves nothing else.
func TestJWKSPinsAlgorithms(t *testing.T) {
	key := rsaJWK(&rsaKey().PublicKey)
	key["alg"] = "PS256"
	tokens, err := jwksConfig{[]string{"RS256", "PS256"}, []member{key}}.tokens()
	require.NoError(t, err)
	_, err = tokens.Claims(request(authorization(sign(t, jwt.SigningMethodPS256, rsaKey(), claims(), "rsa"))))
	require.NoError(t, err)
	_, err = tokens.Claims(request(authorization(sign(t, jwt.SigningMethodRS256, rsaKey(), claims(), "rsa"))))
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
}

func TestJWKSSecret(t *testing.T) {
	tokens, err := jwksConfig{[]string{"HS256"}, []member{{"kty": "oct", "kid": "s", "k": b64(secret)}}}.tokens()
	require.NoError(t, err)
	_, err = tokens.Claims(request(authorization(sign(t, jwt.SigningMethodHS256, secret, claims(), "s"))))
	require.NoError(t, err)
}

func TestJWKSRefused(t *testing.T) {
	change := func(key member, name string, value any) member {
		key[name] = value
		return key
	}
	ed := func() member { return edJWK(edKey().Public().(ed25519.PublicKey)) }
	ec := func() member { return ecJWK(&ecKey().PublicKey) }
	rs := func() member { return rsaJWK(&rsaKey().PublicKey) }
	for name, test := range map[string]struct {
		keys []member
		says string
	}{
		"no keys":                {nil, "no key"},
		"only for encryption":    {[]member{change(rs(), "use", "enc")}, "no key"},
		"a null":                 {[]member{nil}, "no key"},
		"twice the same kid":     {[]member{ed(), change(ec(), "kid", "ed")}, "key 2 of TokenConfig.JWKS: it has the same kid"},
		"private":                {[]member{change(ed(), "d", b64(edKey().Seed()))}, "private key"},
		"RSA of 1024 bits":       {[]member{change(rs(), "n", b64(make([]byte, 128)))}, "2048 bits"},
		"RSA, exponent 1":        {[]member{change(rs(), "e", "AQ")}, "exponent"},
		"RSA, even exponent":     {[]member{change(rs(), "e", "Ag")}, "exponent"},
		"RSA, huge exponent":     {[]member{change(rs(), "e", b64([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1}))}, "exponent"},
		"RSA without modulus":    {[]member{change(rs(), "n", "")}, "missing"},
		"EC off the curve":       {[]member{change(ec(), "x", b64(make([]byte, 32)))}, "not on its curve"},
		"EC of another size":     {[]member{change(ec(), "crv", "P-384")}, "size of its curve"},
		"EC without y":           {[]member{change(ec(), "y", "")}, "missing"},
		"Ed25519 of 31 bytes":    {[]member{change(ed(), "x", b64(make([]byte, 31)))}, "32 bytes"},
		"padding":                {[]member{change(ed(), "x", b64(edKey().Public().(ed25519.PublicKey))+"=")}, "base64url"},
		"secret without content": {[]member{{"kty": "oct", "kid": "s"}}, "missing"},
	} {
		_, err := jwksConfig{[]string{"RS256"}, test.keys}.tokens()
		require.ErrorContains(t, err, test.says, name)
	}
	_, err := tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{"RS256"}, JWKS: []byte("<html>"), Issuer: "i", Audience: "a",
	})
	require.ErrorContains(t, err, "not JSON")
}
