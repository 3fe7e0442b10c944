package tenancy

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzConfig: a Config whose names PostgreSQL would understand as something else is refused.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{
		"", "app.tenant_id", "a.b.c", "tenant_id", "app.", ".app", "app..x", "app.1", "app.x y", `app."x"`, "app.x;--", "app.ä", "app.x\n",
		"app.x\x00", "\xff.x", "App.Tenant$", strings.Repeat("a", 60) + ".xy", strings.Repeat("a", 61) + ".xy", "none", "NONE", "None ",
		`a"b`, strings.Repeat("ä", 31), strings.Repeat("ä", 32), "pg_read_all_data", "app'x", `app\x`, "app.$1", strings.Repeat("x.", 1<<19),
	} {
		f.Add(name, "tenant_id", "app_admin")
		f.Add("app.tenant_id", name, name)
	}
	f.Fuzz(func(t *testing.T, setting, column, role string) {
		cfg := Config{Setting: setting, Column: column, AdminRole: role}.withDefaults()
		err := cfg.validate()
		parts := strings.Split(cfg.Setting, ".")
		fine := len(cfg.Setting) <= 63 && len(parts) > 1 && isName(cfg.Column) &&
			(role == "" || isName(role) && !strings.EqualFold(role, "none"))
		for _, part := range parts {
			fine = fine && isWord(part)
		}
		if !fine {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, `"`+strings.ReplaceAll(role, `"`, `""`)+`"`, quote(role))
	})
}

func isName(s string) bool {
	return s != "" && len(s) <= 63 && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// isWord is what PostgreSQL takes as a part of a custom setting's name, less letters outside ASCII.
func isWord(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '$' || '0' <= c && c <= '9'):
		default:
			return false
		}
	}
	return s != ""
}
