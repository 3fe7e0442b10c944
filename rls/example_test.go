package rls_test

import (
	"context"
	"log"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/rls"
)

// Invoices get a currency, those of all tenants.
func ExampleIsolation_DataMigration() {
	owner, err := gorm.Open(postgres.Open("postgres://shop_owner@localhost/shop"))
	if err != nil {
		log.Fatal(err)
	}
	iso := rls.Isolation{AppRole: "shop_app", AdminRole: "shop_admin"}
	err = iso.DataMigration(context.Background(), owner, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE invoices SET currency = 'EUR' WHERE currency IS NULL").Error
	})
	if err != nil {
		log.Fatal(err) // also if rows were hidden from it
	}
}

// Totals become cents, in transactions of 1,000 rows.
func ExampleIsolation_DataMigrationInBatches() {
	owner, err := gorm.Open(postgres.Open("postgres://shop_owner@localhost/shop"))
	if err != nil {
		log.Fatal(err)
	}
	iso := rls.Isolation{
		AppRole: "shop_app", AdminRole: "shop_admin",
		Progress: func(p rls.Progress) { log.Printf("%s: %d of about %d rows", p.Description, p.Done, p.Total) },
	}
	b := rls.Batches{Name: "cents", Table: "invoices"}
	err = iso.DataMigrationInBatches(context.Background(), owner, b, func(tx *gorm.DB, rows clause.Expression) error {
		return tx.Exec("UPDATE invoices SET total = total * 100 WHERE ?", rows).Error
	})
	if err != nil {
		log.Fatal(err) // the next run goes on with the batch that failed
	}
}
