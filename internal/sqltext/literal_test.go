package sqltext_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/internal/sqltext/scan"
)

func FuzzLiteral(f *testing.F) {
	for _, value := range []string{"", "app.tenant_id", "o'reilly", `back\slash`, `\'`, `'\`, `\\''`, "E'", "\xff'", "größe"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, conforming := range []bool{true, false} {
			scanned, rest := scan.Literal(t, sqltext.Literal(value), conforming)
			require.Equal(t, value, scanned)
			require.Empty(t, rest)
		}
	})
}

func TestLiteral(t *testing.T) {
	for in, want := range map[string]string{
		"":              `''`,
		"app.tenant_id": `'app.tenant_id'`,
		"o'reilly":      `'o''reilly'`,
		`back\slash`:    `E'back\\slash'`,
		`\'`:            `E'\\'''`,
	} {
		require.Equal(t, want, sqltext.Literal(in))
	}
}
