package docs

import "testing"

// TestJobsProgramRuns creates the roles and runs the program of docs/jobs.md, twice: it migrates again.
func TestJobsProgramRuns(t *testing.T) {
	script, program := readPage(t, "docs/jobs.md").program(t)
	s := newShop(t)
	s.execute(t, script)
	for range 2 {
		s.run(t, program, "mail to acme: a book for acme", "mail to globex: a book for globex")
	}
}
