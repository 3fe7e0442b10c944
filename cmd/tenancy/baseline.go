package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/rls/check"
)

// baseline is a file of findings that are known, by code and object. It is sorted, and holds nothing that changes from run to
// run, so that its difference shows in a review.
type baseline struct {
	Version  int     `json:"version"`
	Findings []known `json:"findings"`
}

// known is a finding of a baseline.
type known struct {
	Code   check.Code `json:"code"`
	Object string     `json:"object"`
	Reason string     `json:"reason"` // written by people, and kept by --write-baseline
}

const baselineVersion = 1

// key is what two findings have in common that are the same.
func (k known) key() known { return known{Code: k.Code, Object: k.Object} }

func keyOf(f check.Finding) known { return known{Code: f.Code, Object: f.Object} }

// readBaseline reads the file, and refuses one that cannot be meant: an entry that is misspelt would hide nothing, and a field
// that is misspelt would be lost when the file is written again.
func readBaseline(path string) (baseline, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return baseline{}, fmt.Errorf("--baseline: %w: --write-baseline makes it", inFile(path, err))
	}
	if err != nil {
		return baseline{}, fmt.Errorf("--baseline: %w", inFile(path, err))
	}
	var b baseline
	if err := decodeStrictly(text, &b); err != nil {
		return baseline{}, fmt.Errorf("--baseline: %w", inFile(path, fmt.Errorf("it is no baseline: %w", err)))
	}
	if err := b.validate(); err != nil {
		return baseline{}, fmt.Errorf("--baseline: %w", inFile(path, err))
	}
	return b, nil
}

func (b baseline) validate() error {
	if b.Version != baselineVersion {
		return fmt.Errorf("it has the version %d, and this command reads version %d", b.Version, baselineVersion)
	}
	seen := map[known]bool{}
	for n, k := range b.Findings {
		switch {
		case k.Code == "" || k.Object == "":
			return fmt.Errorf("finding %d needs a code and an object, as the report names them", n+1)
		case !slices.ContainsFunc(check.Rules(), func(r check.Rule) bool { return r.Code == k.Code }):
			return fmt.Errorf("finding %d: there is no code %q", n+1, k.Code)
		case seen[k.key()]:
			return fmt.Errorf("finding %d is there twice: %s on %s", n+1, k.Code, k.Object)
		}
		seen[k.key()] = true
	}
	return nil
}

// decodeStrictly reads one JSON document without unknown fields. Its errors name the line.
func decodeStrictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = errors.New("text follows the document")
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the document is not complete")
	}
	lines := 1 + bytes.Count(text[:min(int(decoder.InputOffset()), len(text))], []byte("\n"))
	return fmt.Errorf("line %d: %s", lines, strings.TrimPrefix(err.Error(), "json: "))
}

// compare takes what is known out of a report.
func (b baseline) compare(r check.Report) outcome {
	reasons, found := b.reasons(), map[known]bool{}
	o := outcome{Report: r, compared: true}
	o.Findings = nil
	for _, f := range r.Findings {
		reason, isKnown := reasons[keyOf(f)]
		if !isKnown {
			o.Findings = append(o.Findings, f)
			continue
		}
		found[keyOf(f)] = true
		o.known = append(o.known, check.Allowed{Finding: f, Reason: reason})
	}
	for _, k := range b.Findings {
		if !found[k.key()] {
			o.stale = append(o.stale, k)
		}
	}
	slices.SortFunc(o.stale, known.compare)
	return o
}

// reasons are those of the findings, by their keys.
func (b baseline) reasons() map[known]string {
	reasons := map[known]string{}
	for _, k := range b.Findings {
		reasons[k.key()] = k.Reason
	}
	return reasons
}

func (k known) compare(other known) int {
	return cmp.Or(cmp.Compare(k.Code, other.Code), cmp.Compare(k.Object, other.Object))
}

// next is the baseline of a report, with the reasons that b has.
func (b baseline) next(r check.Report) baseline {
	next, reasons := baseline{Version: baselineVersion, Findings: []known{}}, b.reasons()
	for _, f := range r.Findings {
		next.Findings = append(next.Findings, known{f.Code, f.Object, reasons[keyOf(f)]})
	}
	slices.SortFunc(next.Findings, known.compare)
	next.Findings = slices.CompactFunc(next.Findings, func(a, b known) bool { return a.key() == b.key() })
	return next
}

// write writes the file.
func (b baseline) write(path string) error {
	text, err := indented(b)
	if err != nil {
		return err
	}
	if err := replaceFile(path, text); err != nil {
		return fmt.Errorf("--baseline: %w", inFile(path, err))
	}
	return nil
}

// replaceFile writes a file completely or not at all.
func replaceFile(path, text string) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".tenancy-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.WriteString(text)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
