package queues

import (
	"context"
	"fmt"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

var exampleContext = context.Background()

// TestKafkaRecordIsWorkedForItsTenant sends records of two tenants over Kafka's protocol, and works each.
func TestKafkaRecordIsWorkedForItsTenant(t *testing.T) {
	c := newConsumer(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("orders"))
	require.NoError(t, err)
	defer client.Close()
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		record := &kgo.Record{Topic: "orders", Value: []byte("for " + tenant), Headers: []kgo.RecordHeader{{Key: "X-Tenant-Token", Value: []byte("initech")}}}
		require.NoError(t, c.propagator.InjectMessage(testdb.As(tenant), tenanthttp.KafkaCarrier(&record.Headers), messageOf(record)))
		require.NoError(t, client.ProduceSync(t.Context(), record).FirstErr())
	}
	for read := 0; read < 2; {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			read++
			require.NoError(t, c.work(tenanthttp.KafkaCarrier(&record.Headers), messageOf(record), nil))
			require.ErrorIs(t, c.work(tenanthttp.KafkaCarrier(&record.Headers), messageOf(record), nil), tenanthttp.ErrReplayed, "offsets that were not committed")
		})
	}
	require.Equal(t, map[string][]string{testdb.Acme: {"for acme"}, testdb.Globex: {"for globex"}}, c.orders(t))
}

func messageOf(record *kgo.Record) tenanthttp.Message {
	return tenanthttp.Message{Topic: record.Topic, Body: record.Value}
}

// TestKafkaRecordOfHostileSender, which writes to the topic but has no key.
func TestKafkaRecordOfHostileSender(t *testing.T) {
	c := newConsumer(t)
	const header = "X-Tenant-Token"
	m := tenanthttp.Message{Topic: "orders", Body: []byte("book")}
	inject := func(p *tenanthttp.Propagator, tenant string, m tenanthttp.Message) []byte {
		var headers []kafka.Header
		require.NoError(t, p.InjectMessage(testdb.As(tenant), tenanthttp.KafkaCarrier(&headers), m))
		return headers[0].Value
	}
	acme := inject(c.propagator, testdb.Acme, m)
	globex := inject(c.propagator, testdb.Globex, tenanthttp.Message{Topic: "orders", Body: []byte("another")})
	for name, headers := range map[string][]kafka.Header{
		"none":             nil,
		"a name":           {{Key: header, Value: []byte(testdb.Globex)}},
		"empty":            {{Key: header}},
		"own key":          {{Key: header, Value: inject(newPropagator(t, "x", nil), testdb.Globex, m)}},
		"another record's": {{Key: header, Value: globex}},
		"another topic's":  {{Key: header, Value: inject(c.propagator, testdb.Globex, tenanthttp.Message{Topic: "refunds", Body: m.Body})}},
		"two":              {{Key: header, Value: acme}, {Key: header, Value: globex}},
		"two, reversed":    {{Key: header, Value: globex}, {Key: header, Value: acme}},
		"twice the same":   {{Key: header, Value: acme}, {Key: header, Value: acme}},
		"two spellings":    {{Key: header, Value: acme}, {Key: "x-tenant-token", Value: globex}},
		"one spelling":     {{Key: "x-tenant-token", Value: acme}},
		"spaces":           {{Key: header, Value: append([]byte(" "), acme...)}},
	} {
		require.ErrorIs(t, refused(c.work(tenanthttp.KafkaCarrier(&headers), m, nil)), tenanthttp.ErrUnauthenticated, name)
	}
	require.Empty(t, c.orders(t))
	headers := []kafka.Header{{Key: header, Value: acme}}
	require.NoError(t, c.work(tenanthttp.KafkaCarrier(&headers), m, nil), "none of them has used it up")
}

// The token is one of the headers of a record, here of kafka-go.
func ExampleKafkaCarrier() {
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte("a secret that all services share")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	message := kafka.Message{Topic: "invoices", Value: []byte(`{"invoice":7}`)}
	m := tenanthttp.Message{Topic: message.Topic, Body: message.Value}
	if err := propagator.InjectMessage(testdb.As("acme"), tenanthttp.KafkaCarrier(&message.Headers), m); err != nil {
		fmt.Println(err)
		return
	}
	// writer.WriteMessages(ctx, message), and in the consumer that has read one:
	m = tenanthttp.Message{Topic: message.Topic, Body: message.Value}
	ctx, err := propagator.ExtractMessage(exampleContext, tenanthttp.KafkaCarrier(&message.Headers), m)
	if err != nil {
		fmt.Println(err)
		return
	}
	tenant, _ := tenancy.TenantFromContext(ctx)
	fmt.Println(tenant)
	// Output: acme
}
