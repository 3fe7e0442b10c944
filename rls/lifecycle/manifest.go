package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// formatVersion is the version of the files that Export writes.
const formatVersion = 1

// Manifest says what is in a file of Export. It is the last entry of the tar archive, manifest.json, so that a file that was cut off has none.
type Manifest struct {
	Version  int             `json:"version"`           // of the format, now 1
	Tenant   string          `json:"tenant"`            // whose rows they are
	Subject  string          `json:"subject,omitempty"` // the key of the person in a file of Subjects.Export, which no Import takes
	Time     time.Time       `json:"time"`              // of the export
	Server   string          `json:"server"`            // PostgreSQL's server_version
	Snapshot string          `json:"snapshot"`          // by pg_current_snapshot: all rows are from this one
	Schema   string          `json:"schema"`            // the SHA-256 of the tables with their columns and types
	Tables   []ManifestTable `json:"tables"`            // in the order of foreign keys, parents first
	Left     []Left          `json:"left,omitempty"`    // what is not in the file
}

// ManifestTable is a table in a file.
type ManifestTable struct {
	Table
	Directory string           `json:"directory"`           // of its parts, each with rows as lines of JSON
	Columns   []ManifestColumn `json:"columns"`             // as in the rows
	Generated []string         `json:"generated,omitempty"` // the columns that PostgreSQL computes, which are not in the rows
}

// ManifestColumn is a column in a file.
type ManifestColumn struct {
	Name string `json:"name"`
	Type string `json:"type"` // as PostgreSQL writes it
}

// Rows returns the sum of the rows.
func (m Manifest) Rows() int64 {
	var sum int64
	for _, t := range m.Tables {
		sum += t.Rows
	}
	return sum
}

// fingerprint is the hash of tables, columns and types.
func (m Manifest) fingerprint() string {
	sum := sha256.New()
	for _, t := range m.Tables {
		fmt.Fprintf(sum, "%q\n", t.Name)
		for _, c := range t.Columns {
			fmt.Fprintf(sum, "\t%q %q\n", c.Name, c.Type)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}
