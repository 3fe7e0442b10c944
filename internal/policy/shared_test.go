package policy_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

type (
	base     struct{ ID int64 }
	byValue  struct{ ID int64 }
	plan     struct{ ID int64 }
	embeds   struct{ base }
	embedsP  struct{ *plan }
	both     struct{ base }
	member   struct{ ID int64 }
	writable struct{ ID int64 }
	twice    struct{ ID int64 }
	plain    struct{ ID int64 }
)

func (base) TenantShared()                  {}
func (byValue) TenantShared()               {}
func (*plan) TenantShared()                 {}
func (both) TenantShared()                  {}
func (member) TenantOwnRows()               {}
func (writable) DangerouslyTenantWritable() {}
func (twice) TenantShared()                 {}
func (*twice) DangerouslyTenantWritable()   {}

func TestSharingOfModels(t *testing.T) {
	for _, test := range []struct {
		model   any
		sharing policy.Sharing
		invalid string
	}{
		{&plain{}, policy.NotShared, ""},
		{&byValue{}, policy.SharedRead, ""},
		{&plan{}, policy.SharedRead, ""},
		{&member{}, policy.SharedOwn, ""},
		{&writable{}, policy.SharedWrite, ""},
		{&both{}, policy.SharedRead, ""},
		{&embeds{}, policy.NotShared, "declare it on embeds itself"},
		{&embedsP{}, policy.NotShared, "declare it on embedsP itself"},
		{&twice{}, policy.SharedRead, "TenantShared and DangerouslyTenantWritable"},
	} {
		s, err := schema.Parse(test.model, &sync.Map{}, schema.NamingStrategy{})
		require.NoError(t, err)
		require.Equal(t, test.sharing, policy.SharingOf(s), s.Name)
		if err := policy.ValidateSharing(s); test.invalid == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, test.invalid)
		}
	}
}
