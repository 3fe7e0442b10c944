package compat

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gen"
	"gorm.io/gen/field"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// What gorm.io/gen generates for Note, as far as the tests use it.
type (
	genQuery struct {
		db   *gorm.DB
		Note genNote
	}

	genNote struct {
		genNoteDo
		ID   field.Int64
		Text field.String
	}

	genNoteDo struct{ gen.DO }
)

func genUse(db *gorm.DB) *genQuery {
	note := genNote{ID: field.NewInt64("notes", "id"), Text: field.NewString("notes", "text")}
	note.UseDB(db)
	note.UseModel(&Note{})
	return &genQuery{db: db, Note: note}
}

func (q *genQuery) Transaction(fc func(tx *genQuery) error, opts ...*sql.TxOptions) error {
	return q.db.Transaction(func(tx *gorm.DB) error {
		note := q.Note
		note.ReplaceConnPool(tx.Statement.ConnPool)
		return fc(&genQuery{db: tx, Note: note})
	}, opts...)
}

func (n genNoteDo) WithContext(ctx context.Context) *genNoteDo { return n.with(n.DO.WithContext(ctx)) }

func (n genNoteDo) Where(conds ...gen.Condition) *genNoteDo { return n.with(n.DO.Where(conds...)) }

func (n genNoteDo) Find() ([]*Note, error) {
	result, err := n.DO.Find()
	notes, _ := result.([]*Note)
	return notes, err
}

func (n genNoteDo) First() (*Note, error) {
	result, err := n.DO.First()
	if err != nil {
		return nil, err
	}
	return result.(*Note), nil
}

func (n *genNoteDo) with(do gen.Dao) *genNoteDo {
	n.DO = *do.(*gen.DO)
	return n
}

// TestGen: what gen generates keeps tenants apart, in a transaction and out of one, with a context and with a bound client.
func TestGen(t *testing.T) { testdb.InBothForms(t, testGen) }

func testGen(t *testing.T) {
	d := newDatabase(t)
	for _, prepare := range []bool{false, true} {
		two := d.newPair(t)
		theirs := d.state(t, two.other)
		db := testdb.OpenPlain(t, d.App.DSN)
		if prepare {
			db = db.Session(&gorm.Session{PrepareStmt: true})
		}
		require.NoError(t, db.Use(tenancy.New(d.Config())))

		inTx := func(ctx context.Context) func(*genQuery) error {
			return func(tx *genQuery) error {
				tx.requireApart(ctx, t, two)
				return nil
			}
		}
		plainly := genUse(db)
		plainly.requireApart(two.ctx(), t, two)
		_, err := plainly.Note.WithContext(t.Context()).Find()
		require.ErrorIs(t, err, tenancy.ErrNoTenant)

		q := genUse(db.WithContext(two.ctx()))
		require.NoError(t, q.Transaction(inTx(t.Context())), "the transaction's tenant")
		require.NoError(t, q.Transaction(inTx(two.ctx())))
		other := tenancy.WithTenant(t.Context(), two.other)
		require.ErrorIs(t, q.Transaction(func(tx *genQuery) error {
			_, err := tx.Note.WithContext(other).Find()
			return err
		}), tenancy.ErrTenantMismatch)
		undone := errors.New("undone")
		require.ErrorIs(t, q.Transaction(func(tx *genQuery) error {
			return errors.Join(tx.Note.Create(&Note{Text: "rolled back"}), undone)
		}), undone)

		bound := genUse(tenancy.DangerouslyBind(two.ctx(), db))
		bound.requireApart(context.Background(), t, two)
		require.NoError(t, bound.Transaction(inTx(context.Background())))
		_, err = bound.Note.WithContext(other).Find()
		require.ErrorIs(t, err, tenancy.ErrTenantMismatch)

		require.Equal(t, theirs, d.state(t, two.other))
	}
}

// requireApart reads and writes notes, and requires that they are those of one tenant. It leaves three.
func (q *genQuery) requireApart(ctx context.Context, t *testing.T, two *pair) {
	t.Helper()
	note := q.Note
	notes, err := note.WithContext(ctx).Find()
	require.NoError(t, err)
	require.Len(t, notes, 3)
	_, err = note.WithContext(ctx).Where(note.ID.Eq(two.theirs[0].ID)).First()
	require.ErrorIs(t, err, gorm.ErrRecordNotFound)
	subquery := note.WithContext(ctx).Where(note.Columns(note.ID).In(note.WithContext(ctx).Select(note.ID)))
	n, err := subquery.Count()
	require.NoError(t, err)
	require.EqualValues(t, 3, n)

	added := Note{Text: "added"}
	require.NoError(t, note.WithContext(ctx).Create(&added))
	require.Equal(t, two.me, added.TenantID)
	require.ErrorIs(t, note.WithContext(ctx).Create(&Note{TenantID: two.other}), tenancy.ErrTenantMismatch)
	info, err := note.WithContext(ctx).Where(note.ID.Gt(0)).Update(note.Text, "changed")
	require.NoError(t, err)
	require.EqualValues(t, 4, info.RowsAffected)
	info, err = note.WithContext(ctx).Where(note.Text.Eq("changed"), note.ID.Eq(added.ID)).Delete()
	require.NoError(t, err)
	require.EqualValues(t, 1, info.RowsAffected)
	info, err = note.WithContext(ctx).Where(note.ID.Eq(two.theirs[0].ID)).Delete()
	require.NoError(t, err)
	require.Zero(t, info.RowsAffected)
}
