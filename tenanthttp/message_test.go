package tenanthttp_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// kafkaHeader is what Kafka's clients have in a list, in which a key can be there twice.
type kafkaHeader struct {
	Key   string
	Value []byte
}

func TestMessageCarriesTenant(t *testing.T) {
	propagator := newPropagator(t, secret)
	acme := tenancy.WithTenant(t.Context(), "acme")
	m := tenanthttp.Message{Topic: "invoices", Body: []byte(`{"id":7}`)}
	for name, carrier := range map[string]tenanthttp.Carrier{
		"map":    tenanthttp.MapCarrier{"X-Tenant-Token": "of another message"},
		"header": tenanthttp.HeaderCarrier(http.Header{"X-Tenant-Token": {"of", "another"}}),
		"Kafka":  tenanthttp.KafkaCarrier(&[]kafkaHeader{{"X-Tenant-Token", []byte("of")}, {"other", nil}, {"x-tenant-token", []byte("another")}}),
		"AMQP":   tenanthttp.TableCarrier{"X-Tenant-Token": 7, "x-tenant-token": "of another"},
	} {
		require.NoError(t, propagator.InjectMessage(acme, carrier, m), name)
		ctx, err := propagator.ExtractMessage(t.Context(), carrier, m)
		require.NoError(t, err, name)
		tenant, _ := tenancy.TenantFromContext(ctx)
		require.Equal(t, "acme", tenant, name)
	}
	empty := tenanthttp.MapCarrier{}
	require.ErrorIs(t, propagator.InjectMessage(t.Context(), empty, m), tenancy.ErrNoTenant)
	require.ErrorIs(t, propagator.InjectMessage(tenancy.WithoutTenant(acme), empty, m), tenancy.ErrNoTenant)
	require.Empty(t, empty)
}

// TestMessageTokenIsForOneMessage: a reader of one queue must not write into another, nor another body, nor call a service.
func TestMessageTokenIsForOneMessage(t *testing.T) {
	propagator := newPropagator(t, secret)
	acme := tenancy.WithTenant(t.Context(), "acme")
	carrier := tenanthttp.MapCarrier{}
	m := tenanthttp.Message{Topic: "invoices", Body: []byte("pay 7")}
	require.NoError(t, propagator.InjectMessage(acme, carrier, m))
	for name, other := range map[string]tenanthttp.Message{
		"other topic": {Topic: "refunds", Body: m.Body},
		"other body":  {Topic: m.Topic, Body: []byte("pay 7000")},
		"no body":     {Topic: m.Topic},
		"no topic":    {Body: m.Body},
	} {
		ctx, err := propagator.ExtractMessage(acme, carrier, other)
		require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
		require.Nil(t, ctx, name)
	}
	token := carrier.Get("X-Tenant-Token")
	_, err := propagator.Extract(t.Context(), token, m.Topic)
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
	_, err = propagator.Resolver("example.com")(request(header("X-Tenant-Token", token)))
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)

	plain := tenanthttp.MapCarrier{"X-Tenant-Token": must(propagator.Inject(acme, m.Topic))}
	_, err = propagator.ExtractMessage(t.Context(), plain, tenanthttp.Message{Topic: m.Topic})
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, "a token for a name is not one for a message")

	_, err = propagator.ExtractMessage(acme, tenanthttp.MapCarrier{}, m)
	require.ErrorIs(t, err, tenanthttp.ErrNoTenant, "the receiver's own tenant is not the message's")
	for name, carrier := range map[string]tenanthttp.Carrier{
		"two spellings": tenanthttp.KafkaCarrier(&[]kafkaHeader{{"X-Tenant-Token", []byte(token)}, {"x-tenant-token", []byte(token)}}),
		"two in Kafka":  tenanthttp.KafkaCarrier(&[]kafkaHeader{{"X-Tenant-Token", []byte(token)}, {"X-Tenant-Token", nil}}),
		"two in NATS":   tenanthttp.HeaderCarrier{"X-Tenant-Token": {token, token}},
		"two in AMQP":   tenanthttp.TableCarrier{"X-Tenant-Token": token, "x-tenant-token": nil},
		"bytes":         tenanthttp.TableCarrier{"X-Tenant-Token": []byte(token)},
		"list":          tenanthttp.TableCarrier{"X-Tenant-Token": []any{token}},
		"null":          tenanthttp.TableCarrier{"X-Tenant-Token": nil},
		"empty":         tenanthttp.MapCarrier{"X-Tenant-Token": ""},
		"spelling":      tenanthttp.MapCarrier{"x-tenant-token": token},
	} {
		_, err = propagator.ExtractMessage(acme, carrier, m)
		require.ErrorIs(t, err, tenanthttp.ErrMalformed, name)
		require.NotErrorIs(t, err, tenanthttp.ErrNoTenant, "a token that cannot be read is not none")
	}
	shared := make([]kafkaHeader, 1, 8)
	one, other := shared[:1], shared[:1]
	require.NoError(t, propagator.InjectMessage(acme, tenanthttp.KafkaCarrier(&one), m))
	require.NoError(t, propagator.InjectMessage(tenancy.WithTenant(t.Context(), "globex"), tenanthttp.KafkaCarrier(&other), m))
	ctx, err := propagator.ExtractMessage(t.Context(), tenanthttp.KafkaCarrier(&one), m)
	require.NoError(t, err)
	tenant, _ := tenancy.TenantFromContext(ctx)
	require.Equal(t, "acme", tenant, "records that share an array of headers keep their own")
}

func TestMessageTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		propagator := newPropagator(t, secret)
		carrier, m := tenanthttp.MapCarrier{}, tenanthttp.Message{Topic: "invoices"}
		require.NoError(t, propagator.InjectMessage(tenancy.WithTenant(t.Context(), "acme"), carrier, m))
		time.Sleep(23 * time.Hour)
		_, err := propagator.ExtractMessage(t.Context(), carrier, m)
		require.NoError(t, err, "it waited")
		time.Sleep(time.Hour)
		_, err = propagator.ExtractMessage(t.Context(), carrier, m)
		require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
	})
}

// A queue's message carries the tenant in its header. The token is valid for this topic and body only.
func ExamplePropagator_InjectMessage() {
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte("a secret that all services share")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	body := []byte(`{"invoice":7}`)
	headers := http.Header{} // nats.Header(headers), and likewise in other clients

	acme := tenancy.WithTenant(exampleContext, "acme")
	err = propagator.InjectMessage(acme, tenanthttp.HeaderCarrier(headers), tenanthttp.Message{Topic: "invoices", Body: body})
	fmt.Println("sent:", err)

	// In the consumer, which knows what it reads from:
	ctx, err := propagator.ExtractMessage(exampleContext, tenanthttp.HeaderCarrier(headers), tenanthttp.Message{Topic: "invoices", Body: body})
	if err != nil {
		fmt.Println(err)
		return
	}
	tenant, _ := tenancy.TenantFromContext(ctx)
	fmt.Println("received for", tenant)

	_, err = propagator.ExtractMessage(exampleContext, tenanthttp.HeaderCarrier(headers), tenanthttp.Message{Topic: "refunds", Body: body})
	fmt.Println(err)
	// Output:
	// sent: <nil>
	// received for acme
	// tenanthttp: the request is not authenticated: token has invalid audience
}
