package tenancygrpc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenancygrpc"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

type storeFunc func() error

func (f storeFunc) Use(context.Context, string, time.Time) error { return f() }

// TestCallIsAcceptedOnce: the token of a call, sent again, is refused; and all are while the store is away.
func TestCallIsAcceptedOnce(t *testing.T) {
	memory := tenanthttp.NewOnceMemory(0)
	var away error
	key := []byte("secret, of thirty-two bytes or more")
	p, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{key}, Once: both{memory, storeFunc(func() error { return away })}})
	require.NoError(t, err)
	intercept := tenancygrpc.UnaryServerInterceptor(p, "billing")
	call := func(token string) (any, error) {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(tenancygrpc.Key, token))
		return intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: who}, func(ctx context.Context, _ any) (any, error) {
			tenant, _ := tenancy.TenantFromContext(ctx)
			return tenant, nil
		})
	}
	token := func() string {
		signed, err := p.Inject(tenancy.WithTenant(t.Context(), "acme"), "grpc billing"+who)
		require.NoError(t, err)
		return signed
	}
	first := token()
	tenant, err := call(first)
	require.NoError(t, err)
	require.Equal(t, "acme", tenant)
	_, err = call(first)
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	away = errors.New("the database at 10.0.0.7 is away")
	_, err = call(token())
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.NotContains(t, err.Error(), "10.0.0.7")
}

// both asks one store after the other.
type both [2]tenanthttp.OnceStore

func (b both) Use(ctx context.Context, id string, expires time.Time) error {
	if err := b[1].Use(ctx, id, expires); err != nil {
		return err
	}
	return b[0].Use(ctx, id, expires)
}
