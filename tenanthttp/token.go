package tenanthttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// TokenConfig says which JSON Web Tokens are accepted. Algorithms, Issuer, Audience and either Key or JWKS are required.
type TokenConfig struct {
	// Algorithms are the signature algorithms that are accepted, such as "EdDSA", "ES256" or "RS256" (RFC 7518, RFC 8037).
	// The token does not choose: "none" is never accepted, and HS256 to HS512 cannot be mixed with the others, because then a
	// public key could be used as a secret.
	Algorithms []string
	// Key returns the key that verifies a token with this kid and algorithm: an *rsa.PublicKey, *ecdsa.PublicKey,
	// ed25519.PublicKey, or a []byte of 32 bytes or more for HS256 to HS512. It returns [ErrUnauthenticated] for a kid that
	// it does not know; other errors are the server's. The client has written the kid: it is up to 255 bytes of printable
	// ASCII without spaces, and empty if the token has none. Never use it in a path or in the text of SQL.
	Key func(ctx context.Context, kid, algorithm string) (any, error)
	// JWKS is a JSON Web Key Set (RFC 7517) of public keys, instead of Key.
	JWKS []byte
	// Issuer and Audience must be the token's iss and among its aud.
	Issuer, Audience string
	// Type is the token's typ, such as "at+jwt" (RFC 8725 section 3.11). Empty means that it must be "JWT", "at+jwt" or missing, so
	// that the issuer's tokens for other purposes are refused that say what they are.
	Type string
	// Leeway is how far the clocks may differ, five minutes at most. Zero means not at all.
	Leeway time.Duration
	// From finds the token in a request, and returns "" if there is none. Nil means the header "Authorization: Bearer …".
	From func(*http.Request) string
}

// Tokens verifies the tokens of requests. It is safe for concurrent use.
type Tokens struct {
	parser *jwt.Parser
	key    func(ctx context.Context, kid, algorithm string) (any, error)
	from   func(*http.Request) string
	isType func(string) bool
	vary   []string // the headers that tokens come in
}

// errNoToken is for a request without a token, so that FirstOf goes on, and Optional lets it pass.
var errNoToken = fmt.Errorf("%w: it carries no token (%w)", ErrUnauthenticated, ErrNoTenant)

// NewTokens checks the configuration. Its errors say what to change.
func NewTokens(cfg TokenConfig) (*Tokens, error) {
	if err := checkAlgorithms(cfg.Algorithms); err != nil {
		return nil, err
	}
	switch {
	case cfg.Issuer == "" || cfg.Audience == "":
		return nil, errors.New("tenanthttp: TokenConfig needs Issuer and Audience, so that tokens made by or for another service are refused")
	case (cfg.Key == nil) == (cfg.JWKS == nil):
		return nil, errors.New("tenanthttp: TokenConfig needs either Key or JWKS")
	case cfg.Leeway < 0:
		return nil, errors.New("tenanthttp: TokenConfig.Leeway must not be negative")
	case cfg.Leeway > 5*time.Minute:
		return nil, errors.New("tenanthttp: TokenConfig.Leeway must be five minutes at most: expired tokens are valid for as long")
	}
	key := cfg.Key
	if key == nil {
		keys, err := parseJWKS(cfg.JWKS)
		if err != nil {
			return nil, err
		}
		key = keys.find
	}
	from, vary := cfg.From, []string{"Authorization", "Cookie"}
	if from == nil {
		from, vary = bearer, vary[:1]
	}
	return &Tokens{key: key, from: from, vary: vary, isType: expectType(cfg.Type), parser: jwt.NewParser(
		jwt.WithValidMethods(cfg.Algorithms),
		jwt.WithIssuer(cfg.Issuer),
		jwt.WithAudience(cfg.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(cfg.Leeway),
		jwt.WithJSONNumber(),
		jwt.WithStrictDecoding(),
	)}, nil
}

func checkAlgorithms(algorithms []string) error {
	if len(algorithms) == 0 {
		return errors.New(`tenanthttp: TokenConfig.Algorithms is empty: name those that your tokens are signed with, such as "EdDSA"`)
	}
	secret := func(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }
	for _, algorithm := range algorithms {
		if jwt.GetSigningMethod(algorithm) == nil || strings.EqualFold(algorithm, "none") {
			return fmt.Errorf("tenanthttp: TokenConfig.Algorithms has %q, which is not a signature algorithm", algorithm)
		}
	}
	if slices.ContainsFunc(algorithms, secret) && slices.ContainsFunc(algorithms, func(a string) bool { return !secret(a) }) {
		return errors.New("tenanthttp: TokenConfig.Algorithms mixes HS256 to HS512 with others, so that a public key could be used as a secret: remove one kind")
	}
	return nil
}

// Claim reads the tenant from a claim of the request's token, a string or an integer. A token is a proof, so
// [DangerouslyTrustResolver] can be used with it. But it is valid until it expires: to lock a user out at once, use [Authorize].
// A valid token without the claim names no tenant.
func (t *Tokens) Claim(name string) Resolver {
	return func(r *http.Request) (string, error) {
		claims, err := t.Claims(r)
		if err != nil {
			return "", err
		}
		switch value := claims[name].(type) {
		case nil:
			return "", ErrNoTenant
		case string:
			return one([]string{value})
		case json.Number:
			if strings.Trim(value.String(), "0123456789") == "" {
				return one([]string{value.String()})
			}
		}
		return "", malformed("the token's claim is neither a string nor an integer")
	}
}

// Claims verifies the request's token and returns its claims. Numbers are [json.Number]. The error is an [ErrUnauthenticated],
// and also one of package jwt, such as [jwt.ErrTokenExpired]; or an error of [TokenConfig].Key.
func (t *Tokens) Claims(r *http.Request) (jwt.MapClaims, error) {
	request.Of(r.Context()).DependsOn(t.vary...)
	token := t.from(r)
	if token == "" {
		return nil, errNoToken
	}
	if err := checkForm(token, t.isType); err != nil {
		return nil, unauthenticated(err)
	}
	claims := jwt.MapClaims{}
	var server error // not the token's fault
	_, err := t.parser.ParseWithClaims(token, claims, func(unverified *jwt.Token) (any, error) {
		kid, _ := unverified.Header["kid"].(string)
		key, err := t.key(r.Context(), kid, unverified.Method.Alg())
		if err == nil {
			err = checkKey(key, unverified.Method)
		}
		if err != nil && !errors.Is(err, ErrUnauthenticated) {
			server = err
		}
		return key, err
	})
	switch {
	case server != nil:
		return nil, server
	case err != nil:
		return nil, unauthenticated(err)
	default:
		return claims, nil
	}
}

// checkKey refuses a secret that is too short, and a public key that is used as a secret.
func checkKey(key any, method jwt.SigningMethod) error {
	if _, hmac := method.(*jwt.SigningMethodHMAC); !hmac {
		return nil // the other methods accept keys of their own type only
	}
	secret, ok := key.([]byte)
	if !ok || len(secret) < 32 || strings.HasPrefix(string(secret), "-----BEGIN") {
		return errors.New("tenanthttp: the key for HS256 to HS512 must be a secret []byte of 32 bytes or more")
	}
	return nil
}

// bearer finds the token of "Authorization: Bearer …" (RFC 6750). A header that is repeated means the same as one with all
// values between commas (RFC 9110), which is no valid token.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(strings.Join(r.Header.Values("Authorization"), ", "), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
