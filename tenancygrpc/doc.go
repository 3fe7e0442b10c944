// Package tenancygrpc takes the tenant of a context from a gRPC client to a server, signed by a tenanthttp.Propagator.
//
//	// In the client:
//	conn, err := grpc.NewClient("billing.internal:443", grpc.WithTransportCredentials(tls),
//		grpc.WithUnaryInterceptor(tenancygrpc.UnaryClientInterceptor(propagator, "billing")),
//		grpc.WithStreamInterceptor(tenancygrpc.StreamClientInterceptor(propagator, "billing")))
//
//	// In billing:
//	server := grpc.NewServer(
//		grpc.UnaryInterceptor(tenancygrpc.UnaryServerInterceptor(propagator, "billing")),
//		grpc.StreamInterceptor(tenancygrpc.StreamServerInterceptor(propagator, "billing")))
//
// A token is valid for one audience and one method, for the propagator's TTL. What remains: who reads a call at its server can repeat
// this method until then, with another message.
package tenancygrpc
