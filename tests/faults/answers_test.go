package faults

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// rowsOf returns the DataRow messages of the server's answer to a statement.
func (f *fixture) rowsOf(t *testing.T, tenant string, do func(db *gorm.DB) error) (rows []string) {
	t.Helper()
	f.injector.always(func(from wire.Side, _ int, message []byte) wire.Fate {
		if from == wire.Server && message[0] == 'D' {
			rows = append(rows, string(message))
		}
		return wire.Fate{}
	})
	require.NoError(t, do(f.db.WithContext(as(tenant))))
	f.injector.disarm()
	return rows
}

// TestAnswerToOtherTenantIsRefused: a pooler whose client has left while the server was answering may give the answer to the next
// client. Where it is one to the same statement of another tenant, nothing but the tenant's id tells.
func TestAnswerToOtherTenantIsRefused(t *testing.T) {
	for _, w := range []way{{}, {prepare: true}, {simple: true}} {
		t.Run(w.String(), func(t *testing.T) {
			f := newFixture(t, w)
			var notes []Note
			for name, do := range map[string]func(db *gorm.DB) error{
				"Find": func(db *gorm.DB) error { return db.Find(&notes).Error },
				"raw":  func(db *gorm.DB) error { return db.Raw("SELECT * FROM notes").Scan(&notes).Error },
				"in a transaction": func(db *gorm.DB) error {
					return db.Transaction(func(tx *gorm.DB) error { return tx.Find(&notes).Error })
				},
				"behind a savepoint": func(db *gorm.DB) error {
					return db.Transaction(func(tx *gorm.DB) error {
						if err := tx.SavePoint("here").Error; err != nil {
							return err
						}
						return tx.Find(&notes).Error
					})
				},
			} {
				t.Run(name, func(t *testing.T) {
					require.NoError(t, do(f.db.WithContext(as(globex))), "warm")
					f.rowsOf(t, acme, do)
					others := f.rowsOf(t, acme, do)
					require.GreaterOrEqual(t, len(others), 1+seeds)

					f.injector.always(func(from wire.Side, _ int, message []byte) wire.Fate {
						if from != wire.Server || message[0] != 'D' || len(others) == 0 {
							return wire.Fate{}
						}
						next := others[0]
						others = others[1:]
						return wire.Replace(next)
					})
					notes = nil
					err := do(f.db.WithContext(as(globex)))
					f.injector.disarm()
					require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
					require.ErrorContains(t, err, "mixes up its clients")
					require.Empty(t, notes)

					require.NoError(t, do(f.db.WithContext(as(globex))), "on another connection")
					require.False(t, slices.ContainsFunc(notes, func(n Note) bool { return n.TenantID != globex }))
					require.Len(t, notes, seeds)
				})
			}
		})
	}
}
