package webhooks

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// strictConfig allows what a deployment allows.
func strictConfig(resolver *net.Resolver) Config {
	config := testConfig()
	config.DangerouslyAllowLoopback = false
	config.Resolver = resolver
	return config
}

// nameserver answers each question for an address with the one that set has been called with last.
func nameserver(t *testing.T, addr string) (resolver *net.Resolver, set func(string)) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var answer atomic.Value
	set = func(addr string) { answer.Store(netip.MustParseAddr(addr)) }
	set(addr)
	done := make(chan struct{})
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		<-done
	})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply, err := reply(buffer[:n], answer.Load().(netip.Addr)); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}, set
}

// reply answers a question of the kind of an address with it, and others with nothing.
func reply(question []byte, addr netip.Addr) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(question); err != nil {
		return nil, err
	}
	q := message.Questions[0]
	message.Response, message.RecursionAvailable, message.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
	switch {
	case q.Type == dnsmessage.TypeA && addr.Is4():
		message.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && addr.Is6():
		message.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
	}
	return message.Pack()
}

// public is an address that everyone can reach. Tests send nothing there: it is only said to be that of a name.
const public = "93.184.215.14"

// TestURLsThatAreRefused when an endpoint is registered, without a look at the network.
func TestURLsThatAreRefused(t *testing.T) {
	resolver, _ := nameserver(t, public)
	target := newTarget(mustDefaults(t, strictConfig(resolver)))
	require.NoError(t, target.check(t.Context(), "https://hooks.example.com/path?query=1"))
	require.NoError(t, target.check(t.Context(), "https://hooks.example.com:443"))
	require.NoError(t, target.check(t.Context(), "https://"+public))
	for _, url := range []string{
		"", "hooks.example.com", "//hooks.example.com", "http://hooks.example.com", "ftp://hooks.example.com", "file:///etc/passwd",
		"gopher://hooks.example.com", "javascript:alert(1)", "https:hooks.example.com", "https://", "https:///path", "https://:443",
		"https://user@hooks.example.com", "https://user:password@hooks.example.com", "https://@hooks.example.com",
		"https://hooks.example.com#fragment", "https://hooks.example.com#",
		"https://hooks.example.com:80", "https://hooks.example.com:22", "https://hooks.example.com:0", "https://hooks.example.com:65536",
		"https://localhost", "https://LOCALHOST.", "https://internal", "https://intranet.", "https://.example.com", "https://a..example.com",
		"https://127.0.0.1", "https://127.1", "https://2130706433", "https://0x7f000001", "https://0x7f.1", "https://0177.0.0.1", "https://127.0.0.1.",
		"https://0.0.0.0", "https://10.0.0.1", "https://172.16.0.1", "https://192.168.1.1", "https://100.64.0.1", "https://169.254.169.254",
		"https://192.0.0.192", "https://198.18.0.1", "https://224.0.0.1", "https://240.0.0.1", "https://255.255.255.255",
		"https://[::1]", "https://[::]", "https://[::ffff:127.0.0.1]", "https://[::ffff:8.8.8.8]", "https://[::127.0.0.1]", "https://[64:ff9b::7f00:1]",
		"https://[64:ff9b:1::1]", "https://[fe80::1]", "https://[fe80::1%25eth0]", "https://[fc00::1]", "https://[fd00:ec2::254]", "https://[fec0::1]",
		"https://[ff02::1]", "https://[2002:7f00:1::]", "https://[2001:0:7f00:1::]", "https://[2001:db8::1]",
		"https://ⓗooks.example.com", "https://hooks。example.com", "https://hooks.example.com\\@internal", "https://hooks.example.com%00.internal",
		"https://" + string(make([]byte, 10)), "https://hooks.example.com/" + string(make([]rune, maxURL)),
	} {
		err := target.check(t.Context(), url)
		require.ErrorIs(t, err, ErrTarget, url)
	}
}

func mustDefaults(t *testing.T, config Config) Config {
	t.Helper()
	config, err := config.withDefaults()
	require.NoError(t, err)
	return config
}

// TestNameWithPrivateAddressIsRefused when an endpoint is registered.
func TestNameWithPrivateAddressIsRefused(t *testing.T) {
	for _, addr := range []string{
		"127.0.0.1", "10.1.2.3", "169.254.169.254", "100.100.100.200", "0.0.0.0", "::1", "fd00:ec2::254", "fe80::1", "::ffff:10.0.0.1",
		"64:ff9b::a00:1", "2002:a00:1::",
	} {
		resolver, _ := nameserver(t, addr)
		target := newTarget(mustDefaults(t, strictConfig(resolver)))
		err := target.check(t.Context(), "https://rebound.example.com")
		require.ErrorIs(t, err, ErrTarget, addr)
		require.NotContains(t, err.Error(), addr, "what a name server of ours says is not told")
	}
}

// TestNameThatIsReboundIsRefused when it is dialled: it had a public address when the endpoint was registered.
func TestNameThatIsReboundIsRefused(t *testing.T) {
	resolver, set := nameserver(t, public)
	config := strictConfig(resolver)
	config.Schedule = []time.Duration{time.Millisecond}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	config.Ports = []uint16{uint16(port)}
	var reached atomic.Bool
	go func() {
		if conn, err := listener.Accept(); err == nil {
			reached.Store(true)
			_ = conn.Close()
		}
	}()
	f := newFixture(t, config)
	f.endpoint(t, acme, fmt.Sprintf("https://rebound.example.com:%d", port))
	f.work(t)
	for _, addr := range []string{"127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1"} {
		set(addr)
		d := f.waitFor(t, f.emit(t, acme, "task.created", nil), Dead)
		for _, attempt := range f.attempts(t, d.ID) {
			require.Equal(t, "the address of the endpoint is not a public one", attempt.Error, addr)
		}
	}
	require.False(t, reached.Load())
}

// TestURLWrittenPastTheServiceIsRefused when it is used: SQL of a tenant can write its endpoints.
func TestURLWrittenPastTheServiceIsRefused(t *testing.T) {
	resolver, _ := nameserver(t, public)
	config := strictConfig(resolver)
	config.Schedule = []time.Duration{time.Millisecond}
	f := newFixture(t, config)
	r := newReceiver(t)
	endpoint, _ := f.endpoint(t, acme, "https://hooks.example.com")
	f.work(t)
	for url, problem := range map[string]string{
		r.URL:                                   "the URL must begin with https://",
		"https://127.0.0.1":                     "the address of the URL is not a public one",
		"https://user:secret@hooks.example.com": "the URL cannot hold a user or a password: verify the signature instead",
		"https://hooks.example.com:8443":        "the port of the URL is not one that events are sent to",
		"file:///etc/passwd":                    "the URL must begin with https://",
	} {
		require.NoError(t, f.db.WithContext(as(acme)).Exec("UPDATE webhook_endpoints SET url = ? WHERE id = ?", url, endpoint.ID).Error)
		d := f.waitFor(t, f.emit(t, acme, "task.created", nil), Dead)
		require.Equal(t, problem, d.Reason, url)
	}
	require.Zero(t, r.count())
}

// TestLoopbackIsAllowedLoudlyOnly: other private addresses are refused there, too.
func TestLoopbackIsAllowedLoudlyOnly(t *testing.T) {
	target := newTarget(mustDefaults(t, testConfig()))
	for _, url := range []string{"http://127.0.0.1:8080", "http://localhost:8080", "https://[::1]:8443"} {
		_, err := target.parse(url)
		require.NoError(t, err, url)
	}
	for _, url := range []string{"http://10.0.0.1", "http://169.254.169.254", "http://user@localhost", "ftp://localhost", "http://[fe80::1]"} {
		require.ErrorIs(t, target.check(t.Context(), url), ErrTarget, url)
	}
}
