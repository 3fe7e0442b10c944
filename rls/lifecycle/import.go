package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Import inserts the rows of a file that Export has written, for the tenant of the file if tenant is empty, and for another otherwise. The
// tenant must have no rows in the tables of the file. It is one transaction: after an error, or if the process is killed, nothing is there.
//
// The file is checked before anything is written, and tables, columns and types must be those of the database. Each row passes the policies
// of the tenant, and a row that names another tenant, or refers to a row of another, is an error. So a file that was tampered with
// changes rows of no other tenant. Primary keys stay as they are, and sequences are moved beyond them. A key that is taken is ErrConflict: serial
// numbers in one database are shared by all tenants, so that a copy of a tenant beside itself needs NewKeys, or keys with the tenant.
//
// For another tenant, its id replaces that of the file in the tenant columns and where rows refer to the table of tenants; values that hold it
// otherwise, as JSON, stay. At the end all rows are read, and compared with the hashes of the file.
func (t Tenants) Import(ctx context.Context, tenant string, file io.ReadSeeker) (Report, error) {
	a, wrong := openArchive(ctx, file)
	if tenant == "" && wrong == nil {
		tenant = a.Tenant
	}
	if tenant == "" {
		tenant = "of an unreadable file"
	}
	report := Report{Tenant: tenant}
	err := t.run(ctx, OpImport, tenant, func(s *session) (err error) {
		if wrong != nil {
			return wrong
		}
		var keys newKeys
		if s.NewKeys {
			if keys, err = s.reserveKeys(ctx, a); err != nil {
				return err
			}
		}
		return s.inTransaction(ctx, beginWriting, func() (err error) {
			i := &importing{session: s, archive: a, keys: keys}
			report.Tables, err = i.run(ctx)
			report.Left = s.scope.left
			return err
		})
	})
	return report, err
}

// importing is a run of Import.
type importing struct {
	*session
	archive *archive
	tables  []*target // in the order of foreign keys
	keys    newKeys
}

// target is a table that is imported into.
type target struct {
	*relation
	index   int      // in the manifest
	columns []column // in the order of the file
	late    []bool   // the columns that are set when all rows are there
	sum     rowsSum  // of the rows that were inserted, as they are in the file; with new keys alone
}

func (t *target) hasLate() bool { return slices.Contains(t.late, true) }

func (i *importing) run(ctx context.Context) ([]Table, error) {
	if err := i.match(); err != nil {
		return nil, err
	}
	if err := i.order(); err != nil {
		return nil, err
	}
	if err := i.vacant(ctx); err != nil {
		return nil, err
	}
	if err := i.exec(ctx, triggersPath+"; SET CONSTRAINTS ALL DEFERRED"); err != nil {
		return nil, err
	}
	for _, t := range i.tables {
		if err := i.insert(ctx, t); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name(), explain(err))
		}
	}
	for _, t := range i.tables {
		if err := i.setLate(ctx, t); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name(), explain(err))
		}
	}
	if err := i.exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE; "+plainPath); err != nil {
		return nil, err
	}
	list, err := i.verify(ctx)
	if err != nil {
		return nil, err
	}
	return list, i.advanceSequences(ctx)
}

// match finds the table and the columns of each table of the file, or says all that differs.
func (i *importing) match() error {
	var differences []string
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	for index, t := range i.archive.Tables {
		if i.Skip[t.Name] != "" {
			continue
		}
		n := slices.IndexFunc(i.scope.tables(), func(r *relation) bool { return r.name() == t.Name })
		if n < 0 {
			differ("there is no tenant table %s", t.Name)
			continue
		}
		found := &target{relation: i.scope.tables()[n], index: index, late: make([]bool, len(t.Columns))}
		for _, c := range t.Columns {
			live := found.column(c.Name)
			switch {
			case live == nil:
				differ("%s has no column %s", t.Name, sqltext.Ident(c.Name))
				continue
			case live.Generated:
				differ("column %s of %s is generated, and not in the file", sqltext.Ident(c.Name), t.Name)
			case live.Type != c.Type:
				differ("column %s of %s has the type %s, and in the file %q", sqltext.Ident(c.Name), t.Name, live.Type, c.Type)
			}
			found.columns = append(found.columns, *live)
		}
		if !slices.ContainsFunc(t.Columns, func(c ManifestColumn) bool { return c.Name == found.key.Name }) {
			differ("in the file, %s has no tenant column", t.Name)
		}
		i.tables = append(i.tables, found)
	}
	if len(differences) > 0 {
		return fmt.Errorf("%w: %s", ErrSchema, strings.Join(differences, "; "))
	}
	return nil
}

// order brings the tables in the order of foreign keys. Where these form a circle, columns that may be NULL are set at the end.
func (i *importing) order() error {
	targets := map[*relation]*target{}
	var relations []*relation
	for _, t := range i.tables {
		targets[t.relation] = t
		relations = append(relations, t.relation)
	}
	group := map[*relation]int{}
	for n, members := range inOrder(relations, func(*relation, foreignKey) bool { return true }) {
		for _, r := range members {
			group[r] = n
		}
	}
	binds := func(r *relation, f foreignKey) bool {
		to := i.scope.find(f.Schema, f.Table)
		return targets[to] == nil || group[to] != group[r] || !f.Deferrable && !targets[r].makeLate(f)
	}
	i.tables = nil
	for _, members := range inOrder(relations, binds) {
		r := members[0]
		for _, f := range r.ForeignKeys {
			if to := i.scope.find(f.Schema, f.Table); slices.Contains(members, to) && binds(r, f) {
				return fmt.Errorf("%w: %s: make the constraint %s DEFERRABLE, or one of its columns nullable", ErrCycle, r.name(), sqltext.Ident(f.Name))
			}
		}
		i.tables = append(i.tables, targets[r])
	}
	return nil
}

// makeLate has the columns of a foreign key set at the end, and reports whether they can be.
func (t *target) makeLate(f foreignKey) bool {
	can := false
	for n, c := range t.columns {
		if slices.Contains(f.Columns, c.Name) && !c.NotNull && c.Name != t.key.Name && !slices.Contains(t.Primary, c.Name) && len(t.Primary) > 0 {
			t.late[n], can = true, true
		}
	}
	return can
}

// vacant refuses a tenant that has rows: what is there and what is in the file could not be told apart.
func (i *importing) vacant(ctx context.Context) error {
	for _, t := range i.tables {
		n, err := i.number(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s WHERE %s LIMIT 1) t", t.from(), t.condition()), i.tenant)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name(), explain(err))
		}
		if n > 0 {
			return fmt.Errorf("%w: the tenant has rows in %s already", ErrConflict, t.name())
		}
	}
	return nil
}

// parse reads a row, and makes it one of the tenant.
func (i *importing) parse(t *target, tenant []bool, line []byte) ([][]byte, error) {
	values := make([][]byte, len(t.columns))
	if err := parseRow(line, t.columns, values); err != nil {
		return nil, err
	}
	for n, c := range t.columns {
		switch {
		case c.Name == t.key.Name && string(values[n]) != i.archive.Tenant:
			return nil, fmt.Errorf("%w: a row belongs to another tenant than the file", ErrArchive)
		case tenant[n] && values[n] != nil && string(values[n]) == i.archive.Tenant:
			values[n] = []byte(i.tenant)
		}
	}
	return values, i.keys.translate(t.relation, t.columns, values, newKey.forward)
}

const (
	batchRows  = 500
	batchBytes = 1 << 20
)

// batch sends statements with values, many at a time.
type batch struct {
	i           *importing
	table       *target
	statements  *pgconn.Batch
	rows, bytes int
	done, total int64
}

// newBatch prepares the statement of the batch: the one without a name, which no pooler keeps.
func (i *importing) newBatch(ctx context.Context, t *target, sql string) (*batch, error) {
	_, err := i.conn.Prepare(ctx, "", sql, nil)
	return &batch{i: i, table: t, statements: &pgconn.Batch{}, total: i.archive.Tables[t.index].Rows}, err
}

func (b *batch) add(ctx context.Context, values [][]byte) error {
	b.statements.ExecPrepared("", values, nil, nil)
	b.rows++
	for _, v := range values {
		b.bytes += len(v)
	}
	if b.rows < batchRows && b.bytes < batchBytes {
		return nil
	}
	return b.flush(ctx)
}

func (b *batch) flush(ctx context.Context) error {
	if b.rows == 0 {
		return nil
	}
	if err := b.i.conn.ExecBatch(ctx, b.statements).Close(); err != nil {
		return err
	}
	b.done += int64(b.rows)
	b.i.progress(b.table.name(), b.done, b.total)
	b.statements, b.rows, b.bytes = &pgconn.Batch{}, 0, 0
	return ctx.Err()
}

// insert inserts the rows of a table. No statement updates a row that is there.
func (i *importing) insert(ctx context.Context, t *target) error {
	b, err := i.newBatch(ctx, t, fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES (%s)",
		t.quoted(), sqltext.Idents(columnNames(t.columns)), parameters(1, len(t.columns))))
	if err != nil {
		return err
	}
	tenant := i.tenantColumns(t.relation, t.columns)
	err = i.archive.table(t.index, func(line []byte) error {
		values, err := i.parse(t, tenant, line)
		if err != nil {
			return err
		}
		for n := range values {
			if t.late[n] {
				values[n] = nil
			}
		}
		if i.keys != nil {
			t.sum.add(line)
		}
		i.rows++
		return b.add(ctx, values)
	})
	return errors.Join(err, ifNone(err, func() error { return b.flush(ctx) }))
}

// setLate sets the columns of foreign keys in a circle.
func (i *importing) setLate(ctx context.Context, t *target) error {
	if !t.hasLate() {
		return nil
	}
	var set, where []string
	position := map[string]int{}
	number := func(name string) int { position[name] = len(position) + 2; return position[name] } // $1 is the tenant
	for n, c := range t.columns {
		if t.late[n] {
			set = append(set, fmt.Sprintf("%s = $%d", sqltext.Ident(c.Name), number(c.Name)))
		}
	}
	for _, name := range t.Primary {
		where = append(where, fmt.Sprintf("%s = $%d", sqltext.Ident(name), number(name)))
	}
	b, err := i.newBatch(ctx, t, fmt.Sprintf("UPDATE %s SET %s WHERE %s AND %s",
		t.from(), strings.Join(set, ", "), t.condition(), strings.Join(where, " AND ")))
	if err != nil {
		return err
	}
	tenant := i.tenantColumns(t.relation, t.columns)
	err = i.archive.table(t.index, func(line []byte) error {
		row, err := i.parse(t, tenant, line)
		if err != nil {
			return err
		}
		values, some := make([][]byte, len(position)+1), false
		values[0] = []byte(i.tenant)
		for n, c := range t.columns {
			if p := position[c.Name]; p > 0 {
				values[p-1] = row[n]
			}
			some = some || t.late[n] && row[n] != nil
		}
		if !some {
			return nil
		}
		return b.add(ctx, values)
	})
	return errors.Join(err, ifNone(err, func() error { return b.flush(ctx) }))
}

// ifNone calls do unless there is an error.
func ifNone(err error, do func() error) error {
	if err != nil {
		return nil
	}
	return do()
}

// parameters are $from, … in SQL.
func parameters(from, count int) string {
	list := make([]string, count)
	for n := range list {
		list[n] = fmt.Sprintf("$%d", from+n)
	}
	return strings.Join(list, ", ")
}
