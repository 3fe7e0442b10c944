package cmd_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// program writes a program into this module, which has GORM, and returns its pattern.
func program(t *testing.T, source string) string {
	t.Helper()
	dir, err := os.MkdirTemp(".", "testprogram")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	write(t, filepath.Join(dir, "main.go"), source)
	return "./" + filepath.ToSlash(dir)
}

const badProgram = `package main

import (
	"context"

	"gorm.io/gorm"
)

type store struct {
	db    *gorm.DB
	names map[int64]string
}

func (s store) find(ctx context.Context, id int64) error {
	if s.names[id] != "" {
		return nil
	}
	return s.db.First(new(int), id).Error
}

func main() {
	db, _ := gorm.Open(nil)
	_ = store{db: db}.find(context.Background(), 1)
}
`

func TestCallsites(t *testing.T) {
	pattern := program(t, badProgram)
	r := tenancy(t, "callsites", pattern)
	require.Equal(t, 1, r.exit, r.errors)
	require.Contains(t, r.out, "CONTEXT AT HAND: db.WithContext(…) (1)")
	require.Contains(t, r.out, "/main.go:18: store.find: First: ctx\n")
	require.Contains(t, r.out, "/main.go:15: store.find: s.names (map) by id\n")
	require.Contains(t, r.out, "1 of 1 call to GORM that send SQL may have no context in 1 package.")

	var report struct {
		Calls int
		Sites []struct {
			File, Group, Use string
			Line             int
		}
		Caches []struct{ Cache, Kind, Key string }
	}
	r = tenancy(t, "callsites", "--format", "json", pattern)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &report)
	require.Len(t, report.Sites, 1)
	require.Equal(t, "context-at-hand", report.Sites[0].Group)
	require.Equal(t, 18, report.Sites[0].Line)
	require.Len(t, report.Caches, 1)

	var log sarifLog
	r = tenancy(t, "callsites", "--format", "sarif", pattern)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &log)
	log.Runs[0].requireRules(t)
	require.Len(t, log.Runs[0].Results, 2)
	for _, result := range log.Runs[0].Results {
		require.Equal(t, result.RuleID, log.Runs[0].Tool.Driver.Rules[result.RuleIndex].ID)
		require.Contains(t, result.Locations[0].PhysicalLocation.ArtifactLocation.URI, "/main.go")
	}
}

func TestCallsitesOfACleanProgram(t *testing.T) {
	r := tenancy(t, "callsites", program(t, "package main\n\nfunc main() {}\n"))
	require.Equal(t, 0, r.exit, r.out+r.errors)
	require.Contains(t, r.out, "0 of 0 calls")
	tenancy(t, "callsites", program(t, "package main\n\nfunc main() { undefined() }\n")).failed(t, "does not compile")
	tenancy(t, "callsites", "--format", "xml").failed(t, "must be text, json or sarif")
}
