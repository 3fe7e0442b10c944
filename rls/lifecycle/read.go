package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// condition is that rows are the tenant's, $1.
func (r *relation) condition() string {
	return sqltext.Ident(r.key.Name) + " = $1::" + r.key.Base
}

// columnNames are the names of columns.
func columnNames(columns []column) []string {
	names := make([]string, len(columns))
	for n, c := range columns {
		names[n] = c.Name
	}
	return names
}

// selectRows is the query for the rows t that meet a condition, in an order that is the same in every database: by the primary key, or without one
// by all columns, as texts.
func (r *relation) selectRows(columns []column, condition string) string {
	var order []string
	for _, name := range r.Primary {
		expression := sqltext.Ident(name)
		if r.column(name).Collated {
			expression += ` COLLATE "C"`
		}
		order = append(order, expression)
	}
	if len(order) == 0 {
		for _, c := range columns {
			order = append(order, fmt.Sprintf(`pg_catalog.format('%%L', %s) COLLATE "C"`, sqltext.Ident(c.Name)))
		}
	}
	return fmt.Sprintf("SELECT %s FROM %s t WHERE %s ORDER BY %s",
		sqltext.Idents(columnNames(columns)), r.from(), condition, strings.Join(order, ", "))
}

// readTable writes the rows of the tenant as lines of JSON, and returns what they are. The tenant in them is written as the other one, if
// that is not empty.
func (s *session) readTable(ctx context.Context, r *relation, columns []column, as string, w io.Writer) (Table, error) {
	return s.readRows(ctx, r, columns, r.condition(), []string{s.tenant}, as, nil, w)
}

// readRows is readTable for the rows t that meet a condition, with the keys that they had before they got new ones.
func (s *session) readRows(ctx context.Context, r *relation, columns []column, condition string, args []string, as string, keys newKeys, w io.Writer) (Table, error) {
	var (
		result = Table{Name: r.name()}
		sum    = sha256.New()
		both   = io.MultiWriter(sum, w)
		line   []byte
		tenant = s.tenantColumns(r, columns)
	)
	s.progress(result.Name, 0, 0)
	err := s.each(ctx, r.selectRows(columns, condition), func(values [][]byte) error {
		if as != "" {
			for n := range values {
				if tenant[n] && string(values[n]) == s.tenant {
					values[n] = []byte(as)
				}
			}
		}
		err := keys.translate(r, columns, values, newKey.back)
		if err != nil {
			return err
		}
		if line, err = appendRow(line[:0], columns, values); err != nil {
			return err
		}
		if _, err := both.Write(line); err != nil {
			return err
		}
		result.Rows++
		s.rows++
		if result.Rows%reportEvery == 0 {
			s.progress(result.Name, result.Rows, 0)
		}
		return ctx.Err()
	}, args...)
	if err != nil {
		return result, fmt.Errorf("%s: %w", result.Name, explain(err))
	}
	result.SHA256 = hex.EncodeToString(sum.Sum(nil))
	s.progress(result.Name, result.Rows, result.Rows)
	return result, nil
}

// tenantColumns reports which columns hold the tenant: that which tells tenants apart, and those that refer to a table of tenants.
func (s *session) tenantColumns(r *relation, columns []column) []bool {
	is := make([]bool, len(columns))
	for n, c := range columns {
		is[n] = c.Name == r.key.Name
		for _, f := range r.ForeignKeys {
			to := s.scope.find(f.Schema, f.Table)
			for k := range f.Columns {
				if f.Columns[k] == c.Name && to != nil && to.own && f.Keys[k] == to.key.Name {
					is[n] = true
				}
			}
		}
	}
	return is
}

// appendRow appends a row as an object of JSON, and a newline. Values are PostgreSQL's own texts, because JSON loses some of them.
func appendRow(line []byte, columns []column, values [][]byte) ([]byte, error) {
	line = append(line, '{')
	for n, v := range values {
		if n > 0 {
			line = append(line, ',')
		}
		name, err := json.Marshal(columns[n].Name)
		if err != nil {
			return nil, err
		}
		line = append(append(line, name...), ':')
		if v == nil {
			line = append(line, "null"...)
			continue
		}
		if !utf8.Valid(v) {
			return nil, errors.New("a value is not UTF-8, which JSON needs")
		}
		text, err := json.Marshal(string(v))
		if err != nil {
			return nil, err
		}
		line = append(line, text...)
	}
	return append(line, "}\n"...), nil
}

// parseRow reads a line as appendRow writes it: the columns in their order, and nothing else.
func parseRow(line []byte, columns []column, values [][]byte) error {
	wrong := fmt.Errorf("%w: a row is not an object with the columns of its table", ErrArchive)
	decoder := json.NewDecoder(strings.NewReader(string(line)))
	token := func() any {
		t, err := decoder.Token()
		if err != nil {
			return wrong
		}
		return t
	}
	if token() != json.Delim('{') {
		return wrong
	}
	for n, c := range columns {
		if token() != c.Name {
			return wrong
		}
		switch v := token().(type) {
		case nil:
			values[n] = nil
		case string:
			values[n] = []byte(v)
		default:
			return wrong
		}
	}
	if token() != json.Delim('}') {
		return wrong
	}
	return nil
}

// Count counts the rows of a tenant, in one snapshot.
func (t Tenants) Count(ctx context.Context, tenant string) (Report, error) {
	report := Report{Tenant: tenant}
	err := t.run(ctx, OpCount, tenant, func(s *session) error {
		return s.inTransaction(ctx, beginReading, func() (err error) {
			report.Left = s.scope.left
			report.Tables, err = s.count(ctx, s.scope.tables())
			s.rows = report.Rows()
			return err
		})
	})
	return report, err
}

func (s *session) count(ctx context.Context, tables []*relation) ([]Table, error) {
	var list []Table
	for _, r := range tables {
		n, err := s.number(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s", r.from(), r.condition()), s.tenant)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name(), explain(err))
		}
		s.progress(r.name(), n, n)
		list = append(list, Table{Name: r.name(), Rows: n})
	}
	return list, nil
}
