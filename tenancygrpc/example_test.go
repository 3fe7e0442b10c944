package tenancygrpc_test

import (
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/gormtenancy/tenancy/tenancygrpc"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Both sides share the propagator's key, and know the server by the same name.
func Example() {
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte("a secret that all services share")}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}

	// The client: calls run under a context of tenancy.WithTenant.
	conn, err := grpc.NewClient("billing.internal:443", grpc.WithTransportCredentials(credentials.NewTLS(nil)),
		grpc.WithUnaryInterceptor(tenancygrpc.UnaryClientInterceptor(propagator, "billing")),
		grpc.WithStreamInterceptor(tenancygrpc.StreamClientInterceptor(propagator, "billing")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer conn.Close()

	// The server: the context of each call has the tenant.
	server := grpc.NewServer(
		grpc.UnaryInterceptor(tenancygrpc.UnaryServerInterceptor(propagator, "billing", tenancygrpc.Skip("/grpc.health.v1.Health/Check"))),
		grpc.StreamInterceptor(tenancygrpc.StreamServerInterceptor(propagator, "billing")))
	defer server.Stop()

	fmt.Println("ready")
	// Output:
	// ready
}
