package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sections of the page that are measured by runs of their own stand between two comments. A run replaces its section, and all others
// leave it as it is.

// sectionNames are those of the sections, of the arguments to -only, and of their plots.
var sectionNames = []string{"partitions", "share"}

func beginSection(name string) string { return "<!-- " + name + ": begin -->\n" }
func endSection(name string) string   { return "<!-- " + name + ": end -->" }

// cutSection divides a page into what is before the text of a section, the text, and what is behind.
func cutSection(page, name string) (before, text, after string, found bool) {
	before, rest, begun := strings.Cut(page, beginSection(name))
	text, after, ended := strings.Cut(rest, endSection(name))
	return before + beginSection(name), text, endSection(name) + after, begun && ended
}

// writeSection replaces the text of a section in the page of a directory, and its plot if there is one.
func writeSection(dir, name, text string, svg []byte) error {
	path := filepath.Join(dir, "benchmark.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, _, after, found := cutSection(string(page), name)
	if !found {
		return fmt.Errorf("%s has no section %q", path, name)
	}
	if svg != nil {
		if err := os.MkdirAll(filepath.Join(dir, "benchmark"), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "benchmark", name+".svg"), svg, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(path, []byte(before+"\n"+strings.TrimSpace(text)+"\n\n"+after), 0o644)
}

// keptSections are the sections of the page that is in a directory, by name, and their plots, by the names of the files.
func keptSections(dir string) (sections map[string]string, plots map[string][]byte, err error) {
	page, err := os.ReadFile(filepath.Join(dir, "benchmark.md"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	sections, plots = map[string]string{}, map[string][]byte{}
	for _, name := range sectionNames {
		_, sections[name], _, _ = cutSection(string(page), name)
		file := filepath.Join("benchmark", name+".svg")
		switch svg, err := os.ReadFile(filepath.Join(dir, file)); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, nil, err
		default:
			plots[file] = svg
		}
	}
	return sections, plots, nil
}

// Section is the place of a section, with its text if it was measured.
func (v view) Section(name string) string {
	return beginSection(name) + v.sections[name] + endSection(name)
}

// paragraph says what the numbers of a section depend on.
func (m machine) paragraph(quick bool) string {
	var b strings.Builder
	if quick {
		b.WriteString("**These are the numbers of a quick run**: few samples, small tables.\n\n")
	}
	fmt.Fprintf(&b, "Measured on %s with %d processors, PostgreSQL %s, at a load of %.1f before it began.\n", m.OS, m.CPUs, m.PostgreSQL, m.Load)
	if m.Busy() {
		b.WriteString("\n**The machine was busy with something else**: this must be repeated.\n")
	}
	return b.String()
}
