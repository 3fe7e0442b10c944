// Package queues tests the way of a tenant through Kafka and AMQP with the types of their clients, into rows of PostgreSQL.
package queues

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/once"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// Order is what a message makes.
type Order struct {
	ID       int64
	TenantID string
	Item     string
}

// consumer works on messages: the row, and that the token was used, are committed together.
type consumer struct {
	*testdb.Database
	db         *gorm.DB
	propagator *tenanthttp.Propagator
}

func newConsumer(t *testing.T) *consumer {
	t.Helper()
	d := testdb.New(t, &Order{}, &once.Token{})
	db := d.Open(t, d.Config())
	return &consumer{Database: d, db: db, propagator: newPropagator(t, "k", once.NewStore(db))}
}

// newPropagator has a key of one letter, 32 times.
func newPropagator(t *testing.T, letter string, store tenanthttp.OnceStore) *tenanthttp.Propagator {
	t.Helper()
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte(strings.Repeat(letter, 32))}, Once: store})
	require.NoError(t, err)
	return propagator
}

// work makes an order of a message, and fails afterwards with the error.
func (c *consumer) work(carrier tenanthttp.Carrier, m tenanthttp.Message, then error) error {
	ctx := context.Background()
	return c.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		ctx, err := c.propagator.ExtractMessage(once.In(ctx, tx), carrier, m)
		if err != nil {
			return err
		}
		if err := tx.WithContext(ctx).Create(&Order{Item: string(m.Body)}).Error; err != nil {
			return err
		}
		return then
	})
}

// orders are those of all tenants.
func (c *consumer) orders(t *testing.T) map[string][]string {
	t.Helper()
	var all []Order
	require.NoError(t, c.AdminDB.Order("id").Find(&all).Error)
	items := map[string][]string{}
	for _, order := range all {
		items[order.TenantID] = append(items[order.TenantID], order.Item)
	}
	return items
}
