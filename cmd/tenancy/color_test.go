package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/check"
)

var sample = outcome{Report: check.Report{
	Role: "app", Tables: 2,
	Findings: []check.Finding{
		{Code: check.TableNotEnabled, Severity: check.Critical, Object: "public.a\x1b[2J\nb", Problem: "Bad.", Fix: "ALTER 1;\nALTER 2;"},
		{Code: check.TenantColumnDefault, Severity: check.Low, Object: "public.c", Problem: "Untidy."},
	},
	Allowed:    []check.Allowed{{Finding: check.Finding{Code: check.TenantColumnNullable, Object: "public.d"}, Reason: "for a time"}},
	NotChecked: []string{"Something."},
}}

func TestColoursOnATerminalOnly(t *testing.T) {
	terminal, err := os.Open(os.DevNull) // a character device, as terminals are
	require.NoError(t, err)
	t.Cleanup(func() { _ = terminal.Close() })
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	for _, c := range []struct {
		out      io.Writer
		env      map[string]string
		coloured bool
	}{
		{terminal, nil, true},
		{terminal, map[string]string{"NO_COLOR": "1"}, false},
		{terminal, map[string]string{"TERM": "dumb"}, false},
		{file, nil, false},
		{&strings.Builder{}, nil, false},
	} {
		p := paletteFor(streams{out: c.out, env: func(name string) string { return c.env[name] }})
		text, err := asText(sample, p)
		require.NoError(t, err)
		require.Equal(t, c.coloured, strings.Contains(text, "\x1b["))
		require.NotContains(t, text, "\x1b[2J", "a name is no command")
	}
}

func TestText(t *testing.T) {
	text, err := asText(sample, palette{})
	require.NoError(t, err)
	require.Equal(t, strings.TrimLeft(`
CRITICAL (1)
  table-not-enabled: public.a`+"\uFFFD"+`[2J b
    Bad.
    https://github.com/gormtenancy/tenancy/blob/main/docs/findings.md#table-not-enabled
      ALTER 1;
      ALTER 2;

LOW (1)
  tenant-column-default: public.c
    Untidy.
    https://github.com/gormtenancy/tenancy/blob/main/docs/findings.md#tenant-column-default

ALLOWED (1)
  tenant-column-nullable: public.d: for a time

NOT CHECKED
  Something.

2 findings in 2 tenant tables, for the role app.
"tenancy sql" with the same options prints these statements as one script, in the right order.
`, "\n"), text)

	text, err = asText(outcome{Report: check.Report{Role: "app", Tables: 1}}, palette{})
	require.NoError(t, err)
	require.Equal(t, "No findings in 1 tenant table, for the role app.\n", text)
}
