package plan

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScriptOfAChange(t *testing.T) {
	for name, test := range map[string]struct {
		change Change
		script string
	}{
		"plain":  {Change{SQL: "A"}, "A;\n"},
		"before": {Change{SQL: "A", before: "B"}, "B;\nA;\n"},
		"held": {Change{SQL: "A", held: "EXISTS (B)"}, "-- +goose StatementBegin\nDO $$\nBEGIN\n\tIF NOT EXISTS (B) THEN\n\t\tA;\n\tEND IF;\nEND\n$$;\n" +
			"-- +goose StatementEnd\n"},
		"dated, unforced": {Change{SQL: "A'", held: "B", dated: "C", unforce: []string{"t"}}, "-- +goose StatementBegin\nDO $$\nBEGIN\n\tIF NOT B THEN\n" +
			"\t\tALTER TABLE t NO FORCE ROW LEVEL SECURITY;\n" +
			"\t\tIF current_setting('server_version_num')::int >= 150000 THEN\n\t\t\tEXECUTE 'A''';\n\t\tELSE\n\t\t\tC;\n\t\tEND IF;\n" +
			"\tEND IF;\nEND\n$$;\n-- +goose StatementEnd\n"},
		"dollars": {Change{SQL: `A "$$"`, held: "$tenancy0$"}, "-- +goose StatementBegin\nDO $tenancy1$\nBEGIN\n\tIF NOT $tenancy0$ THEN\n" +
			"\t\tA \"$$\";\n\tEND IF;\nEND\n$tenancy1$;\n-- +goose StatementEnd\n"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.script, test.change.script()) })
	}
}

func TestCommentStaysOnItsLine(t *testing.T) {
	require.Equal(t, "x  DROP TABLE y", comment("x\r\nDROP TABLE y"))
}

// FuzzBlock tests that nothing in a statement ends the block it is in, and that a comment ends with its line.
func FuzzBlock(f *testing.F) {
	for _, sql := range []string{"", "$$", "$tenancy0$", "$$ $tenancy0$ $tenancy1$", "$", "x\n; DROP TABLE y", "\u2028", "\x85"} {
		f.Add(sql, sql)
	}
	f.Fuzz(func(t *testing.T, sql, condition string) {
		script := Change{SQL: sql, held: condition + " "}.script()
		script, found := strings.CutPrefix(script, "-- +goose StatementBegin\nDO ")
		require.True(t, found)
		tag, body, found := strings.Cut(script, "\n")
		require.True(t, found)
		require.Regexp(t, `^\$([a-z]+[0-9]+)?\$$`, tag)
		body, rest, found := strings.Cut(body, tag)
		require.True(t, found)
		require.Equal(t, ";\n-- +goose StatementEnd\n", rest)
		require.Contains(t, body, sql)
		require.Contains(t, body, condition)
		require.NotContains(t, comment(sql), "\n")
		require.NotContains(t, comment(sql), "\r")
	})
}
