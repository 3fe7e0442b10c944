package rls

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

func TestCommentsStayOnTheirLine(t *testing.T) {
	require.Equal(t, "x  DROP TABLE y", comment("x\r\nDROP TABLE y"))
}

func TestCanonicalType(t *testing.T) {
	for in, want := range map[string]string{
		"text": "text", "VARCHAR(36)": "character varying", "character  varying (36)": "character varying", "UUID": "uuid",
		"int": "integer", "bigserial": "bigint", "int2": "smallint", "char(3)": "char", "smallint": "smallint",
	} {
		require.Equal(t, want, canonicalType(in), in)
	}
}

// The expected names are those that PostgreSQL gave.
func TestSequenceName(t *testing.T) {
	require.Equal(t, "notes_id_seq", sequenceName("notes", "id"))
	require.Equal(t, strings.Repeat("a", 56)+"_id_seq", sequenceName(strings.Repeat("a", 63), "id"))
	require.Equal(t, strings.Repeat("a", 29)+"_"+strings.Repeat("b", 29)+"_seq",
		sequenceName(strings.Repeat("a", 63), strings.Repeat("b", 63)))
	require.Equal(t, strings.Repeat("ä", 28)+"_id_seq", sequenceName(strings.Repeat("ä", 31), "id"))
}
