package rls

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIdent(t *testing.T) {
	for in, want := range map[string]string{
		"tenant_id":      `"tenant_id"`,
		"select":         `"select"`,
		`we"ird`:         `"we""ird"`,
		`"; DROP x; --`:  `"""; DROP x; --"`,
		"name.with.dots": `"name.with.dots"`,
		"größe":          `"größe"`,
	} {
		require.Equal(t, want, ident(in))
	}
	require.Equal(t, `"billing"."invoices"`, ident("billing", "invoices"))
}
