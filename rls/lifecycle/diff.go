package lifecycle

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// Difference is a table in which a file and the database differ.
type Difference struct {
	Table    string `json:"table"`    // schema.table
	File     int64  `json:"file"`     // its rows in the file; -1 if there is no such table
	Database int64  `json:"database"` // and in the database
	Reason   string `json:"reason"`   // in English
}

// Diff compares the rows of a tenant with a file of Export, by counts and hashes, in one snapshot. An empty tenant is that of the file; for
// another one, rows are the same if they differ in the tenant alone, and with NewKeys in keys that one step for each table leads back to those
// of the file: a distance of numbers, a mask of UUIDs. Then rows are compared without their order. Without differences it returns none.
func (t Tenants) Diff(ctx context.Context, tenant string, file io.ReadSeeker) ([]Difference, error) {
	a, err := openArchive(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %s: %w", OpDiff, err)
	}
	if tenant == "" {
		tenant = a.Tenant
	}
	var list []Difference
	err = t.run(ctx, OpDiff, tenant, func(s *session) error {
		return s.inTransaction(ctx, beginReading, func() (err error) {
			list, err = s.diff(ctx, a)
			return err
		})
	})
	return list, err
}

func (s *session) diff(ctx context.Context, a *archive) ([]Difference, error) {
	var list []Difference
	as := ""
	if s.tenant != a.Tenant {
		as = a.Tenant
	}
	var c *comparison
	if s.NewKeys {
		var err error
		if c, err = s.compareKeys(ctx, a); err != nil {
			return nil, err
		}
	}
	for _, r := range s.scope.tables() {
		n := slices.IndexFunc(a.Tables, func(t ManifestTable) bool { return t.Name == r.name() })
		if n < 0 {
			counted, err := s.count(ctx, []*relation{r})
			if err != nil {
				return nil, err
			}
			list = append(list, Difference{r.name(), -1, counted[0].Rows, "not in the file"})
			continue
		}
		want := a.Tables[n]
		reason, columns := compareColumns(r, want)
		found, err := s.readCompared(ctx, r, columns, as, c, want.Table)
		if err != nil {
			return nil, err
		}
		switch {
		case reason != "":
		case found.Rows != want.Rows:
			reason = "the counts differ"
		case found.SHA256 != want.SHA256:
			reason = "the rows differ"
		default:
			continue
		}
		list = append(list, Difference{r.name(), want.Rows, found.Rows, reason})
	}
	for _, t := range a.Tables {
		if s.Skip[t.Name] == "" && !slices.ContainsFunc(s.scope.tables(), func(r *relation) bool { return r.name() == t.Name }) {
			list = append(list, Difference{t.Name, t.Rows, -1, "no tenant table of the database"})
		}
	}
	return list, nil
}

// readCompared reads a table to compare it. Of a copy with new keys, the sum of the hashes of its rows is compared, because their order is another.
func (s *session) readCompared(ctx context.Context, r *relation, columns []column, as string, c *comparison, want Table) (Table, error) {
	if c == nil {
		return s.readTable(ctx, r, columns, as, io.Discard)
	}
	found, sum, err := s.readCopy(ctx, r, columns, as, c.keys)
	if err == nil && sum == c.sums[r.name()] {
		found.SHA256 = want.SHA256
	}
	return found, err
}

// compareColumns returns the columns to compare, those of the file if the table has them all.
func compareColumns(r *relation, want ManifestTable) (string, []column) {
	var columns []column
	for _, c := range want.Columns {
		live := r.column(c.Name)
		if live == nil || live.Generated || live.Type != c.Type {
			return "the columns differ", r.stored()
		}
		columns = append(columns, *live)
	}
	if len(columns) != len(r.stored()) {
		return "the columns differ", r.stored()
	}
	return "", columns
}
