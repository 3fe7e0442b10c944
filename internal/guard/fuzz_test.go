package guard

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/internal/sqltext/scan"
)

// hostile are ids that have broken other people's quoting.
var hostile = []string{
	"", "acme", "'", "''", `\`, `\'`, `'\`, `\\''`, `'; RESET ROLE; --`, `$1`, `$$`, `$a$x$a$`, "/*", "*/", "--\n", "\x00", "a\x00b",
	"\xff", "\xc3", "\xed\xa0\x80", "größe", "\u2028", "\ufeff", "E'", "U&'\\0027'", "a\r\nb", " ", "%s", "?", "{}",
}

// FuzzTenant: an id is taken as it is, or every statement under it is refused.
func FuzzTenant(f *testing.F) {
	for _, id := range hostile {
		f.Add(id)
	}
	f.Add(strings.Repeat("x", maxTenantBytes))
	f.Add(strings.Repeat("x", maxTenantBytes+1))
	f.Add(strings.Repeat("'", 1<<20))
	f.Fuzz(func(t *testing.T, id string) {
		ctx := WithTenant(context.Background(), id)
		usable := id != "" && len(id) <= maxTenantBytes && utf8.ValidString(id) && !strings.Contains(id, "\x00")
		got, decided := Tenant(ctx)
		require.Equal(t, usable, decided)
		if usable {
			require.Equal(t, id, got)
			require.NoError(t, CheckTenant(ctx))
			return
		}
		require.Empty(t, got)
		err := CheckTenant(ctx)
		require.ErrorIs(t, err, ErrNoTenant)
		if len(id) > 8 {
			require.NotContains(t, err.Error(), id)
		}
		for _, c := range []*conn{{cfg: &Config{}}, {cfg: &Config{}, tx: &tx{scope: scope{tenant: "acme"}}}} {
			_, err := c.scope(ctx)
			require.ErrorIs(t, err, ErrNoTenant, "in a transaction or not")
		}
	})
}

// FuzzScopeText: nothing in a tenant's id, a setting or a role ends the text that sets them.
func FuzzScopeText(f *testing.F) {
	for _, id := range hostile {
		f.Add(id, "app.tenant_id", "app_admin", false)
		f.Add("acme", "app."+id, id, true)
	}
	f.Fuzz(func(t *testing.T, id, setting, role string, readOnly bool) {
		if strings.ContainsRune(id+setting+role, 0) || setting == "" {
			return // WithTenant and the plugin's Config have refused these
		}
		s := scope{tenant: id}
		if readOnly {
			s.bypass = &Bypass{ReadOnly: true}
		}
		cfg := Config{Setting: setting, Role: role}
		c := &conn{pool: newConnector(cfg, nil, nil), cfg: &cfg, state: &state{}}
		steps := c.controlScope(&call{scope: s}, nil)
		text := textPrefix(steps, sqltext.Literal(id)).text
		for _, conforming := range []bool{true, false} {
			rest, found := strings.CutPrefix(text, "SET LOCAL ")
			require.True(t, found)
			var names []string
			for {
				var name string
				name, rest = scan.Ident(t, rest)
				names = append(names, name)
				if rest, found = strings.CutPrefix(rest, "."); !found {
					break
				}
			}
			require.Equal(t, setting, strings.Join(names, "."))
			rest, found = strings.CutPrefix(rest, " = ")
			require.True(t, found)
			value, rest := scan.Literal(t, rest, conforming)
			require.Equal(t, id, value)
			rest, found = strings.CutPrefix(rest, "; SET LOCAL ROLE ")
			require.True(t, found)
			if role == "" {
				rest, found = strings.CutPrefix(rest, noRole)
				require.True(t, found)
			} else {
				var name string
				name, rest = scan.Ident(t, rest)
				require.Equal(t, role, name)
			}
			require.Equal(t, map[bool]string{false: "; ", true: "; SET LOCAL transaction_read_only = on; "}[readOnly], rest)
		}
		require.Equal(t, map[bool]int{false: 2, true: 3}[readOnly], len(steps))
	})
}
