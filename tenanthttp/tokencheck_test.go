package tenanthttp_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// signedRaw signs a header and claims that are written out.
func signedRaw(header, claims string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	return text + "." + b64(ed25519.Sign(edKey(), []byte(text)))
}

func goodClaims(more string) string {
	return fmt.Sprintf(`{"iss":"https://login.example.com","aud":"orders","tenant":"acme","exp":%d%s}`, time.Now().Add(time.Minute).Unix(), more)
}

// TestTokenForm: tokens with a valid signature that must be refused all the same (RFC 7515, RFC 8725).
func TestTokenForm(t *testing.T) {
	tokens := newTokens(t, "EdDSA", edKey().Public())
	resolve := func(token string) error {
		_, err := tokens.Claim("tenant")(request(authorization(token)))
		return err
	}
	for _, header := range []string{
		`{"alg":"EdDSA"}`, `{"alg":"EdDSA","typ":"JWT"}`, `{"alg":"EdDSA","typ":"jwt"}`, `{"alg":"EdDSA","typ":"at+jwt"}`,
		`{"alg":"EdDSA","typ":"application/at+JWT","kid":"https://login.example.com/keys/1"}`,
		`{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"},"jku":"https://evil.example/keys","x5u":"https://evil.example"}`, // not followed
	} {
		require.NoError(t, resolve(signedRaw(header, goodClaims(""))), header)
	}
	for name, token := range map[string]string{
		"crit":                       signedRaw(`{"alg":"EdDSA","crit":["exp"],"exp":1}`, goodClaims("")),
		"crit of an extension":       signedRaw(`{"alg":"EdDSA","crit":["b64"],"b64":false}`, goodClaims("")),
		"crit is empty":              signedRaw(`{"alg":"EdDSA","crit":[]}`, goodClaims("")),
		"crit is null":               signedRaw(`{"alg":"EdDSA","crit":null}`, goodClaims("")),
		"alg twice":                  signedRaw(`{"alg":"none","alg":"EdDSA"}`, goodClaims("")),
		"alg twice, escaped":         signedRaw(`{"alg":"none","\u0061lg":"EdDSA"}`, goodClaims("")),
		"kid twice":                  signedRaw(`{"alg":"EdDSA","kid":"1","kid":"2"}`, goodClaims("")),
		"kid is a number":            signedRaw(`{"alg":"EdDSA","kid":7}`, goodClaims("")),
		"kid is a list":              signedRaw(`{"alg":"EdDSA","kid":["1"]}`, goodClaims("")),
		"kid with a space":           signedRaw(`{"alg":"EdDSA","kid":"1' OR 1=1"}`, goodClaims("")),
		"kid with NUL":               signedRaw(`{"alg":"EdDSA","kid":"1\u0000"}`, goodClaims("")),
		"kid of 300 bytes":           signedRaw(`{"alg":"EdDSA","kid":"`+strings.Repeat("k", 300)+`"}`, goodClaims("")),
		"logout token":               signedRaw(`{"alg":"EdDSA","typ":"logout+jwt"}`, goodClaims("")),
		"DPoP proof":                 signedRaw(`{"alg":"EdDSA","typ":"dpop+jwt"}`, goodClaims("")),
		"typ is a number":            signedRaw(`{"alg":"EdDSA","typ":1}`, goodClaims("")),
		"tenant twice":               signedRaw(`{"alg":"EdDSA"}`, goodClaims(`,"tenant":"globex"`)),
		"aud twice":                  signedRaw(`{"alg":"EdDSA"}`, goodClaims(`,"aud":"orders"`)),
		"twice, deep down":           signedRaw(`{"alg":"EdDSA"}`, goodClaims(`,"x":[{"a":{"b":1,"b":2}}]`)),
		"claims and more":            signedRaw(`{"alg":"EdDSA"}`, goodClaims("")+"{}"),
		"claims cut off":             signedRaw(`{"alg":"EdDSA"}`, strings.TrimSuffix(goodClaims(""), "}")),
		"header and more":            signedRaw(`{"alg":"EdDSA"}x`, goodClaims("")),
		"alg in another case":        signedRaw(`{"alg":"eddsa"}`, goodClaims("")),
		"Alg":                        signedRaw(`{"Alg":"EdDSA"}`, goodClaims("")),
		"alg none":                   signedRaw(`{"alg":"none"}`, goodClaims("")),
		"exp is text":                signedRaw(`{"alg":"EdDSA"}`, strings.Replace(goodClaims(""), `"exp":`, `"exp":"9","x":`, 1)),
		"nbf in the future":          signedRaw(`{"alg":"EdDSA"}`, goodClaims(fmt.Sprintf(`,"nbf":%d`, time.Now().Add(time.Hour).Unix()))),
		"nested":                     signedRaw(`{"alg":"EdDSA","cty":"JWT"}`, sign(t, jwt.SigningMethodEdDSA, edKey(), claims())),
		"four parts":                 signedRaw(`{"alg":"EdDSA"}`, goodClaims("")) + ".x",
		"padding":                    signedRaw(`{"alg":"EdDSA"}`, goodClaims("")) + "=",
		"the signature, not strict":  notStrict(signedRaw(`{"alg":"EdDSA"}`, goodClaims(""))),
		"a line break in the middle": strings.Replace(signedRaw(`{"alg":"EdDSA"}`, goodClaims("")), ".", ".\n", 1),
	} {
		err := resolve(token)
		require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
		require.Equal(t, http.StatusUnauthorized, tenanthttp.Status(err), name)
		require.NotContains(t, err.Error(), "acme", name)
	}
}

// notStrict sets the bits of the last character that belong to no byte: another text of the same signature.
func notStrict(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + alphabet[last|1:last|1+1]
}

// TestTokenType: a service that names the type accepts no other.
func TestTokenType(t *testing.T) {
	tokens, err := tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{"EdDSA"}, Key: fixed(edKey().Public()), Issuer: "https://login.example.com", Audience: "orders", Type: "application/shop+jwt",
	})
	require.NoError(t, err)
	for typ, ok := range map[string]bool{"shop+jwt": true, "SHOP+JWT": true, "application/shop+jwt": true, "JWT": false, "at+jwt": false, "": false} {
		_, err := tokens.Claims(request(authorization(signedRaw(`{"alg":"EdDSA","typ":"`+typ+`"}`, goodClaims("")))))
		require.Equal(t, ok, err == nil, typ)
	}
	_, err = tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{"EdDSA"}, Key: fixed(edKey().Public()), Issuer: "i", Audience: "a", Leeway: time.Hour,
	})
	require.ErrorContains(t, err, "five minutes")
}

// TestKeyOperations: a key of a JWKS that is for other work verifies nothing.
func TestKeyOperations(t *testing.T) {
	for operations, ok := range map[string]bool{"verify": true, "encrypt": false} {
		key := edJWK(edKey().Public().(ed25519.PublicKey))
		key["key_ops"] = []string{operations}
		_, err := jwksConfig{[]string{"EdDSA"}, []member{key}}.tokens()
		require.Equal(t, ok, err == nil, operations)
	}
}
