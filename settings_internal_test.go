package tenancy

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// ALTER ROLE ALL would reach all databases of a server that others may use.
func TestSettingOfAllRolesIsUndone(t *testing.T) {
	forAll := setting{Name: "row_security", Wrong: true}
	require.Equal(t, "ALTER ROLE ALL RESET row_security", resetSQL([]setting{forAll}, "row_security", "app", "shop"))
	require.Empty(t, resetSQL([]setting{{Name: "row_security", Database: true}, forAll}, "row_security", "app", "shop"),
		"the database's wins")
}
