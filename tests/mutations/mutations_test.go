package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMutationsApply: each mutation still has a place in the code.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	const guard = "../../internal/guard/"
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, e := range m.edits {
				text, err := os.ReadFile(guard + e.file)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(dir+"/"+e.file, text, 0o600))
			}
			undo, err := apply(dir, m.edits)
			require.NoError(t, err)
			require.NoError(t, undo())
		})
	}
}
