package lint

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// script is the SQL of a file. What is not SQL is blanked, so that offsets are those of the file.
type script struct {
	file          string
	text          string // as it is in the file
	up, down      string // of the same length
	noTransaction bool   // each statement commits by itself, so that SET LOCAL has no effect
}

var (
	marker        = regexp.MustCompile(`(?i)^\s*--\s*(?:\+(?:goose|migrate)\s+|migrate:)(up|down)\b`)
	noTransaction = regexp.MustCompile(`(?im)^\s*--\s*(?:\+goose\s+no\s+transaction|atlas:txmode\s+none|\+migrate\s+(?:up|down)\s+notransaction|migrate:(?:up|down)\s+transaction:false)`)
	psqlCommand   = regexp.MustCompile(`^\s*\\`)
	goMigration   = regexp.MustCompile(`"github\.com/(?:pressly/goose|go-gormigrate/gormigrate)`)
	leadingDigits = regexp.MustCompile(`^[vV]?(\d+)`)
)

// readDir reads the migrations of a folder, in the order in which they run.
func readDir(dir string) (scripts []script, notChecked []NotChecked, err error) {
	root := os.DirFS(dir)
	var names []string
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(names, byVersion)
	for _, name := range names {
		shown := filepath.ToSlash(filepath.Join(dir, name))
		switch path.Ext(name) {
		case ".sql":
			text, err := fs.ReadFile(root, name)
			if err != nil {
				return nil, nil, err
			}
			scripts = append(scripts, newScript(shown, string(text)))
		case ".go":
			text, err := fs.ReadFile(root, name)
			if err != nil {
				return nil, nil, err
			}
			if goMigration.Match(text) {
				notChecked = append(notChecked, NotChecked{Position{shown, 1}, "a migration that is written in Go is not read"})
			}
		}
	}
	return scripts, notChecked, nil
}

// byVersion compares names as tools for migrations do: 2_a.sql comes before 10_b.sql.
func byVersion(a, b string) int {
	if d := strings.Compare(path.Dir(a), path.Dir(b)); d != 0 {
		return d
	}
	m, n := leadingDigits.FindStringSubmatch(path.Base(a)), leadingDigits.FindStringSubmatch(path.Base(b))
	if m != nil && n != nil {
		x, errX := strconv.ParseUint(m[1], 10, 64)
		y, errY := strconv.ParseUint(n[1], 10, 64)
		if errX == nil && errY == nil && x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return strings.Compare(a, b)
}

func newScript(file, text string) script {
	s := script{file: file, text: text, noTransaction: noTransaction.MatchString(text)}
	if strings.HasSuffix(file, ".down.sql") || strings.HasSuffix(file, ".undo.sql") {
		s.up, s.down = blank(text), text
		return s
	}
	down := false
	var up, undo strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		if m := marker.FindStringSubmatch(line); m != nil {
			down = strings.EqualFold(m[1], "down")
		}
		if down {
			up.WriteString(blank(line))
			undo.WriteString(line)
		} else {
			up.WriteString(line)
			undo.WriteString(blank(line))
		}
	}
	s.up, s.down = up.String(), undo.String()
	return s
}

// blank replaces all but line breaks by spaces.
func blank(text string) string {
	b := []byte(text)
	for i := range b {
		if b[i] != '\n' {
			b[i] = ' '
		}
	}
	return string(b)
}

// lineAt returns the line of an offset, which counts from 1.
func lineAt(text string, offset int) int {
	return 1 + strings.Count(text[:min(offset, len(text))], "\n")
}
