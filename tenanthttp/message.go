package tenanthttp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// A Carrier is the header of a message, as OpenTelemetry's TextMapCarrier is: an adapter for it is one for both.
// [HeaderCarrier] fits NATS, [KafkaCarrier] Kafka, [TableCarrier] AMQP, and [MapCarrier] maps.
type Carrier interface {
	// Get returns the value of a key, or "".
	Get(key string) string
	// Set writes a value in place of any other of the key.
	Set(key, value string)
	// Keys lists the keys, one as often as it is there.
	Keys() []string
}

// A MapCarrier is a header of one value each, such as the attributes of Google's Pub/Sub.
type MapCarrier map[string]string

// Get returns the value of a key.
func (c MapCarrier) Get(key string) string { return c[key] }

// Set writes the value of a key.
func (c MapCarrier) Set(key, value string) { c[key] = value }

// Keys lists the keys.
func (c MapCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// A HeaderCarrier is a header of several values each, such as NATS's: HeaderCarrier(msg.Header).
type HeaderCarrier http.Header

// Get returns the first value of a key.
func (c HeaderCarrier) Get(key string) string { return http.Header(c).Get(key) }

// Set writes the only value of a key.
func (c HeaderCarrier) Set(key, value string) { http.Header(c).Set(key, value) }

// Keys lists the keys.
func (c HeaderCarrier) Keys() []string {
	var keys []string
	for key, values := range c {
		for range values {
			keys = append(keys, key)
		}
	}
	return keys
}

// A Message is what a token is bound to.
type Message struct {
	// Topic is where the message goes: the subject, the queue, the exchange and routing key. The receiver says which one it
	// reads from, so that a message cannot be moved to another.
	Topic string
	// Body is the payload as it is sent. The token holds a hash of it.
	Body []byte
}

// InjectMessage puts a token for the context's tenant into the header of a message. It is valid for this topic and body, and for
// [PropagatorConfig].MessageTTL. It returns tenancy.ErrNoTenant if the context has no tenant, and the carrier is unchanged then.
func (p *Propagator) InjectMessage(ctx context.Context, to Carrier, m Message) error {
	token, err := p.sign(ctx, forMessage+m.Topic, p.messageTTL, m.hash())
	if err != nil {
		return err
	}
	to.Set(p.header, token)
	return nil
}

// ExtractMessage returns ctx with the tenant of a message. The error is an [ErrUnauthenticated] for a token that is not valid for
// this topic and body, also an [ErrNoTenant] if there is none, and an [ErrMalformed] if there are two or it is no text; or it is that of
// [PropagatorConfig].Once, such as [ErrReplayed].
//
// A queue may deliver a message twice, and so can who has read it: let a second delivery do nothing. With the store of package
// tenanthttp/once, extract in the transaction of what the message does, and it does it once.
func (p *Propagator) ExtractMessage(ctx context.Context, from Carrier, m Message) (context.Context, error) {
	there := 0
	for _, key := range from.Keys() {
		if strings.EqualFold(key, p.header) {
			there++
		}
	}
	token := from.Get(p.header)
	switch {
	case there > 1:
		return nil, malformed("the message has more than one token")
	case there == 0:
		return nil, errNoToken
	case token == "":
		return nil, malformed("the token of the message is no text, or in another spelling of its key")
	}
	v, err := p.verify(token, forMessage+m.Topic, m.hash())
	if err != nil {
		return nil, err
	}
	return p.use(ctx, v)
}

func (m Message) hash() string {
	hash := sha256.Sum256(m.Body)
	return base64.RawURLEncoding.EncodeToString(hash[:])
}
