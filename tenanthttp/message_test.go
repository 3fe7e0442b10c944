package tenanthttp_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// kafkaHeaders is the header of Kafka's clients: a list, in which a key can be there twice.
type kafkaHeaders []kafkaHeader

type kafkaHeader struct {
	Key   string
	Value []byte
}

func (h *kafkaHeaders) Get(key string) string {
	for _, header := range *h {
		if header.Key == key {
			return string(header.Value)
		}
	}
	return ""
}

func (h *kafkaHeaders) Set(key, value string) {
	*h = slices.DeleteFunc(*h, func(header kafkaHeader) bool { return header.Key == key })
	*h = append(*h, kafkaHeader{key, []byte(value)})
}

func (h *kafkaHeaders) Keys() (keys []string) {
	for _, header := range *h {
		keys = append(keys, header.Key)
	}
	return keys
}

func TestMessageCarriesTenant(t *testing.T) {
	propagator := newPropagator(t, secret)
	acme := tenancy.WithTenant(t.Context(), "acme")
	m := tenanthttp.Message{Topic: "invoices", Body: []byte(`{"id":7}`)}
	for name, carrier := range map[string]tenanthttp.Carrier{
		"map":    tenanthttp.MapCarrier{"X-Tenant-Token": "of another message"},
		"header": tenanthttp.HeaderCarrier(http.Header{"X-Tenant-Token": {"of", "another"}}),
		"Kafka":  &kafkaHeaders{{"X-Tenant-Token", []byte("of another")}, {"other", nil}},
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
	two := kafkaHeaders{{"X-Tenant-Token", []byte(token)}, {"x-tenant-token", []byte(token)}}
	_, err = propagator.ExtractMessage(t.Context(), &two, m)
	require.ErrorIs(t, err, tenanthttp.ErrMalformed)
	_, err = propagator.ExtractMessage(t.Context(), tenanthttp.HeaderCarrier{"X-Tenant-Token": {token, token}}, m)
	require.ErrorIs(t, err, tenanthttp.ErrMalformed)
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
