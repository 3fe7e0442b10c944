package tenanthttp

import (
	"maps"
	"slices"
	"strings"
)

// A TableCarrier is a header of values of any type, such as AMQP's: TableCarrier(publishing.Headers). Nil can be read only. A value that is
// not a text is no token.
type TableCarrier map[string]any

// Get returns the value of a key if it is a text.
func (c TableCarrier) Get(key string) string {
	text, _ := c[key].(string)
	return text
}

// Set writes the value of a key, and removes other spellings of it.
func (c TableCarrier) Set(key, value string) {
	maps.DeleteFunc(c, func(k string, _ any) bool { return strings.EqualFold(k, key) })
	c[key] = value
}

// Keys lists the keys.
func (c TableCarrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// A KafkaHeader is a header of a record in the clients kafka-go (Header), franz-go (RecordHeader) and confluent-kafka-go (Header).
type KafkaHeader interface {
	~struct {
		Key   string
		Value []byte
	}
}

// KafkaCarrier returns the headers of a record: KafkaCarrier(&record.Headers). A key can be there twice, which ExtractMessage refuses.
func KafkaCarrier[H KafkaHeader](headers *[]H) Carrier { return kafkaCarrier[H]{headers} }

type kafkaCarrier[H KafkaHeader] struct{ headers *[]H }

type kafkaHeader = struct {
	Key   string
	Value []byte
}

// Get returns the first value of a key.
func (c kafkaCarrier[H]) Get(key string) string {
	for _, header := range *c.headers {
		if h := kafkaHeader(header); h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Set writes the only value of a key, and removes other spellings of it. It makes a new list, because records may share one.
func (c kafkaCarrier[H]) Set(key, value string) {
	var headers []H
	for _, header := range *c.headers {
		if !strings.EqualFold(kafkaHeader(header).Key, key) {
			headers = append(headers, header)
		}
	}
	headers = append(headers, H(kafkaHeader{key, []byte(value)}))
	*c.headers = headers
}

// Keys lists the keys.
func (c kafkaCarrier[H]) Keys() []string {
	keys := make([]string, len(*c.headers))
	for n, header := range *c.headers {
		keys[n] = kafkaHeader(header).Key
	}
	return keys
}
