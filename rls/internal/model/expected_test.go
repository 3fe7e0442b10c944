package model

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

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

func FuzzSequenceName(f *testing.F) {
	for _, table := range []string{"", "orders", strings.Repeat("ä", 40), strings.Repeat("a", 63), "\xff", strings.Repeat("\xc3", 90)} {
		f.Add(table, "id")
	}
	f.Fuzz(func(t *testing.T, table, column string) {
		name := sequenceName(table, column)
		require.LessOrEqual(t, len(name), sqltext.MaxIdentifier)
		if utf8.ValidString(table) && utf8.ValidString(column) {
			require.True(t, utf8.ValidString(name))
		}
	})
}
