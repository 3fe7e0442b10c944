package tenanthttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gormtenancy/tenancy"
)

// PropagatorConfig says how a [Propagator] signs. Keys is required.
type PropagatorConfig struct {
	// Keys are secrets of 32 bytes or more that the services share. The first one signs, all verify. To change the key, add
	// the new one behind the old one in all services, then move it to the front, then remove the old one.
	Keys [][]byte
	// TTL is how long a token is valid. Zero means a minute.
	TTL time.Duration
	// Header is the request header that carries the token. Empty means "X-Tenant-Token".
	Header string
}

// A Propagator sends the tenant of a context to another service, where it becomes the tenant of a context again. It travels in a
// token that is signed, short-lived, and valid for one receiver, because anyone could write a plain header. It is safe for
// concurrent use.
type Propagator struct {
	keys   jwt.VerificationKeySet
	ttl    time.Duration
	header string
}

const (
	propagatorIssuer = "tenancy"
	propagatorClaim  = "tenant"
)

// NewPropagator checks the configuration. Its errors say what to change.
func NewPropagator(cfg PropagatorConfig) (*Propagator, error) {
	if len(cfg.Keys) == 0 {
		return nil, errors.New("tenanthttp: PropagatorConfig.Keys is empty: add a secret of 32 bytes or more")
	}
	c := &Propagator{ttl: positive(cfg.TTL, time.Minute), header: cfg.Header}
	for i, key := range cfg.Keys {
		if err := checkKey(key, jwt.SigningMethodHS256); err != nil {
			return nil, fmt.Errorf("tenanthttp: PropagatorConfig.Keys[%d] must be a secret of 32 bytes or more", i)
		}
		c.keys.Keys = append(c.keys.Keys, key)
	}
	if c.header == "" {
		c.header = "X-Tenant-Token"
	}
	return c, nil
}

// Inject returns a token for the context's tenant that the receiver named audience accepts, for example to put it into a job. It
// returns tenancy.ErrNoTenant if the context has no tenant.
func (c *Propagator) Inject(ctx context.Context, audience string) (string, error) {
	tenant, ok := tenancy.TenantFromContext(ctx)
	if !ok {
		return "", tenancy.ErrNoTenant
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": propagatorIssuer, "aud": audience, propagatorClaim: tenant,
		"iat": now.Unix(), "exp": now.Add(c.ttl).Unix(),
	}).SignedString(c.keys.Keys[0])
}

// Extract returns ctx with the tenant of a token that was made for this audience. The error is an [ErrUnauthenticated].
func (c *Propagator) Extract(ctx context.Context, token, audience string) (context.Context, error) {
	tenant, err := c.tenant(token, audience)
	if err != nil {
		return nil, err
	}
	return tenancy.WithTenant(ctx, tenant), nil
}

// Resolver reads the tenant of requests that another service has sent through [Propagator.Transport]. The audience is the host
// in the URL of those requests. A token is a proof: use it with [DangerouslyTrustResolver].
func (c *Propagator) Resolver(audience string) Resolver {
	audience = strings.ToLower(audience) // as hosts are compared
	return func(r *http.Request) (string, error) {
		switch tokens := r.Header.Values(c.header); {
		case len(tokens) == 0 || len(tokens) == 1 && tokens[0] == "":
			return "", errNoToken
		case len(tokens) > 1:
			return "", malformed("it has more than one token")
		default:
			return c.tenant(tokens[0], audience)
		}
	}
}

func (c *Propagator) tenant(token, audience string) (string, error) {
	if len(token) > maxToken {
		return "", unauthenticated(jwt.ErrTokenMalformed)
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return c.keys, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(propagatorIssuer),
		jwt.WithAudience(audience), jwt.WithExpirationRequired())
	if err != nil {
		return "", unauthenticated(err)
	}
	tenant, _ := claims[propagatorClaim].(string)
	if tenant == "" {
		return "", unauthenticated(jwt.ErrTokenRequiredClaimMissing)
	}
	return tenant, nil
}

// Transport returns a transport that sends the tenant of each request's context to these hosts, and to no others, also when a
// response redirects. A host is the one in the URL, with the port if there is one: "billing.internal:8080". Requests without a
// tenant are sent without a token. The base nil means [http.DefaultTransport].
func (c *Propagator) Transport(base http.RoundTripper, hosts ...string) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &transport{base: base, propagator: c, hosts: map[string]bool{}}
	for _, host := range hosts {
		t.hosts[strings.ToLower(host)] = true
	}
	return t
}

type transport struct {
	base       http.RoundTripper
	propagator *Propagator
	hosts      map[string]bool
}

// RoundTrip works on a copy, because a RoundTripper must not change the request. It removes a token that is there already, which
// belongs to an incoming request.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del(t.propagator.header)
	if host := strings.ToLower(r.URL.Host); t.hosts[host] {
		switch token, err := t.propagator.Inject(r.Context(), host); {
		case err == nil:
			r.Header.Set(t.propagator.header, token)
		case !errors.Is(err, tenancy.ErrNoTenant):
			return nil, errors.Join(err, closeBody(r))
		}
	}
	return t.base.RoundTrip(r)
}

// closeBody closes what the base transport would have closed.
func closeBody(r *http.Request) error {
	if r.Body == nil {
		return nil
	}
	return r.Body.Close()
}
