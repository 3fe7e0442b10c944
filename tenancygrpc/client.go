package tenancygrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Key is the key of the token in a call's metadata.
const Key = "x-tenant-token"

// UnaryClientInterceptor sends the tenant of a call's context to the server that calls itself audience. A call without a tenant is sent
// without a token. gRPC refuses to send a token over a connection that is not encrypted (codes.Unauthenticated), unless
// DangerouslyAllowPlaintext is given.
func UnaryClientInterceptor(p *tenanthttp.Propagator, audience string, options ...Option) grpc.UnaryClientInterceptor {
	c := newConfig(p, audience, options)
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, opts = c.outgoing(ctx, method, opts)
		return invoke(ctx, method, request, reply, conn, opts...)
	}
}

// StreamClientInterceptor does what UnaryClientInterceptor does, once for each stream.
func StreamClientInterceptor(p *tenanthttp.Propagator, audience string, options ...Option) grpc.StreamClientInterceptor {
	c := newConfig(p, audience, options)
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, opts = c.outgoing(ctx, method, opts)
		return open(ctx, desc, conn, method, opts...)
	}
}

// outgoing removes a token that is there already, which belongs to an incoming call, and adds one for the context's tenant.
func (c config) outgoing(ctx context.Context, method string, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get(Key)) > 0 {
		md = md.Copy()
		md.Delete(Key)
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	if _, ok := tenancy.TenantFromContext(ctx); !ok {
		return ctx, opts
	}
	return ctx, append(opts[:len(opts):len(opts)], grpc.PerRPCCredentials(token{c, method}))
}

// token makes the token of a call. As credentials it is sent by gRPC over encrypted connections only.
type token struct {
	config
	method string
}

// GetRequestMetadata is called for each attempt to send the call, so that a token is not too old.
func (t token) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	signed, err := t.propagator.Inject(ctx, t.audienceOf(t.method))
	if err != nil {
		return nil, err
	}
	return map[string]string{Key: signed}, nil
}

// RequireTransportSecurity makes gRPC refuse connections that are not encrypted.
func (t token) RequireTransportSecurity() bool { return !t.plaintext }
