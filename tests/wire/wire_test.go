package wire

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what should come at once.
const patience = 10 * time.Second

// echo is a server that sends back what it gets. It ends with the test, which fails if a goroutine is left then.
func echo(t testing.TB, network, address string) net.Listener {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	listener, err := net.Listen(network, address)
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
		goleak.VerifyNone(t, leaks)
	})
	return listener
}

func start(t testing.TB, target string, opts ...Option) *Proxy {
	t.Helper()
	p, err := New(target, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func dial(t testing.TB, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// roundTrip sends b and reads as much back.
func roundTrip(t testing.TB, c net.Conn, b []byte) []byte {
	t.Helper()
	_, err := c.Write(b)
	require.NoError(t, err)
	got := make([]byte, len(b))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	return got
}

func TestProxyPassesBytesOnUnchanged(t *testing.T) {
	for name, opts := range map[string][]Option{"at once": nil, "delayed": {WithDelay(time.Millisecond)}} {
		t.Run(name, func(t *testing.T) {
			p := start(t, echo(t, "tcp", "127.0.0.1:0").Addr().String(), opts...)
			c := dial(t, p)
			b := append(startup(), make([]byte, 1<<20)...)
			for i := range b[len(startup()):] {
				b[len(startup())+i] = byte(i * i >> 3)
			}
			var wrote sync.WaitGroup
			wrote.Go(func() {
				_, _ = c.Write(b)
				_ = c.CloseWrite()
			})
			got, err := io.ReadAll(c)
			wrote.Wait()
			require.NoError(t, err)
			require.Equal(t, b, got)

			sent, received := p.Bytes()
			require.EqualValues(t, len(b), sent)
			require.EqualValues(t, len(b), received)
			require.Eventually(t, func() bool { return p.Connections() == 0 }, patience, time.Millisecond)
		})
	}
}

func TestProxyServesAUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "wire") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, ".s.PGSQL.5432")
	echo(t, "unix", path)
	c := dial(t, start(t, path))
	require.Equal(t, startup(), roundTrip(t, c, startup()))
}

func TestProxyDeclinesEncryption(t *testing.T) {
	p := start(t, echo(t, "tcp", "127.0.0.1:0").Addr().String())
	c := dial(t, p)
	for _, code := range []uint32{gssEncRequest, sslRequest} {
		request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
		_, err := c.Write(request)
		require.NoError(t, err)
		answer := make([]byte, 1)
		_, err = io.ReadFull(c, answer)
		require.NoError(t, err)
		require.Equal(t, "N", string(answer))
	}
	require.Equal(t, startup(), roundTrip(t, c, startup()))
	require.Zero(t, p.RoundTrips())
}

func TestProxyResetsClientsOfADeadTarget(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	p := start(t, listener.Addr().String())
	c, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err != nil {
		return // reset already
	}
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestDelay(t *testing.T) {
	const delay = 5 * time.Millisecond
	p := start(t, echo(t, "tcp", "127.0.0.1:0").Addr().String(), WithDelay(delay))
	c := dial(t, p)
	roundTrip(t, c, startup())

	// Never shorter than a real network would be; how much longer depends on the machine, and the benchmark tells.
	for range 20 {
		began := time.Now()
		roundTrip(t, c, messages("S"))
		require.GreaterOrEqual(t, time.Since(began), 2*delay)
	}
}

func TestDelayIsNotCumulative(t *testing.T) {
	const delay, pieces = 100 * time.Millisecond, 40
	p := start(t, echo(t, "tcp", "127.0.0.1:0").Addr().String(), WithDelay(delay))
	c := dial(t, p)
	roundTrip(t, c, startup())

	began := time.Now()
	for range pieces {
		_, err := c.Write(messages("S"))
		require.NoError(t, err)
	}
	_, err := io.ReadFull(c, make([]byte, pieces*len(messages("S"))))
	require.NoError(t, err)
	took := time.Since(began)
	require.GreaterOrEqual(t, took, 2*delay)
	require.Less(t, took, 2*delay*pieces/4, "%d pieces sent together are to arrive together", pieces)
}

func TestDelayedBytesSurviveTheEndOfTheSender(t *testing.T) {
	p := start(t, echo(t, "tcp", "127.0.0.1:0").Addr().String(), WithDelay(10*time.Millisecond))
	c := dial(t, p)
	_, err := c.Write(startup())
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, startup(), got)
}

func TestProxyCutsAllConnections(t *testing.T) {
	for name, opts := range map[string][]Option{"at once": nil, "delayed": {WithDelay(time.Hour)}} {
		t.Run(name, func(t *testing.T) {
			p := start(t, echo(t, "tcp", "127.0.0.1:0").Addr().String(), opts...)
			var clients []net.Conn
			for range 5 {
				c := dial(t, p)
				_, err := c.Write(startup())
				require.NoError(t, err)
				clients = append(clients, c)
			}
			require.Eventually(t, func() bool { return p.Connections() == len(clients) }, patience, time.Millisecond)
			p.CutAll()
			for _, c := range clients {
				_, err := io.ReadAll(c)
				require.Error(t, err, "a reset, not an orderly end")
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			require.Eventually(t, func() bool { return p.Connections() == 0 }, patience, time.Millisecond)

			again := dial(t, p)
			_, err := again.Write(startup())
			require.NoError(t, err)
			require.Eventually(t, func() bool { return p.Connections() == 1 }, patience, time.Millisecond)
		})
	}
}

func TestCloseEndsEverything(t *testing.T) {
	target := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	leaks := goleak.IgnoreCurrent()
	p, err := New(target, WithDelay(time.Hour))
	require.NoError(t, err)
	for range 5 {
		c := dial(t, p)
		_, err := c.Write(startup()) // an hour on its way
		require.NoError(t, err)
	}
	dial(t, p) // says nothing
	require.Eventually(t, func() bool { return p.Connections() == 6 }, patience, time.Millisecond)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close(), "a second time")
	require.Zero(t, p.Connections())
	_, err = net.Dial("tcp", p.Addr())
	require.Error(t, err)
	goleak.VerifyNone(t, leaks, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait")) // the echo server's own
}

func TestCountersAreSafeForConcurrentUse(t *testing.T) {
	p := start(t, fakeServer(t))
	const clients, queries = 8, 50
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			c, err := net.Dial("tcp", p.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = c.Write(startup())
			answer := make([]byte, len(messages("Z")))
			_, _ = io.ReadFull(c, answer)
			for range queries {
				_, _ = c.Write(message('Q', ""))
				_, _ = io.ReadFull(c, answer)
				p.RoundTrips()
			}
		})
	}
	all.Wait()
	require.EqualValues(t, clients*queries, p.RoundTrips())
	require.EqualValues(t, clients*queries, p.Sent('Q'))
	require.EqualValues(t, clients*queries, p.ReadyForQuery())
	require.Zero(t, p.Syncs())
}

// fakeServer answers start-up and every five bytes after it with ReadyForQuery.
func fakeServer(t testing.TB) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				in := make([]byte, len(startup()))
				for {
					if _, err := io.ReadFull(c, in); err != nil {
						return
					}
					in = in[:5]
					if _, err := c.Write(messages("Z")); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

func TestDSN(t *testing.T) {
	p := start(t, "127.0.0.1:1")
	tests := []struct{ name, dsn, target string }{
		{"URL", "postgres://ann:s%40fe@db.example:6543/shop?application_name=x&sslmode=require", "db.example:6543"},
		{"URL with the host as a parameter", "postgresql://ann:s%40fe@/shop?host=/run/pg&port=6543&application_name=x", "/run/pg/.s.PGSQL.6543"},
		{"keywords", `host=db.example port=6543 user=ann password=s@fe dbname=shop sslmode=verify-full application_name=x`, "db.example:6543"},
		{"keywords with quotes", `host='/run/pg' port='6543' user='ann' password='s@fe' dbname='shop' application_name='x'`, "/run/pg/.s.PGSQL.6543"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, err := Target(tt.dsn)
			require.NoError(t, err)
			require.Equal(t, tt.target, target)

			through, err := p.DSN(tt.dsn)
			require.NoError(t, err)
			cfg, err := pgconn.ParseConfig(through)
			require.NoError(t, err)
			_, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
			require.Equal(t, p.Addr(), address)
			require.Equal(t, "ann", cfg.User)
			require.Equal(t, "s@fe", cfg.Password)
			require.Equal(t, "shop", cfg.Database)
			require.Equal(t, "x", cfg.RuntimeParams["application_name"])
			require.Nil(t, cfg.TLSConfig)
			require.Empty(t, cfg.Fallbacks)
		})
	}
}

func TestDSNErrorsHoldNoPassword(t *testing.T) {
	p := start(t, "127.0.0.1:1")
	for _, dsn := range []string{"postgres://ann:hunter2@db:port/", "password=hunter2 port=none", "postgres://ann:hunter2@%zz/"} {
		_, err := Target(dsn)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = p.DSN(dsn)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
