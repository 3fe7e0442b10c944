package plugin_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// failing is a country whose hooks fail, after having ended GORM's transaction, so that its rollback fails as well.
type failing struct {
	ID   int64
	Name string
}

func (failing) TableName() string          { return "countries" }
func (failing) DangerouslyTenantWritable() {}

var errHook = errors.New("the hook failed")

func (*failing) AfterCreate(tx *gorm.DB) error { return failAndEnd(tx) }
func (*failing) AfterUpdate(tx *gorm.DB) error { return failAndEnd(tx) }
func (*failing) AfterDelete(tx *gorm.DB) error { return failAndEnd(tx) }

func failAndEnd(tx *gorm.DB) error {
	return errors.Join(errHook, tx.Statement.ConnPool.(gorm.TxCommitter).Rollback())
}

// TestFirstErrorIsKept: GORM keeps of an error only the text once its rollback fails too.
func TestFirstErrorIsKept(t *testing.T) {
	d := newDatabase(t)
	d.Migrate(t, d.Isolation(), &failing{})
	require.NoError(t, d.OwnerDB.Create(&Country{ID: 7, Name: "Chile"}).Error)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	for name, err := range map[string]error{
		"create": db.Create(&failing{Name: "Peru"}).Error,
		"update": db.Model(&failing{ID: 7}).Update("name", "Peru").Error,
		"delete": db.Delete(&failing{ID: 7}).Error,
	} {
		require.ErrorIs(t, err, errHook, name)
		require.ErrorIs(t, err, sql.ErrTxDone, name)
	}
}
