package faults

import (
	"context"
	"testing"

	"gorm.io/gorm"
)

// operation is something an application does. Its writes have the body mark; what it reads are the seeds.
type operation struct {
	name   string
	writes int
	run    func(ctx context.Context, f *fixture, mark string) ([]Note, error)
}

const seedsLike = "body LIKE ?"

var operations = []operation{
	{"Find", 0, func(ctx context.Context, f *fixture, _ string) (notes []Note, err error) {
		err = f.db.WithContext(ctx).Where(seedsLike, "seed%").Find(&notes).Error
		return notes, err
	}},
	{"Create", 1, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		return nil, f.db.WithContext(ctx).Create(&Note{Body: mark}).Error
	}},
	{"Raw", 1, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		var id int64
		return nil, f.db.WithContext(ctx).Raw("INSERT INTO notes (body) VALUES (?) RETURNING id", mark).Scan(&id).Error
	}},
	{"Rows", 0, func(ctx context.Context, f *fixture, _ string) ([]Note, error) {
		rows, err := f.db.WithContext(ctx).Model(&Note{}).Where(seedsLike, "seed%").Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var notes []Note
		for rows.Next() {
			var n Note
			if err := f.db.ScanRows(rows, &n); err != nil {
				return notes, err
			}
			notes = append(notes, n)
		}
		return notes, rows.Err()
	}},
	{"Exec of two statements", 2, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		insert := "INSERT INTO notes (body) VALUES ('" + mark + "')"
		return nil, f.plain(ctx).Exec(insert + "; " + insert).Error
	}},
	{"Stmt", 1, func(ctx context.Context, f *fixture, mark string) ([]Note, error) {
		stmt, err := f.pool.PrepareContext(ctx, "INSERT INTO notes (body) VALUES ($1)")
		if err != nil {
			return nil, err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx, mark)
		return nil, err
	}},
	{"Transaction", 2, func(ctx context.Context, f *fixture, mark string) (notes []Note, err error) {
		return notes, f.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Note{Body: mark}).Error; err != nil {
				return err
			}
			if err := tx.Where(seedsLike, "seed%").Find(&notes).Error; err != nil {
				return err
			}
			return tx.Transaction(func(tx *gorm.DB) error { // a savepoint
				return tx.Exec("INSERT INTO notes (body) VALUES (?)", mark).Error
			})
		})
	}},
}

// plain is a client that does not prepare, which several statements at once can't be.
func (f *fixture) plain(ctx context.Context) *gorm.DB {
	db := f.db.WithContext(ctx)
	if stmts, ok := db.Statement.ConnPool.(*gorm.PreparedStmtDB); ok {
		db.Statement.ConnPool = stmts.ConnPool
	}
	return db
}

// check runs an operation for a tenant, undisturbed.
func (f *fixture) check(t *testing.T, op operation, tenant string) {
	t.Helper()
	mark := f.mark()
	notes, err := op.run(as(tenant), f, mark)
	if err != nil {
		t.Fatalf("%s, undisturbed: %v", op.name, err)
	}
	if notes != nil {
		checkNotes(t, tenant, notes, nil)
	}
	if n := f.applied(t, tenant, mark); n != op.writes {
		t.Fatalf("%s, undisturbed: %d notes written, not %d", op.name, n, op.writes)
	}
}
