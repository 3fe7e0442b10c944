package lifecycle

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"
)

const (
	manifestName = "manifest.json"
	partSize     = 1 << 20 // a tar entry states its size before its content, so rows are written in parts
)

// Export writes all rows of a tenant as a tar archive: for each table parts with rows as lines of JSON, and a manifest with counts and
// hashes. All rows are of one snapshot, in a transaction that is REPEATABLE READ and READ ONLY, and are never in memory as a whole. Put a
// gzip.Writer before w for a compressed file, which Import knows as well.
//
// Values are PostgreSQL's own texts, so that none loses precision. Generated columns are left out. The manifest lists what else is not in
// the file: tables in Skip, shared tables that rows refer to, materialized views and large objects. After an error the file has no
// manifest, and Import refuses it.
func (t Tenants) Export(ctx context.Context, tenant string, w io.Writer) (Manifest, error) {
	var m Manifest
	err := t.run(ctx, OpExport, tenant, func(s *session) error {
		return s.inTransaction(ctx, beginReading, func() (err error) {
			m, err = s.export(ctx, w)
			return err
		})
	})
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// unsafeInPaths is what the names of directories in the file do not have.
var unsafeInPaths = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

func (s *session) export(ctx context.Context, w io.Writer) (Manifest, error) {
	e, err := s.newExport(ctx, w)
	if err != nil {
		return Manifest{}, err
	}
	for _, r := range s.scope.tables() {
		if err := e.table(ctx, r, nil, r.condition(), s.tenant); err != nil {
			return e.manifest, err
		}
	}
	return e.manifest, e.finish()
}

// exporting is a file that is being written.
type exporting struct {
	*session
	archive  *tar.Writer
	manifest Manifest
}

func (s *session) newExport(ctx context.Context, w io.Writer) (*exporting, error) {
	row, err := s.row(ctx, "SELECT pg_catalog.pg_current_snapshot()::text")
	if err != nil {
		return nil, err
	}
	return &exporting{session: s, archive: tar.NewWriter(w), manifest: Manifest{
		Version: formatVersion, Tenant: s.tenant, Time: time.Now().UTC().Truncate(time.Second),
		Server: s.conn.ParameterStatus("server_version"), Snapshot: string(row[0]), Left: s.scope.left,
	}}, nil
}

// table writes the rows of a table that meet a condition, without the columns to omit.
func (e *exporting) table(ctx context.Context, r *relation, omit []string, condition string, args ...string) error {
	m := &e.manifest
	entry := ManifestTable{Directory: fmt.Sprintf("%03d-%s", len(m.Tables)+1, unsafeInPaths.ReplaceAllString(r.name(), "_"))}
	var columns []column
	for _, c := range r.Columns {
		switch {
		case slices.Contains(omit, c.Name):
		case c.Generated:
			entry.Generated = append(entry.Generated, c.Name)
		default:
			columns = append(columns, c)
			entry.Columns = append(entry.Columns, ManifestColumn{c.Name, c.Type})
		}
	}
	parts := &partWriter{archive: e.archive, directory: entry.Directory, time: m.Time}
	var err error
	if entry.Table, err = e.readRows(ctx, r, columns, condition, args, "", nil, parts); err != nil {
		return err
	}
	m.Tables = append(m.Tables, entry)
	return parts.flush()
}

// finish writes the manifest.
func (e *exporting) finish() error {
	e.manifest.Schema = e.manifest.fingerprint()
	text, err := json.MarshalIndent(e.manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := writeEntry(e.archive, manifestName, e.manifest.Time, append(text, '\n')); err != nil {
		return err
	}
	return e.archive.Close()
}

// partWriter writes lines into entries of an archive.
type partWriter struct {
	archive   *tar.Writer
	directory string
	time      time.Time
	part      int
	buffer    bytes.Buffer
}

// Write takes a whole line.
func (p *partWriter) Write(line []byte) (int, error) {
	if len(line) > maxRow {
		return 0, fmt.Errorf("a row has more than %d MiB", maxRow>>20)
	}
	if p.buffer.Len() > 0 && p.buffer.Len()+len(line) > partSize {
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	return p.buffer.Write(line)
}

func (p *partWriter) flush() error {
	if p.buffer.Len() == 0 {
		return nil
	}
	p.part++
	err := writeEntry(p.archive, partName(p.directory, p.part), p.time, p.buffer.Bytes())
	p.buffer.Reset()
	return err
}

func writeEntry(archive *tar.Writer, name string, at time.Time, content []byte) error {
	header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(content)), ModTime: at}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}
