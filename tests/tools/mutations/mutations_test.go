package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMutationsApply: each mutation still has a place in the code.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	const internal = "../../../internal/"
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, e := range m.edits {
				text, err := os.ReadFile(internal + e.file)
				require.NoError(t, err)
				require.NoError(t, os.MkdirAll(filepath.Dir(dir+"/"+e.file), 0o700))
				require.NoError(t, os.WriteFile(dir+"/"+e.file, text, 0o600))
			}
			undo, err := apply(dir, m.edits)
			require.NoError(t, err)
			require.NoError(t, undo())
		})
	}
}
