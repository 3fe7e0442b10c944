package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// measured runs a part of the benchmark that has a section of its own, and returns what its page has then.
func measured(t *testing.T, name string) (dir, section string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, write(madeUp(), dir))
	before, err := os.ReadFile(filepath.Join(dir, "benchmark.md"))
	require.NoError(t, err)
	s, err := readFlags([]string{"-quick", "-only", name, "-samples", "2", "-out", dir})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), s))
	page, err := os.ReadFile(filepath.Join(dir, "benchmark.md"))
	require.NoError(t, err)
	head, section, tail, found := cutSection(string(page), name)
	require.True(t, found)
	require.Equal(t, string(before), head+tail, "all else stays")
	require.Contains(t, section, "quick run")
	require.NotContains(t, section, "%!")
	require.NotContains(t, section, "NaN")

	require.NoError(t, write(madeUp(), dir))
	again, err := os.ReadFile(filepath.Join(dir, "benchmark.md"))
	require.NoError(t, err)
	require.Equal(t, string(page), string(again), "another run leaves it")
	return dir, section
}

// TestCommandMeasuresPartitions, and asserts no time.
func TestCommandMeasuresPartitions(t *testing.T) {
	dir, section := measured(t, "partitions")
	require.Contains(t, section, "40,000 rows of 1,000 tenants")
	require.Contains(t, section, "in 8 partitions")
	for _, statement := range firstStatements {
		for _, v := range skewVariants {
			require.Contains(t, section, "| "+statement.name+" | "+v.Name+" | default | ")
			require.Contains(t, section, "| "+statement.name+" | "+v.Name+" | custom | ")
		}
	}
	for _, q := range skewQueries {
		tables := 2 // of times, and of plans
		if q.custom {
			tables = 1
		}
		require.Equal(t, tables, strings.Count(section, "| "+q.name+" | huge | "), q.name)
	}
	require.FileExists(t, filepath.Join(dir, "benchmark", "partitions.svg"))
}

// TestCommandMeasuresShare, and asserts no time.
func TestCommandMeasuresShare(t *testing.T) {
	_, section := measured(t, "share")
	for _, slow := range slowStatements {
		for _, share := range []string{"–", "4", "2"} {
			require.Contains(t, section, "| "+slow.name+" | "+share+" | ")
		}
	}
	require.Equal(t, len(slowStatements), strings.Count(section, "| none | – | "))
}

// TestSectionNeedsItsPlace in the page.
func TestSectionNeedsItsPlace(t *testing.T) {
	dir := t.TempDir()
	require.Error(t, writeSection(dir, "share", "text", nil))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "benchmark.md"), []byte("# Benchmark\n"), 0o600))
	require.ErrorContains(t, writeSection(dir, "share", "text", nil), `has no section "share"`)
}
