package tenanthttp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gormtenancy/tenancy"
)

// PropagatorConfig says how a [Propagator] signs. Keys is required.
type PropagatorConfig struct {
	// Keys are secrets of 32 bytes or more that the services share. The first one signs, all verify. To change the key, add
	// the new one behind the old one in all services, then move it to the front, then remove the old one.
	Keys [][]byte
	// TTL is how long a token is valid that travels with a request. Zero means a minute.
	TTL time.Duration
	// MessageTTL is how long a token is valid that travels with a message: as long as a message may wait in a queue. Zero means a day.
	MessageTTL time.Duration
	// Header is the header of a request or a message that carries the token. Empty means "X-Tenant-Token".
	Header string
	// DangerouslyAllowHTTP lets [Propagator.Transport] send tokens over plain http to other machines, where the network can read and
	// use them. Without it only https and hosts of this machine are allowed. A service mesh that encrypts is a reason to set it.
	DangerouslyAllowHTTP bool
	// DangerouslyIgnoreURL leaves path and query out of the tokens of requests, so that one is valid for every URL of its receiver.
	// Set it in sender and receiver if a gateway between them rewrites paths.
	DangerouslyIgnoreURL bool
}

// A Propagator sends the tenant of a context to another service, where it becomes the tenant of a context again. It travels in a
// token that is signed, short-lived, and valid for one receiver, because anyone could write a plain header. It is safe for
// concurrent use.
//
// A token is not a secret that can be used elsewhere: that of a request is valid for its method, host and URL, that of a message
// for its topic and body. Who has read it can repeat this request, with any body, until it expires, and this message, which a
// queue may deliver twice as well. It is not encrypted: who reads it learns the tenant's id.
type Propagator struct {
	keys              jwt.VerificationKeySet
	ttl, messageTTL   time.Duration
	header            string
	plain, ignoresURL bool
}

const (
	propagatorIssuer = "tenancy"
	propagatorType   = "tenancy+jwt"
	claimTenant      = "tenant"
	claimBody        = "body"
)

// NewPropagator checks the configuration. Its errors say what to change.
func NewPropagator(cfg PropagatorConfig) (*Propagator, error) {
	if len(cfg.Keys) == 0 {
		return nil, errors.New("tenanthttp: PropagatorConfig.Keys is empty: add a secret of 32 bytes or more")
	}
	p := &Propagator{
		ttl: positive(cfg.TTL, time.Minute), messageTTL: positive(cfg.MessageTTL, 24*time.Hour), header: cfg.Header,
		plain: cfg.DangerouslyAllowHTTP, ignoresURL: cfg.DangerouslyIgnoreURL,
	}
	for i, key := range cfg.Keys {
		if err := checkKey(key, jwt.SigningMethodHS256); err != nil {
			return nil, fmt.Errorf("tenanthttp: PropagatorConfig.Keys[%d] must be a secret of 32 bytes or more", i)
		}
		p.keys.Keys = append(p.keys.Keys, key)
	}
	if p.header == "" {
		p.header = "X-Tenant-Token"
	}
	return p, nil
}

// The audiences of tokens begin with what they are for, so that none can be used for another purpose.
const (
	forToken   = "token "
	forRequest = "request "
	forMessage = "message "
)

// Inject returns a token for the context's tenant that the receiver named audience accepts, for transports of your own. Choose
// audiences that say as much as possible, such as service and method. For requests use [Propagator.Transport], for messages
// [Propagator.InjectMessage]. It returns tenancy.ErrNoTenant if the context has no tenant.
func (p *Propagator) Inject(ctx context.Context, audience string) (string, error) {
	return p.sign(ctx, forToken+audience, p.ttl, nil)
}

// Extract returns ctx with the tenant of a token that was made for this audience. The error is an [ErrUnauthenticated].
func (p *Propagator) Extract(ctx context.Context, token, audience string) (context.Context, error) {
	tenant, err := p.verify(token, forToken+audience, nil)
	if err != nil {
		return nil, err
	}
	return tenancy.WithTenant(ctx, tenant), nil
}

// sign makes a token. The body's hash is nil for none.
func (p *Propagator) sign(ctx context.Context, audience string, ttl time.Duration, body any) (string, error) {
	tenant, ok := tenancy.TenantFromContext(ctx)
	if !ok {
		return "", tenancy.ErrNoTenant
	}
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": propagatorIssuer, "aud": audience, claimTenant: tenant, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	}
	if body != nil {
		claims[claimBody] = body
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["typ"] = propagatorType
	return token.SignedString(p.keys.Keys[0])
}

func (p *Propagator) verify(token, audience string, body any) (string, error) {
	if err := checkForm(token, expectType(propagatorType)); err != nil {
		return "", unauthenticated(err)
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return p.keys, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(propagatorIssuer),
		jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	if err != nil {
		return "", unauthenticated(err)
	}
	if claims[claimBody] != body {
		return "", unauthenticated(jwt.ErrTokenInvalidAudience)
	}
	tenant, _ := claims[claimTenant].(string)
	if tenant == "" {
		return "", unauthenticated(jwt.ErrTokenRequiredClaimMissing)
	}
	return tenant, nil
}
