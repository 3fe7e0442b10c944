// Package wire is a TCP proxy that stands between a test and PostgreSQL. It counts network round trips and protocol
// messages on the socket, where no driver can embellish them, delays the traffic as a real network would, and cuts
// connections as a failing one does.
//
//	proxy, dsn := wire.Start(t, server.DSN)
//	before := proxy.RoundTrips()
//	… // talk to dsn
//	require.EqualValues(t, 1, proxy.RoundTrips()-before)
//
// It reads protocol 3 in plain text: requests for TLS or GSS encryption are answered with "not supported".
package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dialTimeout is how long a connection waits for the target to accept.
const dialTimeout = 10 * time.Second

// A Proxy forwards connections to one PostgreSQL server. All its methods are safe for concurrent use.
type Proxy struct {
	target    string
	delay     time.Duration
	intercept Interceptor // or nil
	listener  net.Listener
	counters  counters
	cancel    context.CancelFunc // ends dials in progress
	running   sync.WaitGroup     // every goroutine of the proxy

	mu     sync.Mutex
	links  map[*link]struct{}
	closed bool
}

// An Option changes how a Proxy works.
type Option func(*Proxy)

// WithDelay holds back every byte by d, in each direction: a round trip takes 2d longer. What is sent in quick
// succession arrives in quick succession, d later, as on a real network. On Linux the delay is exact to some tens of
// microseconds; elsewhere to what time.Sleep offers.
func WithDelay(d time.Duration) Option {
	return func(p *Proxy) { p.delay = max(d, 0) }
}

// New starts a proxy on a free port of 127.0.0.1. The target is "host:port", or the path of a Unix socket. The caller
// must Close it.
func New(target string, opts ...Option) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wire: listening: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{target: target, listener: listener, cancel: cancel, links: map[*link]struct{}{}}
	for _, opt := range opts {
		opt(p)
	}
	p.running.Go(func() { p.accept(ctx) })
	return p, nil
}

// Start puts a proxy in front of the server that dsn names and returns it with the DSN that leads through it. The proxy
// is closed when the test ends; a failure ends the test.
func Start(t testing.TB, dsn string, opts ...Option) (proxy *Proxy, through string) {
	t.Helper()
	target, err := Target(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if proxy, err = New(target, opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	if through, err = proxy.DSN(dsn); err != nil {
		t.Fatal(err)
	}
	return proxy, through
}

// Addr is the "host:port" the proxy listens on.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Connections is the number of connections that are open now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// CutAll resets every open connection at once, on both sides; what was on its way is lost. New connections are served
// as before.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// Close stops listening, resets every open connection and returns when no goroutine of the proxy is left.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()

	p.cancel()
	err := p.listener.Close()
	p.CutAll()
	p.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("wire: closing: %w", err)
	}
	return nil
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Millisecond) // out of file descriptors, most likely: let some be closed
			continue
		}
		p.running.Go(func() { p.serve(ctx, client) })
	}
}

// serve connects a client with the target and returns when the connection has ended.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	network := "tcp"
	if strings.HasPrefix(p.target, "/") {
		network = "unix"
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	server, err := dialer.DialContext(ctx, network, p.target)
	if err != nil {
		reset(client)
		return
	}
	l := newLink(client, server, p)
	if !p.add(l) {
		l.cut()
		return
	}
	defer p.remove(l)
	l.run()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// counters are what all connections of a proxy add to.
type counters struct {
	roundTrips            atomic.Int64
	sentBytes, gotBytes   atomic.Int64
	sentByKind, gotByKind [256]atomic.Int64
}

// RoundTrips is the number of network round trips since the proxy began, summed over its connections. A round trip
// begins when a client sends something while it has no answer outstanding, however many messages or TCP segments
// follow before it stops to wait. Connecting, authentication, Terminate and cancel requests are not counted.
func (p *Proxy) RoundTrips() int64 { return p.counters.roundTrips.Load() }

// Sent is the number of messages of this kind, such as 'Q' for Query or 'B' for Bind, that clients have sent since
// their connections were ready.
func (p *Proxy) Sent(kind byte) int64 { return p.counters.sentByKind[kind].Load() }

// Received is the number of messages of this kind, such as 'D' for DataRow, that clients have been sent by the server
// since their connections were ready.
func (p *Proxy) Received(kind byte) int64 { return p.counters.gotByKind[kind].Load() }

// Syncs is the number of Sync messages sent: the ends of implicit transactions in the extended protocol.
func (p *Proxy) Syncs() int64 { return p.Sent('S') }

// ReadyForQuery is the number of ReadyForQuery messages received: one for each Sync and each simple Query.
func (p *Proxy) ReadyForQuery() int64 { return p.Received('Z') }

// Bytes is the number of bytes that clients have sent and received, connecting included.
func (p *Proxy) Bytes() (sent, received int64) {
	return p.counters.sentBytes.Load(), p.counters.gotBytes.Load()
}
