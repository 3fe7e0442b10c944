package docs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLaterMigrationsRun grants the roles as docs/migrations.md says, and runs its functions and its SQL one after another: each gives
// the rows of all tenants a currency, whatever the one before has left.
func TestLaterMigrationsRun(t *testing.T) {
	script, _ := readPage(t, "README.md").program(t)
	s := newShop(t)
	s.execute(t, script)
	var version int
	require.NoError(t, s.superuser.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version))

	var grants, functions []string
	var lines string
	for _, part := range readPage(t, "docs/migrations.md").snippets() {
		switch {
		case strings.Contains(part.code, "GRANT"):
			grants = append(grants, part.code)
		case strings.Contains(part.code, "SET LOCAL ROLE"):
			lines = part.code
		case part.language == "go":
			functions = append(functions, part.code)
		}
	}
	require.Len(t, grants, 2, "for PostgreSQL 16, and before")
	if version >= 160000 {
		s.execute(t, grants[0])
	} else {
		s.execute(t, grants[1])
	}

	program := fmt.Sprintf(laterMigrations, "`"+lines+"`", strings.Join(functions, "\n"))
	s.run(t, program, "UPDATE 0", "setCurrency: 2", "setCurrencySQL: 2", "the two lines: 2", "migrate: 2", "migrateAll: 2", "cents: 1000", "refresh: 2")
}

const laterMigrations = `package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gormtenancy/tenancy/rls"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx := context.Background()
	var err error
	owner, err = gorm.Open(postgres.Open("postgres://shop_owner:change-me@localhost:5432/shop"), &gorm.Config{Logger: logger.Discard})
	check(err)
	_, err = iso.Migrate(ctx, owner, &Invoice{})
	check(err)
	each := func(statement string) error {
		return iso.DataMigration(ctx, owner, func(tx *gorm.DB) error { return tx.Exec(statement).Error })
	}
	check(each("INSERT INTO invoices (tenant_id) VALUES ('acme'), ('globex')"))
	fmt.Println("UPDATE", owner.Exec("UPDATE invoices SET currency = 'EUR'").RowsAffected)
	pool, err := owner.DB()
	check(err)
	lines := %s
	for _, way := range []struct {
		name string
		run  func() error
	}{
		{"setCurrency", func() error { return setCurrency(ctx, owner) }},
		{"setCurrencySQL", func() error { return setCurrencySQL(ctx, pool) }},
		{"the two lines", func() error { _, err := pool.Exec(lines); return err }},
		{"migrateAll", func() error { return migrateAll(ctx, owner) }},
		{"migrate", func() error { return migrate(owner) }},
	} {
		check(each("UPDATE invoices SET currency = NULL"))
		check(way.run())
		var n int64
		check(iso.DataMigration(ctx, owner, func(tx *gorm.DB) error {
			return tx.Raw("SELECT count(*) FROM invoices WHERE currency = 'EUR'").Scan(&n).Error
		}))
		fmt.Printf("%%s: %%d\n", way.name, n)
	}
	check(each("UPDATE invoices SET total = 5"))
	check(cents(ctx, owner))
	check(cents(ctx, owner))
	var total int64
	check(iso.DataMigration(ctx, owner, func(tx *gorm.DB) error { return tx.Raw("SELECT sum(total) FROM invoices").Scan(&total).Error }))
	fmt.Println("cents:", total)
	check(owner.Exec("CREATE MATERIALIZED VIEW totals AS SELECT tenant_id FROM invoices").Error)
	check(refresh(ctx, owner))
	var n int64
	check(owner.Raw("SELECT count(*) FROM totals").Scan(&n).Error)
	fmt.Println("refresh:", n)
	_ = sql.ErrNoRows
}

%s
`
