package tenanthttp

import (
	"context"
	"crypto/rand"
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
	// Once, if not nil, makes a receiver accept each token once, and refuse it with [ErrReplayed] after that. If the store fails, the token is
	// refused with the store's error. All receivers that accept a token must share what the store remembers. Nil means that who has read a
	// token can use it again until it expires.
	Once OnceStore
}

// A Propagator sends the tenant of a context to another service, where it becomes the tenant of a context again. It travels in a
// token that is signed, short-lived, and valid for one receiver, because anyone could write a plain header. It is safe for
// concurrent use.
//
// A token is not a secret that can be used elsewhere: that of a request is valid for its method, host and URL, that of a message
// for its topic and body. Without [PropagatorConfig].Once, who has read it can repeat this request, with any body, until it expires,
// and this message, which a queue may deliver twice as well. It is not encrypted: who reads it learns the tenant's id.
type Propagator struct {
	keys              jwt.VerificationKeySet
	ttl, messageTTL   time.Duration
	header            string
	plain, ignoresURL bool
	once              OnceStore
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
		plain: cfg.DangerouslyAllowHTTP, ignoresURL: cfg.DangerouslyIgnoreURL, once: cfg.Once,
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

// Extract returns ctx with the tenant of a token that was made for this audience. The error is an [ErrUnauthenticated], or that of
// [PropagatorConfig].Once.
func (p *Propagator) Extract(ctx context.Context, token, audience string) (context.Context, error) {
	v, err := p.verify(token, forToken+audience, nil)
	if err != nil {
		return nil, err
	}
	return p.use(ctx, v)
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
		"jti": rand.Text(), // of 130 bits
	}
	if body != nil {
		claims[claimBody] = body
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["typ"] = propagatorType
	return token.SignedString(p.keys.Keys[0])
}

// verified is what a token says whose signature is right.
type verified struct {
	tenant  string
	id      string // empty if the sender gave it none
	expires time.Time
}

func (p *Propagator) verify(token, audience string, body any) (verified, error) {
	if err := checkForm(token, expectType(propagatorType)); err != nil {
		return verified{}, unauthenticated(err)
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return p.keys, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(propagatorIssuer),
		jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	if err != nil {
		return verified{}, unauthenticated(err)
	}
	if claims[claimBody] != body {
		return verified{}, unauthenticated(jwt.ErrTokenInvalidAudience)
	}
	tenant, _ := claims[claimTenant].(string)
	if tenant == "" {
		return verified{}, unauthenticated(jwt.ErrTokenRequiredClaimMissing)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil {
		return verified{}, unauthenticated(err)
	}
	id, _ := claims["jti"].(string)
	return verified{tenant: tenant, id: id, expires: expires.Time}, nil
}
