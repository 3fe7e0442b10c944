package webhooks

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"
)

// ErrTarget is the error of a URL that events are not sent to. Its text says why, and holds no address that a name has.
var ErrTarget = errors.New("webhooks: the URL cannot be used")

type targetError string

func (e targetError) Error() string      { return string(e) }
func (targetError) Is(target error) bool { return target == ErrTarget }

const (
	maxURL = 2048
	// lookupTimeout is the time to look up a name when an endpoint is registered.
	lookupTimeout = 3 * time.Second
)

// target decides where requests may go. What was public when it was registered may have another address now, so the dialer asks again,
// about the very address that it connects to.
type target struct {
	guardian *ssrf.Guardian
	resolver *net.Resolver
	ports    []uint16
	loopback bool
}

func newTarget(c Config) target {
	t := target{resolver: c.Resolver, ports: c.Ports, loopback: c.DangerouslyAllowLoopback}
	options := []ssrf.Option{ssrf.WithPorts(c.Ports...)}
	if t.loopback {
		options = []ssrf.Option{
			ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.0/8")), ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("::1/128")),
		}
	}
	t.guardian = ssrf.New(options...)
	return t
}

// parse checks the form of a URL, without asking the network.
func (t target) parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > maxURL || u.Opaque != "":
		return nil, targetError("the URL must be an absolute one of up to 2048 bytes")
	case u.Scheme != "https" && (u.Scheme != "http" || !t.loopback):
		return nil, targetError("the URL must begin with https://")
	case u.User != nil:
		return nil, targetError("the URL cannot hold a user or a password: verify the signature instead")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, targetError("the URL cannot have a fragment")
	}
	if _, err := t.port(u); err != nil {
		return nil, err
	}
	return u, t.checkHost(u.Hostname())
}

// checkHost checks the form of a host: an address that is public, or a name with a dot.
func (t target) checkHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" || t.guardian.SafeAddr(addr) != nil {
			return targetError("the address of the URL is not a public one")
		}
		return nil
	}
	if len(host) > 253 || strings.ContainsFunc(host, notOfName) {
		return targetError("the host of the URL must be a name of letters, digits, hyphens and dots: write others in Punycode")
	}
	name := strings.TrimSuffix(host, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case t.loopback && name == "localhost":
		return nil
	case !strings.Contains(name, ".") || strings.Contains(name, "..") || strings.HasPrefix(name, "."):
		return targetError("the host of the URL must be a full name, such as hooks.example.com")
	case strings.IndexFunc(last, isDigit) == 0: // 127.1 and 0x7f.0x1, which some resolvers take for addresses
		return targetError("the host of the URL is neither a name nor an address")
	}
	return nil
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

func notOfName(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	return !letter && !isDigit(r) && !strings.ContainsRune("-._", r)
}

func (t target) port(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" {
		text = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, targetError("the port of the URL is not valid")
	}
	if t.loopback {
		return uint16(port), nil
	}
	for _, allowed := range t.ports {
		if uint16(port) == allowed {
			return allowed, nil
		}
	}
	return 0, targetError("the port of the URL is not one that events are sent to")
}

// check checks a URL that a tenant registers, and all addresses that its name has now.
func (t target) check(ctx context.Context, raw string) error {
	u, err := t.parse(raw)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := t.resolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil || len(addrs) == 0 {
		return targetError("the name of the URL has no address")
	}
	for _, addr := range addrs {
		if t.guardian.SafeAddr(addr.Unmap()) != nil {
			return targetError("the name of the URL has an address that is not public")
		}
	}
	return nil
}

// client returns what sends requests. Each has a connection of its own, whose address is checked. It follows no redirect, uses no proxy,
// which would connect in its place, and inflates no body.
func (t target) client(timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: timeout, Resolver: t.resolver, Control: t.guardian.Safe}
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: nil, DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: 16 << 10,
		},
	}
}
