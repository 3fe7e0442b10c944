package app

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// SQLSTATEs of refusals.
const (
	foreignKeyViolation   = "23503"
	insufficientPrivilege = "42501"
)

// shop fills in what a tenant has.
func shop(t *testing.T, db *gorm.DB) (o Order) {
	t.Helper()
	product := Product{SKU: "nail", Category: &Category{Name: "iron"}}
	require.NoError(t, db.Create(&product).Error)
	o = Order{
		Reference: "1",
		Customer:  &Customer{Number: "1", Name: "Ann", Addresses: []Address{{City: "Bergen"}}},
		PlacedBy:  &Person{Email: "bob@example.com", Teams: []Team{{Name: "sales"}}},
		Lines:     []OrderLine{{Number: 1, ProductSKU: "nail", Quantity: 100}},
		Invoice:   &Invoice{Number: 1},
		Notes:     []Note{{Text: "soon"}},
		Tags:      []Tag{{Label: "urgent"}},
	}
	require.NoError(t, db.Create(&o).Error)
	return o
}

// everything is all rows of the tables that are attacked, with their tenants.
const everything = `
	SELECT concat_ws(' ', 'order', o.*) FROM orders o
	UNION ALL SELECT concat_ws(' ', 'customer', c.*) FROM customers c
	UNION ALL SELECT concat_ws(' ', 'line', l.*) FROM order_lines l
	UNION ALL SELECT concat_ws(' ', 'person', p.*) FROM people p
	UNION ALL SELECT concat_ws(' ', 'category', c.*) FROM categories c
	UNION ALL SELECT concat_ws(' ', 'product', p.*) FROM products p
	UNION ALL SELECT concat_ws(' ', 'membership', m.*) FROM memberships m
	UNION ALL SELECT concat_ws(' ', 'invoice', i.*) FROM invoices i
	UNION ALL SELECT concat_ws(' ', 'payment', p.*) FROM payments p
	UNION ALL SELECT concat_ws(' ', 'tag', t.*) FROM order_tags t
	ORDER BY 1`

// attacks are by their names.
type attacks map[string]func(db *gorm.DB) error

// attacksByReference refer to what another tenant has. Foreign keys refuse them.
func attacksByReference(t *testing.T, d database, theirs, mine Order) attacks {
	t.Helper()
	person, tag := *mine.PlacedByID, mine.Tags[0] // attacks change the order in memory
	return attacks{
		"an order that embeds a customer by id": func(db *gorm.DB) error {
			return db.Create(&Order{Reference: "x", Customer: &Customer{Model: gorm.Model{ID: *theirs.CustomerID}}}).Error
		},
		"an order of a customer's id": func(db *gorm.DB) error {
			return db.Omit(clause.Associations).Create(&Order{Reference: "x", CustomerID: theirs.CustomerID}).Error
		},
		"the customer of an order changed": func(db *gorm.DB) error {
			return db.Model(&Order{ID: mine.ID}).Update("customer_id", theirs.CustomerID).Error
		},
		"the same by raw SQL": func(db *gorm.DB) error {
			return db.Exec("UPDATE orders SET customer_id = ?", theirs.CustomerID).Error
		},
		"an association replaced": func(db *gorm.DB) error {
			return db.Model(&Order{ID: mine.ID}).Association("PlacedBy").Replace(&Person{ID: *theirs.PlacedByID, Email: "x"})
		},
		"a line of an order": func(db *gorm.DB) error {
			return db.Create(&OrderLine{OrderID: theirs.ID, Number: 2, ProductSKU: "nail", Quantity: 1}).Error
		},
		"lines appended to an order": func(db *gorm.DB) error {
			return db.Model(&Order{ID: theirs.ID}).Association("Lines").Append(&OrderLine{Number: 3, ProductSKU: "nail", Quantity: 1})
		},
		"a manager": func(db *gorm.DB) error {
			return db.Create(&Person{Email: "x", ManagerID: theirs.PlacedByID}).Error
		},
		"a category above": func(db *gorm.DB) error {
			var id int64
			require.NoError(t, d.admin.Raw("SELECT id FROM categories WHERE tenant_id = 'acme'").Scan(&id).Error)
			return db.Create(&Category{Name: "x", ParentID: &id}).Error
		},
		"a tag in a join table": func(db *gorm.DB) error {
			return db.Model(&Order{ID: mine.ID}).Association("Tags").Append(&Tag{ID: theirs.Tags[0].ID, Label: "x"})
		},
		"an order in a join table": func(db *gorm.DB) error {
			return db.Model(&Order{ID: theirs.ID}).Omit("Tags.*").Association("Tags").Append(&tag)
		},
		"a team in a join model": func(db *gorm.DB) error {
			return db.Create(&Membership{PersonID: person, TeamID: theirs.PlacedBy.Teams[0].ID}).Error
		},
		"an invoice of a uuid": func(db *gorm.DB) error {
			return db.Create(&Payment{InvoiceID: theirs.Invoice.ID, InvoiceNumber: 1}).Error
		},
	}
}

// attacksOntoKeys write rows whose keys another tenant has. Policies refuse them.
func attacksOntoKeys(theirs Order) attacks {
	return attacks{
		"an upsert onto a key": func(db *gorm.DB) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Customer{Model: gorm.Model{ID: *theirs.CustomerID}, Name: "stolen"}).Error
		},
		"a save onto a key": func(db *gorm.DB) error {
			return db.Save(&Customer{Model: gorm.Model{ID: *theirs.CustomerID}, Name: "stolen"}).Error
		},
	}
}

// Each attack is globex's on what acme has. It fails and leaves no trace.
func TestAttacks(t *testing.T) {
	d := newDatabase(t)
	theirs, mine := shop(t, d.as("acme")), shop(t, d.as("globex"))
	require.Equal(t, []string{"acme 1", "globex 1"}, d.rows(t, "SELECT concat_ws(' ', tenant_id, reference) FROM orders ORDER BY 1"),
		"both have a reference 1")

	for code, all := range map[string]attacks{
		foreignKeyViolation:   attacksByReference(t, d, theirs, mine),
		insufficientPrivilege: attacksOntoKeys(theirs),
	} {
		for name, attack := range all {
			t.Run(name, func(t *testing.T) {
				before := d.rows(t, everything)
				err := d.as("globex").Transaction(attack)
				var pg interface{ SQLState() string }
				require.ErrorAs(t, err, &pg)
				require.Equal(t, code, pg.SQLState(), err)
				require.Equal(t, before, d.rows(t, everything))
			})
		}
	}
}

// What GORM makes single-column foreign keys of, a cascade follows to other tenants. Here it finds nothing to follow.
func TestCascadesStayWithinTheTenant(t *testing.T) {
	d := newDatabase(t)
	theirs, mine := shop(t, d.as("acme")), shop(t, d.as("globex"))
	acme := "SELECT concat_ws(' ', id, customer_id) FROM orders WHERE tenant_id = 'acme'"
	before := d.rows(t, acme)
	require.Len(t, before, 1)

	err := d.admin.Exec("UPDATE orders SET customer_id = ? WHERE id = ?", mine.CustomerID, theirs.ID).Error
	require.ErrorContains(t, err, "SQLSTATE 23503", "not even the admin can mix them")

	db := d.as("globex")
	require.NoError(t, db.Where("TRUE").Delete(&Invoice{}).Error)
	require.NoError(t, db.Exec("DELETE FROM order_tags").Error)
	require.NoError(t, db.Unscoped().Select("Orders").Delete(&Customer{Model: gorm.Model{ID: *mine.CustomerID}}).Error)
	require.Empty(t, d.rows(t, "SELECT id FROM order_lines l JOIN orders o ON o.id = l.order_id WHERE o.tenant_id = 'globex'"))
	require.Equal(t, before, d.rows(t, acme))
	require.Len(t, d.rows(t, "SELECT number FROM order_lines WHERE tenant_id = 'acme'"), 1)
}

// With the foreign key that GORM makes, the first attack succeeds, and a cascade follows it. Without this the tests above would
// prove nothing.
func TestAttackOnGORMsForeignKey(t *testing.T) {
	d := newDatabase(t)
	theirs := shop(t, d.as("acme"))
	require.NoError(t, d.owner.Exec(`ALTER TABLE orders DROP CONSTRAINT fk_customers_orders,
		ADD CONSTRAINT fk_customers_orders FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE`).Error)
	attack := Order{Reference: "x", Customer: &Customer{Model: gorm.Model{ID: *theirs.CustomerID}}}
	require.NoError(t, d.as("globex").Create(&attack).Error)
	require.Len(t, d.rows(t, "SELECT id FROM orders WHERE tenant_id = 'globex'"), 1)

	require.NoError(t, d.admin.Exec("DELETE FROM invoices; DELETE FROM order_tags; DELETE FROM customer_tags").Error)
	require.NoError(t, d.as("acme").Unscoped().Delete(&Customer{}, *theirs.CustomerID).Error)
	require.Empty(t, d.rows(t, "SELECT id FROM orders WHERE tenant_id = 'globex'"), "a delete of acme's took globex's order")
}
