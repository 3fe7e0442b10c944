package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

func TestCheckCleanDatabase(t *testing.T) {
	d := cleanDatabase(t)
	for name, dsn := range map[string]string{"application": d.app, "owner": d.Owner.DSN, "admin": d.Admin.DSN, "superuser": d.super} {
		t.Run(name, func(t *testing.T) {
			report, err := d.isolation().Check(t.Context(), open(t, dsn, &gorm.Config{}), d.allowances()...)
			require.NoError(t, err)
			require.Empty(t, found(report))
			require.True(t, report.OK())
			require.NoError(t, report.Err())
			require.Empty(t, report.SQL())
			require.Empty(t, report.NotChecked)
			require.Equal(t, d.role, report.Role)
			require.Equal(t, 17, report.Tables)
			require.Len(t, report.Allowed, 1)
		})
	}
}
