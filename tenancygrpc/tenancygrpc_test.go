package tenancygrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenancygrpc"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

const (
	who    = "/test.Tenants/Who"
	other  = "/test.Tenants/Other"
	stream = "/test.Tenants/Stream"
)

func tenantOf(ctx context.Context) *wrapperspb.StringValue {
	tenant, _ := tenancy.TenantFromContext(ctx)
	return wrapperspb.String(tenant)
}

// service answers with the tenant of a call, and of each message of a stream.
func service() *grpc.ServiceDesc {
	unary := func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		request := new(wrapperspb.StringValue)
		if err := decode(request); err != nil {
			return nil, err
		}
		method, _ := grpc.Method(ctx)
		return intercept(ctx, request, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
			return tenantOf(ctx), nil
		})
	}
	return &grpc.ServiceDesc{
		ServiceName: "test.Tenants",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Who", Handler: unary}, {MethodName: "Other", Handler: unary}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			for {
				if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
					return nil
				}
				if err := s.SendMsg(tenantOf(s.Context())); err != nil {
					return err
				}
			}
		}}},
	}
}

func newPropagator(t *testing.T, secret string) *tenanthttp.Propagator {
	t.Helper()
	p, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte(secret + ", of thirty-two bytes or more")}})
	require.NoError(t, err)
	return p
}

// certificate is one for the server, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"billing"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// serve starts the server billing, and returns a function that connects to it.
func serve(t *testing.T, p *tenanthttp.Propagator, encrypted bool, options ...tenancygrpc.Option) func(...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	serverSide, clientSide := insecure.NewCredentials(), insecure.NewCredentials()
	if encrypted {
		cert, pool := certificate(t)
		serverSide = credentials.NewServerTLSFromCert(&cert)
		clientSide = credentials.NewClientTLSFromCert(pool, "billing")
	}
	server := grpc.NewServer(grpc.Creds(serverSide),
		grpc.UnaryInterceptor(tenancygrpc.UnaryServerInterceptor(p, "billing", options...)),
		grpc.StreamInterceptor(tenancygrpc.StreamServerInterceptor(p, "billing", options...)))
	server.RegisterService(service(), nil)
	listener := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return func(opts ...grpc.DialOption) *grpc.ClientConn {
		conn, err := grpc.NewClient("passthrough:billing", append(opts, grpc.WithTransportCredentials(clientSide),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		return conn
	}
}

func interceptors(p *tenanthttp.Propagator, audience string, options ...tenancygrpc.Option) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(tenancygrpc.UnaryClientInterceptor(p, audience, options...)),
		grpc.WithStreamInterceptor(tenancygrpc.StreamClientInterceptor(p, audience, options...)),
	}
}

func call(ctx context.Context, conn *grpc.ClientConn, method string) (string, error) {
	reply := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, method, wrapperspb.String("x"), reply)
	return reply.GetValue(), err
}

// talk sends two messages through a stream, and returns the tenants of the answers.
func talk(ctx context.Context, conn *grpc.ClientConn, between func()) (tenants []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, stream)
	if err != nil {
		return nil, err
	}
	for range 2 {
		reply := new(wrapperspb.StringValue)
		if err := s.SendMsg(wrapperspb.String("x")); err != nil {
			return tenants, s.RecvMsg(reply) // which has the status
		}
		if err := s.RecvMsg(reply); err != nil {
			return tenants, err
		}
		tenants = append(tenants, reply.GetValue())
		between()
	}
	return tenants, s.CloseSend()
}

func TestTenantTravels(t *testing.T) {
	p := newPropagator(t, "a secret")
	conn := serve(t, p, true)(interceptors(p, "billing")...)
	for _, tenant := range []string{"acme", "globex"} {
		ctx := metadata.AppendToOutgoingContext(tenancy.WithTenant(t.Context(), tenant), tenancygrpc.Key, "of the call that came in")
		got, err := call(ctx, conn, who)
		require.NoError(t, err)
		require.Equal(t, tenant, got)
	}
}

// TestStreamHoldsItsTenant: whatever other calls of the connection do meanwhile.
func TestStreamHoldsItsTenant(t *testing.T) {
	p := newPropagator(t, "a secret")
	conn := serve(t, p, true)(interceptors(p, "billing")...)
	got, err := talk(tenancy.WithTenant(t.Context(), "acme"), conn, func() {
		other, err := call(tenancy.WithTenant(t.Context(), "globex"), conn, who)
		require.NoError(t, err)
		require.Equal(t, "globex", other)
	})
	require.NoError(t, err)
	require.Equal(t, []string{"acme", "acme"}, got)
}

// TestForgedTokenIsRefused, and so is a token for something else.
func TestForgedTokenIsRefused(t *testing.T) {
	p := newPropagator(t, "a secret")
	connect := serve(t, p, true)
	acme := tenancy.WithTenant(t.Context(), "acme")
	plain := connect()
	inject := func(p *tenanthttp.Propagator, audience string) string {
		token, err := p.Inject(acme, audience)
		require.NoError(t, err)
		return token
	}
	good := inject(p, "grpc billing"+who)
	got, err := call(metadata.AppendToOutgoingContext(t.Context(), tenancygrpc.Key, good), plain, who)
	require.NoError(t, err, "so the refusals below are for their reasons")
	require.Equal(t, "acme", got)
	refused := func(name string, err error) {
		t.Helper()
		require.Equal(t, codes.Unauthenticated, status.Code(err), name)
		require.NotContains(t, err.Error(), "acme", name)
	}
	for name, tokens := range map[string][]string{
		"none": nil, "empty": {""}, "tenant's name": {"acme"}, "two": {good, good},
		"other key": {inject(newPropagator(t, "another"), "grpc billing"+who)}, "other service": {inject(p, "grpc mail"+who)}, "for no call": {inject(p, "billing")},
	} {
		ctx := acme
		for _, token := range tokens {
			ctx = metadata.AppendToOutgoingContext(ctx, tenancygrpc.Key, token)
		}
		_, err := call(ctx, plain, who)
		refused(name, err)
		_, err = talk(ctx, plain, func() {})
		refused(name+" (stream)", err)
	}
	_, err = call(metadata.AppendToOutgoingContext(t.Context(), tenancygrpc.Key, good), plain, other)
	refused("other method", err)
	conn := connect(interceptors(p, "mail")...)
	_, err = call(acme, conn, who)
	refused("client of another service", err)
	_, err = call(tenancy.WithoutTenant(acme), connect(interceptors(p, "billing")...), who)
	refused("no tenant", err)
}

// TestPlaintextIsRefused by the client, before anything is sent.
func TestPlaintextIsRefused(t *testing.T) {
	p := newPropagator(t, "a secret")
	connect := serve(t, p, false, tenancygrpc.Skip(other))
	acme := tenancy.WithTenant(t.Context(), "acme")
	conn := connect(interceptors(p, "billing")...)
	_, err := call(acme, conn, who)
	require.ErrorContains(t, err, "insecure")
	_, err = talk(acme, conn, func() {})
	require.ErrorContains(t, err, "insecure")
	loose := connect(interceptors(p, "billing", tenancygrpc.DangerouslyAllowPlaintext())...)
	got, err := call(acme, loose, who)
	require.NoError(t, err)
	require.Equal(t, "acme", got)

	got, err = call(acme, loose, other)
	require.NoError(t, err)
	require.Empty(t, got, "a method that is skipped has no tenant")
	require.Panics(t, func() { tenancygrpc.UnaryServerInterceptor(nil, "billing") })
	require.Panics(t, func() { tenancygrpc.UnaryServerInterceptor(p, "") })
}
