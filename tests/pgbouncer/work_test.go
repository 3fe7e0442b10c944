package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// work is something that a client does for a tenant. It returns an error unless all that it saw was as it must be.
type work struct {
	name string
	run  func(db *gorm.DB, tenant string) error
}

// texts is work that can't be done with GORM's PrepareStmt: PostgreSQL prepares one statement at a time.
var texts = work{"several statements in one text", func(db *gorm.DB, _ string) error {
	return db.Exec("UPDATE notes SET text = text WHERE id < 0; DELETE FROM notes WHERE id < 0").Error
}}

var works = []work{
	{"Find", func(db *gorm.DB, tenant string) error {
		var notes []Note
		return either(db.Where("text = ?", seed).Find(&notes).Error, see(tenant, notes, notesEach))
	}},
	{"Rows", func(db *gorm.DB, tenant string) error {
		notes, err := stream(db, notesEach+1)
		return either(err, see(tenant, notes, notesEach))
	}},
	{"Rows, closed early", func(db *gorm.DB, tenant string) error {
		notes, err := stream(db, 3)
		return either(err, see(tenant, notes, 3))
	}},
	{"Create, Update and Delete", writeNote},
	{"SQL text without arguments", func(db *gorm.DB, tenant string) error {
		var all []string
		err := db.Raw("SELECT DISTINCT tenant_id FROM notes").Scan(&all).Error
		return either(err, same(all, []string{tenant}))
	}},
	{"transaction", func(db *gorm.DB, tenant string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			var notes []Note
			err := tx.Where("text = ?", seed).Find(&notes).Error
			if err := either(err, see(tenant, notes, notesEach)); err != nil {
				return err
			}
			return writeNote(tx, tenant)
		})
	}},
	{"rolled-back transaction", func(db *gorm.DB, tenant string) error {
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Where("text = ?", seed).Delete(&Note{}).Error; err != nil {
				return err
			}
			return errOnPurpose
		})
		if !errors.Is(err, errOnPurpose) {
			return fmt.Errorf("rolled back for another reason: %w", err)
		}
		return countSeeds(db, notesEach)
	}},
	{"savepoint after an error", func(db *gorm.DB, tenant string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			inner := tx.Transaction(func(tx *gorm.DB) error { return tx.Exec("SELECT 1/0").Error })
			if !isCode(inner, divisionByZero) {
				return fmt.Errorf("a division by zero gave: %w", inner)
			}
			return errors.Join(countSeeds(tx, notesEach), writeNote(tx, tenant))
		})
	}},
	{"error", func(db *gorm.DB, _ string) error {
		if err := db.Exec("SELECT 1/0").Error; !isCode(err, divisionByZero) {
			return fmt.Errorf("a division by zero gave: %w", err)
		}
		return countSeeds(db, notesEach)
	}},
	{"write for another tenant", func(db *gorm.DB, tenant string) error {
		err := db.Exec("INSERT INTO notes (tenant_id, text) VALUES (?, 'foreign')", tenant+"-other").Error
		if !isCode(err, insufficientPrivilege) {
			return fmt.Errorf("the policy gave: %w", err)
		}
		return nil
	}},
	{"another tenant in a transaction", func(db *gorm.DB, tenant string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := countSeeds(tx, notesEach); err != nil {
				return err
			}
			err := tx.WithContext(as(tenant + "-other")).First(&Note{}).Error
			if !errors.Is(err, tenancy.ErrTenantMismatch) {
				return fmt.Errorf("another tenant gave: %w", err)
			}
			return nil
		})
	}},
	{"bypass", func(db *gorm.DB, tenant string) error {
		admin := tenancy.Bypass(db, "test")
		return errors.Join(countSeeds(admin, tenants*notesEach), countSeeds(db, notesEach))
	}},
	{"bypass in a transaction", func(db *gorm.DB, _ string) error {
		return tenancy.Bypass(db, "test").Transaction(func(tx *gorm.DB) error {
			return countSeeds(tx, tenants*notesEach)
		})
	}},
	{"without a tenant", func(db *gorm.DB, _ string) error {
		return countSeeds(db.WithContext(tenancy.WithoutTenant(context.Background())), 0)
	}},
	{"ForEachTenant", func(db *gorm.DB, _ string) error {
		all := []string{tenant(0), tenant(1), tenant(2)}
		return tenancy.ForEachTenant(context.Background(), db, all, func(ctx context.Context, tx *gorm.DB) error {
			me, _ := tenancy.TenantFromContext(ctx)
			var notes []Note
			err := tx.Where("text = ?", seed).Find(&notes).Error
			return either(err, see(me, notes, notesEach))
		}, tenancy.Concurrency(2))
	}},
	{"settings by hand in a transaction", func(db *gorm.DB, tenant string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			for _, set := range []string{"SET LOCAL app.tenant_id = 'tenant-0'", "SET LOCAL search_path = nowhere, public"} {
				if err := tx.Exec(set).Error; err != nil {
					return err
				}
			}
			var notes []Note
			err := tx.Where("text = ?", seed).Find(&notes).Error
			return either(err, see(tenant, notes, notesEach))
		})
	}},
}

// either returns the statement's error, or else what was wrong with what it saw.
func either(err, seen error) error {
	if err != nil && !errors.Is(seen, errCrossed) {
		return err
	}
	return seen
}

var errOnPurpose = errors.New("on purpose")

const (
	divisionByZero        = "22012"
	insufficientPrivilege = "42501"
)

func isCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

// see returns an error unless there are n notes, all the tenant's. Where a context ends in the middle of a row, GORM adds
// an empty one.
func see(tenant string, notes []Note, n int) error {
	for _, note := range notes {
		if note.TenantID != tenant && note != (Note{}) {
			return fmt.Errorf("%w: a note of %s is shown to %s", errCrossed, note.TenantID, tenant)
		}
	}
	if len(notes) != n {
		return fmt.Errorf("%d notes instead of %d", len(notes), n)
	}
	return nil
}

// errCrossed is what must never be.
var errCrossed = errors.New("a row crossed")

func same(got, want []string) error {
	for _, s := range got {
		if !slices.Contains(want, s) && s != "" {
			return fmt.Errorf("%w: got %v instead of %v", errCrossed, got, want)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("got %v instead of %v", got, want)
	}
	return nil
}

func countSeeds(db *gorm.DB, want int64) error {
	var n int64
	if err := db.Model(&Note{}).Where("text = ?", seed).Count(&n).Error; err != nil {
		return err
	}
	if n > want {
		return fmt.Errorf("%w: %d notes instead of %d", errCrossed, n, want)
	}
	if n < want {
		return fmt.Errorf("%d notes instead of %d", n, want)
	}
	return nil
}

// stream reads the first rows, as many as limit, and closes the rest.
func stream(db *gorm.DB, limit int) (notes []Note, err error) {
	rows, err := db.Model(&Note{}).Where("text = ?", seed).Rows()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for len(notes) < limit && rows.Next() {
		var note Note
		if err := db.ScanRows(rows, &note); err != nil {
			return nil, err
		}
		notes = append(notes, note)
	}
	return notes, rows.Err()
}

// writeNote makes a note, changes it and takes it away.
func writeNote(db *gorm.DB, tenant string) error {
	note := Note{Text: "new"}
	if err := db.Create(&note).Error; err != nil {
		return err
	}
	if err := db.Model(&note).Update("text", "newer").Error; err != nil {
		return err
	}
	found := []Note{}
	if err := db.Where("id = ? AND text = ?", note.ID, "newer").Find(&found).Error; err != nil {
		return err
	}
	if err := see(tenant, found, 1); err != nil {
		return err
	}
	result := db.Delete(&note)
	if result.Error == nil && result.RowsAffected != 1 {
		return fmt.Errorf("%d notes deleted", result.RowsAffected)
	}
	return result.Error
}
