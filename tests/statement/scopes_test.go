package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// TestScanLosesErrorsOfNewSessions: where a scope makes a new session, Scan returns no error, whatever happened: neither GORM's own
// nor a refusal. Nothing is read either.
func TestScanLosesErrorsOfNewSessions(t *testing.T) {
	newSession := func(db *gorm.DB) *gorm.DB { return db.Session(&gorm.Session{}).Where("no_such_column = 1") }
	var names []string
	plain := newPlain(t)
	require.NoError(t, plain.db.Model(&Author{}).Scopes(newSession).Select("name").Scan(&names).Error)
	require.Error(t, plain.db.Model(&Author{}).Scopes(newSession).Pluck("name", &names).Error)

	guarded := newGuarded(t, "scopes", tenancy.Config{})
	guarded.reset(t)
	undecided := guarded.db.WithContext(t.Context())
	require.NoError(t, undecided.Model(&Author{}).Scopes(newSession).Select("name").Scan(&names).Error)
	require.Empty(t, names)
	require.ErrorIs(t, undecided.Model(&Author{}).Scopes(newSession).Pluck("name", &names).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, undecided.Model(&Author{}).Select("name").Scan(&names).Error, tenancy.ErrNoTenant)
}
