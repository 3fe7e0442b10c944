package tenanthttp

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// ErrPlainHTTP is returned by [Propagator.Transport] for a request that would send a tenant's token over plain http to another machine.
// Nothing was sent. Use https, or set [PropagatorConfig].DangerouslyAllowHTTP.
var ErrPlainHTTP = errors.New("tenanthttp: a tenant's token is not sent over plain http: use https, or set DangerouslyAllowHTTP")

// Resolver reads the tenant of requests that another service has sent through [Propagator.Transport]. The audience is the host
// in the URL of those requests. A token is a proof: use it with [DangerouslyTrustResolver].
//
// The token is for this method and URL, as the client has sent them: a middleware may strip a prefix before, but a gateway that
// rewrites paths needs [PropagatorConfig].DangerouslyIgnoreURL.
func (p *Propagator) Resolver(audience string) Resolver {
	audience = strings.ToLower(audience) // as hosts are compared
	return func(r *http.Request) (string, error) {
		request.Of(r.Context()).DependsOn(p.header)
		switch tokens := r.Header.Values(p.header); {
		case len(tokens) == 0 || len(tokens) == 1 && tokens[0] == "":
			return "", errNoToken
		case len(tokens) > 1:
			return "", malformed("it has more than one token")
		default:
			uri := r.RequestURI // of a server; what r.URL has may have been changed since
			if uri == "" {
				uri = r.URL.RequestURI()
			}
			v, err := p.verify(tokens[0], p.requestAudience(r.Method, audience, uri), nil)
			if err != nil {
				return "", err
			}
			_, err = p.use(r.Context(), v)
			return v.tenant, err
		}
	}
}

// requestAudience binds a token to a request. A hash keeps it short, and what a query may hold out of it.
func (p *Propagator) requestAudience(method, host, uri string) string {
	if method == "" {
		method = http.MethodGet
	}
	audience := forRequest + method + " " + host
	if p.ignoresURL {
		return audience
	}
	if u, err := url.Parse(uri); err == nil && u.IsAbs() { // the form for proxies (RFC 9112 section 3.2.2)
		uri = u.RequestURI()
	}
	hash := sha256.Sum256([]byte(uri))
	return audience + " " + base64.RawURLEncoding.EncodeToString(hash[:])
}

// Transport returns a transport that sends the tenant of each request's context to these hosts, and to no others, also when a
// response redirects. A host is the one in the URL, with the port if there is one: "billing.internal:8080". Requests without a
// tenant are sent without a token. The base nil means [http.DefaultTransport]. Plain http is refused with [ErrPlainHTTP],
// except to this machine (localhost and loopback addresses).
func (p *Propagator) Transport(base http.RoundTripper, hosts ...string) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &transport{base: base, propagator: p, hosts: map[string]bool{}}
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
		audience := t.propagator.requestAudience(r.Method, host, r.URL.RequestURI())
		token, err := t.propagator.sign(r.Context(), audience, t.propagator.ttl, nil)
		switch {
		case err == nil && !t.propagator.plain && r.URL.Scheme != "https" && !isThisMachine(r.URL.Hostname()):
			return nil, errors.Join(ErrPlainHTTP, closeBody(r))
		case err == nil:
			r.Header.Set(t.propagator.header, token)
		case !errors.Is(err, tenancy.ErrNoTenant):
			return nil, errors.Join(err, closeBody(r))
		}
	}
	return t.base.RoundTrip(r)
}

func isThisMachine(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback() || strings.EqualFold(host, "localhost")
}

// closeBody closes what the base transport would have closed.
func closeBody(r *http.Request) error {
	if r.Body == nil {
		return nil
	}
	return r.Body.Close()
}
