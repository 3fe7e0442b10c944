package tenancygrpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// errToken is the answer to every call without a valid token. It says nothing about tenants.
var errToken = status.Error(codes.Unauthenticated, "tenancygrpc: a valid tenant token is needed")

// errStore is the answer while PropagatorConfig.Once does not know which tokens were used. The client may send the call again.
var errStore = status.Error(codes.Unavailable, "tenancygrpc: the tenant token cannot be checked")

// UnaryServerInterceptor puts the tenant of a call into its context. A call without a token, with two, or with one that was made for another
// audience or method, is refused with codes.Unauthenticated, and one whose token cannot be looked up (PropagatorConfig.Once) with
// codes.Unavailable.
func UnaryServerInterceptor(p *tenanthttp.Propagator, audience string, options ...Option) grpc.UnaryServerInterceptor {
	c := newConfig(p, audience, options)
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		ctx, err := c.incoming(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return handle(ctx, request)
	}
}

// StreamServerInterceptor does what UnaryServerInterceptor does, once for each stream. The stream keeps its tenant as long as it is open,
// also when the token has expired meanwhile.
func StreamServerInterceptor(p *tenanthttp.Propagator, audience string, options ...Option) grpc.StreamServerInterceptor {
	c := newConfig(p, audience, options)
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		ctx, err := c.incoming(stream.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return handle(server, serverStream{stream, ctx})
	}
}

func (c config) incoming(ctx context.Context, method string) (context.Context, error) {
	if c.skip[method] {
		return ctx, nil
	}
	tokens := metadata.ValueFromIncomingContext(ctx, Key)
	if len(tokens) != 1 {
		return nil, errToken
	}
	ctx, err := c.propagator.Extract(ctx, tokens[0], c.audienceOf(method))
	switch {
	case errors.Is(err, tenanthttp.ErrUnauthenticated):
		return nil, errToken
	case err != nil:
		return nil, errStore
	}
	return ctx, nil
}

// serverStream is a stream with a context of its own.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the tenant.
func (s serverStream) Context() context.Context { return s.ctx }
