package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// tooLong is when a piece of work counts as stuck.
const tooLong = 30 * time.Second

// work does one thing after another, each for a tenant of its own, until the context ends.
func (f *fixture) work(ctx context.Context, c *client, r *report) {
	for ctx.Err() == nil {
		me := tenant(rand.IntN(tenants))
		ctx, cancel := f.patience(tenancy.WithTenant(context.WithoutCancel(ctx), me))
		begun := time.Now()
		err := choose()(c.db.WithContext(ctx), me)
		cancel()
		r.done(err, time.Since(begun))
	}
}

// patience ends some contexts at any time, and others when something is stuck.
func (f *fixture) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if rand.IntN(20) == 0 {
		return context.WithTimeout(ctx, rand.N(10*time.Millisecond))
	}
	return context.WithTimeout(ctx, tooLong)
}

var (
	// errRows is what must never be.
	errRows = errors.New("wrong rows")
	// errOnPurpose ends transactions.
	errOnPurpose = errors.New("on purpose")
)

// see returns an error if a note is not the tenant's. Where a context ends in the middle of a row, GORM adds an empty one.
func see(tenant string, notes []Note) error {
	for _, n := range notes {
		if n.TenantID != tenant && n != (Note{}) {
			return fmt.Errorf("%w: a note of %s is shown to %s", errRows, n.TenantID, tenant)
		}
	}
	return nil
}

// number returns an error if there are not n, unless an error explains it.
func number(err error, got, want int64) error {
	if err == nil && got != want {
		return fmt.Errorf("%w: %d instead of %d", errRows, got, want)
	}
	return err
}

// work is one thing to do for a tenant, and how often in comparison with others.
type work struct {
	often int
	run   func(db *gorm.DB, tenant string) error
}

// choose picks one at random.
func choose() func(db *gorm.DB, tenant string) error {
	n := 0
	for _, w := range works {
		n += w.often
	}
	n = rand.IntN(n)
	for _, w := range works {
		if n -= w.often; n < 0 {
			return w.run
		}
	}
	return nil
}

var works = []work{
	// read, by SQL of many lengths: more statements than connections keep prepared
	{60, func(db *gorm.DB, tenant string) error {
		ids := make([]any, 1+rand.IntN(3*capacity))
		for i := range ids {
			ids[i] = rand.IntN(tenants * notesEach)
		}
		var notes []Note
		err := db.Where("id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", ids...).Find(&notes).Error
		return errors.Join(see(tenant, notes), err)
	}},
	// read all
	{10, func(db *gorm.DB, tenant string) error {
		var notes []Note
		err := db.Where("text = ?", seed).Find(&notes).Error
		return errors.Join(see(tenant, notes), number(err, int64(len(notes)), notesEach))
	}},
	// write, change, and take away what is old
	{10, func(db *gorm.DB, tenant string) error {
		n := Note{Text: "new"}
		if err := db.Create(&n).Error; err != nil {
			return err
		}
		if err := see(tenant, []Note{n}); err != nil {
			return err
		}
		if err := db.Model(&n).Update("text", "newer").Error; err != nil {
			return err
		}
		return db.Where("text <> ? AND id < ?", seed, n.ID-1000).Delete(&Note{}).Error
	}},
	// leave rows unread
	{10, func(db *gorm.DB, tenant string) error {
		rows, err := db.Model(&Note{}).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		for range rand.IntN(notesEach) {
			var n Note
			if !rows.Next() {
				break
			}
			if err := db.ScanRows(rows, &n); err != nil {
				return err
			}
			if err := see(tenant, []Note{n}); err != nil {
				return err
			}
		}
		return rows.Err()
	}},
	// move money between two accounts, in one transaction, or not at all
	{10, func(db *gorm.DB, _ string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			var accounts []Account
			if err := tx.Order("id").Find(&accounts).Error; err != nil {
				return err
			}
			if err := number(nil, int64(len(accounts)), accountsEach); err != nil {
				return err
			}
			from := rand.IntN(accountsEach)
			to := (from + 1 + rand.IntN(accountsEach-1)) % accountsEach
			for at, amount := range map[int]int{from: -1, to: 1} { // in any order, so that some meet in a deadlock
				err := tx.Model(&accounts[at]).Update("balance", gorm.Expr("balance + ?", amount)).Error
				if err != nil {
					return err
				}
			}
			if rand.IntN(4) == 0 {
				return errOnPurpose
			}
			return nil
		})
	}},
	// add the balances up
	{10, func(db *gorm.DB, _ string) error {
		var sum int64
		err := db.Model(&Account{}).Select("coalesce(sum(balance), 0)").Scan(&sum).Error
		return number(err, sum, 0)
	}},
	// fail in a transaction, go back, go on
	{10, func(db *gorm.DB, tenant string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Transaction(func(tx *gorm.DB) error { return tx.Exec("SELECT 1/0").Error }); !isCode(err, "22012") {
				return err
			}
			var notes []Note
			err := tx.Limit(5).Find(&notes).Error
			return errors.Join(see(tenant, notes), err)
		})
	}},
	// write for another tenant
	{10, func(db *gorm.DB, tenant string) error {
		err := db.Exec("INSERT INTO notes (tenant_id, text) VALUES (?, 'foreign')", tenant+"0").Error
		if err == nil {
			return fmt.Errorf("%w: %s wrote for another tenant", errRows, tenant)
		}
		return err
	}},
	// everything, for good reason
	{10, func(db *gorm.DB, _ string) error {
		var n int64
		err := tenancy.Bypass(db, "soak").Model(&Note{}).Where("text = ?", seed).Count(&n).Error
		return number(err, n, tenants*notesEach)
	}},
	// nobody
	{10, func(db *gorm.DB, _ string) error {
		var n int64
		err := db.WithContext(tenancy.WithoutTenant(db.Statement.Context)).Model(&Note{}).Count(&n).Error
		return number(err, n, 0)
	}},
	// several tenants
	{10, func(db *gorm.DB, _ string) error {
		some := []string{tenant(rand.IntN(tenants)), tenant(rand.IntN(tenants))}
		return tenancy.ForEachTenant(db.Statement.Context, db, some, func(ctx context.Context, tx *gorm.DB) error {
			me, _ := tenancy.TenantFromContext(ctx)
			var notes []Note
			err := tx.Limit(5).Find(&notes).Error
			return errors.Join(see(me, notes), err)
		})
	}},
	// leave settings behind on the connection
	{2, func(db *gorm.DB, _ string) error {
		return db.Exec("SET app.tenant_id = '" + tenant(rand.IntN(tenants)) + "'").Error
	}},
	// leave a transaction behind on the connection
	{1, func(db *gorm.DB, _ string) error { return db.Exec("BEGIN").Error }},
	// forget what is prepared
	{1, func(db *gorm.DB, _ string) error { return db.Exec("DEALLOCATE ALL").Error }},
	// work that takes the server a while
	{10, func(db *gorm.DB, _ string) error { return db.Exec("SELECT pg_sleep(0.01)").Error }},
}
