package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
)

// write makes benchmark.json, benchmark.md and benchmark/*.svg in a directory. Git ignores the first in docs: each run
// changes all of its lines.
func write(r *results, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	kept, keptPlots, err := keptSections(dir)
	if err != nil {
		return err
	}
	r.sections = kept
	var numbers bytes.Buffer
	encoder := json.NewEncoder(&numbers)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "\t")
	if err := encoder.Encode(r); err != nil {
		return err
	}
	page, err := report(r)
	if err != nil {
		return err
	}
	plots, err := r.plots()
	if err != nil {
		return err
	}
	files := map[string][]byte{"benchmark.json": numbers.Bytes(), "benchmark.md": page}
	maps.Copy(files, keptPlots)
	for name, content := range plots {
		files[filepath.Join("benchmark", name)] = content
	}
	if err := os.RemoveAll(filepath.Join(dir, "benchmark")); err != nil { // plots of an earlier run
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "benchmark"), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
