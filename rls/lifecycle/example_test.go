package lifecycle_test

import (
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"log"
	"os"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// The rows of a tenant go into a file, and are erased when it is complete.
func ExampleTenants() {
	owner, err := sql.Open("pgx", "postgres://shop_owner@localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	tenants := lifecycle.Tenants{
		DB: owner, Actor: "alice@example.com",
		Skip:     map[string]string{"public.invoices": "kept for ten years, by law"},
		Progress: func(p lifecycle.Progress) { log.Printf("%s %s: %d rows", p.Operation, p.Table, p.Done) },
	}
	file, err := os.OpenFile("acme.tar.gz", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	packed := gzip.NewWriter(file)
	_, err = tenants.Export(context.Background(), "acme", packed)
	if err := errors.Join(err, packed.Close(), file.Sync(), file.Close()); err != nil {
		log.Fatal(err)
	}
	report, err := tenants.Erase(context.Background(), "acme")
	if err != nil {
		log.Fatal(err) // a second call goes on
	}
	log.Printf("%d rows are erased", report.Rows())
}
