package main

import (
	"context"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/cmd/tenancy/internal/callsites/testdata/shop/store"
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
}

func prepare(db *gorm.DB) {
	_ = db.AutoMigrate(&store.User{}) // want no-context-at-hand start-up
}
