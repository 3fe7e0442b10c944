package queues

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Of a delivery, the consumer knows exchange and routing key. Bind the token to both: they are its topic.
func topicOf(exchange, key string) string { return fmt.Sprintf("%q %q", exchange, key) }

// TestAMQPMessageIsWorkedForItsTenant, and a message that a hostile user of the sender has made up is not.
func TestAMQPMessageIsWorkedForItsTenant(t *testing.T) {
	c := newConsumer(t)
	deliver := func(d amqp.Delivery) error {
		return c.work(tenanthttp.TableCarrier(d.Headers), tenanthttp.Message{Topic: topicOf(d.Exchange, d.RoutingKey), Body: d.Body}, nil)
	}
	publish := func(tenant string, headers amqp.Table, item string) amqp.Delivery {
		publishing := amqp.Publishing{Headers: headers, Body: []byte(item)}
		m := tenanthttp.Message{Topic: topicOf("shop", "orders"), Body: publishing.Body}
		require.NoError(t, c.propagator.InjectMessage(testdb.As(tenant), tenanthttp.TableCarrier(publishing.Headers), m))
		require.NoError(t, publishing.Headers.Validate(), "AMQP can encode it")
		return amqp.Delivery{Exchange: "shop", RoutingKey: "orders", Headers: publishing.Headers, Body: publishing.Body}
	}
	require.NoError(t, deliver(publish(testdb.Acme, amqp.Table{}, "book")))
	users := amqp.Table{"X-Tenant-Token": "globex", "x-tenant-token": []byte("globex"), "tenant": "globex", "X-TENANT-TOKEN": nil}
	require.NoError(t, deliver(publish(testdb.Acme, users, "pen")), "headers of the sender's user do not count")
	want := map[string][]string{testdb.Acme: {"book", "pen"}}
	require.Equal(t, want, c.orders(t))

	const header = "X-Tenant-Token"
	other := newPropagator(t, "x", nil)
	for name, change := range map[string]func(*amqp.Delivery){
		"no header":           func(d *amqp.Delivery) { d.Headers = nil },
		"a name":              func(d *amqp.Delivery) { d.Headers[header] = testdb.Globex },
		"bytes":               func(d *amqp.Delivery) { d.Headers[header] = []byte(d.Headers[header].(string)) },
		"a number":            func(d *amqp.Delivery) { d.Headers[header] = int64(7) },
		"a list":              func(d *amqp.Delivery) { d.Headers[header] = []any{d.Headers[header]} },
		"a table":             func(d *amqp.Delivery) { d.Headers[header] = amqp.Table{header: d.Headers[header]} },
		"two spellings":       func(d *amqp.Delivery) { d.Headers[strings.ToLower(header)] = d.Headers[header] },
		"another body":        func(d *amqp.Delivery) { d.Body = []byte("a hundred pens") },
		"another exchange":    func(d *amqp.Delivery) { d.Exchange = "refunds" },
		"another routing key": func(d *amqp.Delivery) { d.RoutingKey = "refunds" },
		"another key": func(d *amqp.Delivery) {
			m := tenanthttp.Message{Topic: topicOf(d.Exchange, d.RoutingKey), Body: d.Body}
			require.NoError(t, other.InjectMessage(testdb.As(testdb.Globex), tenanthttp.TableCarrier(d.Headers), m))
		},
		"another's token": func(d *amqp.Delivery) {
			d.Headers[header] = publish(testdb.Globex, amqp.Table{}, "globex's").Headers[header]
		},
	} {
		d := publish(testdb.Acme, amqp.Table{}, "refused")
		change(&d)
		require.ErrorIs(t, refused(deliver(d)), tenanthttp.ErrUnauthenticated, name)
	}
	require.Equal(t, want, c.orders(t))
}

// refused takes both errors of a message that names no tenant as it should.
func refused(err error) error {
	if errors.Is(err, tenanthttp.ErrMalformed) {
		return tenanthttp.ErrUnauthenticated
	}
	return err
}

// The token is in the table of headers. Nil could not be written.
func ExampleTableCarrier() {
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte("a secret that all services share")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	publishing := amqp.Publishing{Headers: amqp.Table{}, Body: []byte(`{"invoice":7}`)}
	m := tenanthttp.Message{Topic: topicOf("billing", "invoices"), Body: publishing.Body}
	if err := propagator.InjectMessage(testdb.As("acme"), tenanthttp.TableCarrier(publishing.Headers), m); err != nil {
		fmt.Println(err)
		return
	}
	// channel.PublishWithContext(ctx, "billing", "invoices", true, false, publishing), and in the consumer of a delivery:
	delivery := amqp.Delivery{Exchange: "billing", RoutingKey: "invoices", Headers: publishing.Headers, Body: publishing.Body}
	m = tenanthttp.Message{Topic: topicOf(delivery.Exchange, delivery.RoutingKey), Body: delivery.Body}
	ctx, err := propagator.ExtractMessage(exampleContext, tenanthttp.TableCarrier(delivery.Headers), m)
	if err != nil {
		fmt.Println(err)
		return
	}
	tenant, _ := tenancy.TenantFromContext(ctx)
	fmt.Println(tenant)
	// Output: acme
}
