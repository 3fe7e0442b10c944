package lifecycle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

const (
	maxManifest = 16 << 20
	maxRow      = 256 << 20 // of a line of JSON
)

// archive is a file of Export that is complete, with hashes that are right.
type archive struct {
	Manifest
	file io.ReadSeeker

	entries *tar.Reader
	next    *tar.Header // that was read, and not used yet
	at      int         // the index of its table
}

// openArchive reads the whole file, and checks it before a row of it is used.
func openArchive(ctx context.Context, file io.ReadSeeker) (*archive, error) {
	a := &archive{file: file}
	if err := a.rewind(); err != nil {
		return nil, err
	}
	var (
		found   []ManifestTable
		sums    []hash.Hash
		parts   int
		seen    = map[string]bool{}
		content = bufio.NewReader(nil)
	)
	for {
		header, err := a.entry()
		if err != nil {
			return nil, err
		}
		if header.Name == manifestName {
			break
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		directory, _, _ := strings.Cut(header.Name, "/")
		if len(found) == 0 || found[len(found)-1].Directory != directory {
			if seen[directory] {
				return nil, fmt.Errorf("%w: the parts of a table are not together", ErrArchive)
			}
			seen[directory], parts = true, 0
			found, sums = append(found, ManifestTable{Directory: directory}), append(sums, sha256.New())
		}
		if parts++; header.Name != partName(directory, parts) {
			return nil, fmt.Errorf("%w: a part is missing or does not belong here", ErrArchive)
		}
		table, sum := &found[len(found)-1], sums[len(sums)-1]
		content.Reset(io.TeeReader(a.entries, sum))
		if err := lines(content, func([]byte) error { table.Rows++; return nil }); err != nil {
			return nil, err
		}
		table.SHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	if err := a.readManifest(); err != nil {
		return nil, err
	}
	return a, a.check(found)
}

func partName(directory string, part int) string {
	return fmt.Sprintf("%s/%06d.ndjson", directory, part)
}

// readManifest reads the manifest, which must be the last entry.
func (a *archive) readManifest() error {
	text, err := io.ReadAll(io.LimitReader(a.entries, maxManifest))
	if err != nil {
		return damaged(err)
	}
	var version struct{ Version int }
	if json.Unmarshal(text, &version) != nil || version.Version != formatVersion {
		return fmt.Errorf("%w: its format is not version %d, which this library reads", ErrArchive, formatVersion)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a.Manifest); err != nil {
		return fmt.Errorf("%w: the manifest is malformed", ErrArchive)
	}
	if a.Subject != "" {
		return fmt.Errorf("%w of a tenant: it has the rows of one person", ErrArchive)
	}
	if _, err := a.entries.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the manifest", ErrArchive)
	}
	return nil
}

// check compares what was found with the manifest.
func (a *archive) check(found []ManifestTable) error {
	names, n := map[string]bool{}, 0
	for _, t := range a.Tables {
		if names[t.Name] || t.Name == "" || t.Directory == "" || strings.Contains(t.Directory, "/") {
			return fmt.Errorf("%w: the manifest names a table twice, or none", ErrArchive)
		}
		names[t.Name] = true
		actual := ManifestTable{Table: Table{SHA256: hex.EncodeToString(sha256.New().Sum(nil))}}
		if n < len(found) && found[n].Directory == t.Directory {
			actual, n = found[n], n+1
		}
		if actual.Rows != t.Rows || actual.SHA256 != t.SHA256 {
			return fmt.Errorf("%w: the rows of %s are not those of the manifest", ErrArchive, t.Name)
		}
	}
	if n != len(found) || a.Tenant == "" || a.Schema != a.fingerprint() {
		return fmt.Errorf("%w: the manifest does not fit its tables", ErrArchive)
	}
	return nil
}

// rewind starts at the beginning of the file.
func (a *archive) rewind() error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	reader := bufio.NewReader(a.file)
	a.entries, a.next = tar.NewReader(reader), nil
	if magic, _ := reader.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(reader)
		if err != nil {
			return damaged(err)
		}
		a.entries = tar.NewReader(unpacked)
	}
	return nil
}

// entry returns the next entry.
func (a *archive) entry() (*tar.Header, error) {
	header, err := a.entries.Next()
	if err != nil {
		return nil, damaged(err)
	}
	if header.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%w: it has an entry that is no file", ErrArchive)
	}
	return header, nil
}

// damaged is the error of a file that ends early, or cannot be read.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends before its manifest", ErrArchive)
	}
	return fmt.Errorf("%w: %w", ErrArchive, err)
}

// table calls do with each line of a table, and checks its hash again: the file may have changed. Tables that are read in the order of the
// file take one pass.
func (a *archive) table(index int, do func(line []byte) error) error {
	want := a.Tables[index]
	if want.Rows == 0 {
		return nil
	}
	if a.next == nil || a.at > index {
		if err := a.rewind(); err != nil {
			return err
		}
		if err := a.advance(); err != nil {
			return err
		}
	}
	sum := sha256.New()
	for a.at <= index {
		if a.at == index {
			if err := lines(bufio.NewReader(io.TeeReader(a.entries, sum)), do); err != nil {
				return err
			}
		}
		if err := a.advance(); err != nil {
			return err
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("%w: the rows of %s have changed while the file was read", ErrArchive, want.Name)
	}
	return nil
}

// advance reads the next header. The manifest comes after all tables.
func (a *archive) advance() error {
	header, err := a.entry()
	if err != nil {
		return err
	}
	directory, _, _ := strings.Cut(header.Name, "/")
	a.next, a.at = header, len(a.Tables)
	for n, t := range a.Tables {
		if t.Directory == directory && header.Name != manifestName {
			a.at = n
		}
	}
	return nil
}

// lines calls do with each line.
func lines(r *bufio.Reader, do func(line []byte) error) error {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil:
			if err := do(line); err != nil {
				return err
			}
			line = line[:0]
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxRow:
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		default:
			return fmt.Errorf("%w: a row is too long or cut off", ErrArchive)
		}
	}
}
