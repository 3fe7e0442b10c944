package main

import (
	"context"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/cmd/tenancy/internal/callsites/testdata/shop/store"
	"github.com/gormtenancy/tenancy/rls"
)

func main() {
	db, err := gorm.Open(postgres.Open("host=localhost"))
	if err != nil {
		panic(err)
	}
	prepare(db)
	s := store.New(db)
	_ = s.Good(context.Background())
	_ = store.Embedding{DB: db}.All()
	_ = adopted(context.Background(), db)
}

func prepare(db *gorm.DB) {
	_ = db.AutoMigrate(&store.User{}) // want no-context-at-hand start-up
}

var names = map[string]string{}

// adopted does what the pages advise, so there is nothing to find.
func adopted(ctx context.Context, db *gorm.DB) error {
	err := rls.Isolation{}.DataMigration(ctx, db, func(tx *gorm.DB) error { return tx.Exec("UPDATE users SET name = ''").Error })
	if err != nil {
		return err
	}
	return tenancy.ForEachTenant(ctx, db, []string{"acme"}, func(ctx context.Context, tx *gorm.DB) error {
		key, err := tenancy.Key(ctx, "names")
		if err != nil {
			return err
		}
		if err := tx.Find(&[]store.User{}).Error; err != nil {
			return err
		}
		names[key] = "all"
		return nil
	})
}
