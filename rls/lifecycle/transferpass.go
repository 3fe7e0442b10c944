package lifecycle

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// TransferPass is what a pass of a TransferRun has found.
type TransferPass struct {
	Rows                       int64  // of the tenant at the source
	Inserted, Updated, Deleted int64  // rows that differed at the target: what the pass has applied, or tried to
	Unresolved                 int64  // of them, those that are left for the next pass
	Fingerprint                string // of a pass without differences: the SHA-256 of all tables, keys and rows, else empty
}

// Differences is how many rows differed. Without any, all rows at the target were those of the source, in one snapshot of it.
func (p TransferPass) Differences() int64 { return p.Inserted + p.Updated + p.Deleted }

// Pass is what a pass has brought over, for reports.
type Pass struct {
	Inserted int64         `json:"inserted"` // rows
	Updated  int64         `json:"updated"`  // rows
	Deleted  int64         `json:"deleted"`  // rows
	Took     time.Duration `json:"took_ns"`  // in nanoseconds, as JSON
}

// Differences is how many rows differed.
func (p Pass) Differences() int64 { return p.Inserted + p.Updated + p.Deleted }

// Pass returns what a pass that took so long has brought over.
func (p TransferPass) Pass(took time.Duration) Pass {
	return Pass{Inserted: p.Inserted, Updated: p.Updated, Deleted: p.Deleted, Took: took}
}

// Pass compares the rows of both databases by keys and hashes, in one snapshot of the source, and applies what differs: inserts and updates parents
// first, a transaction for each group of tables, then deletes children first. It may be called while the tenant works. Rows that cannot be applied
// yet, because they exchange the values of a unique constraint or refer to each other, are left for the next pass; so only a pass without differences
// is the proof that the databases agree. If a pass can apply nothing, the copy is deleted, once in a run, and made again by the next pass; a second
// time the error of PostgreSQL is returned.
func (r *TransferRun) Pass(ctx context.Context) (TransferPass, error) {
	if err := r.prepare(ctx); err != nil {
		return TransferPass{}, err
	}
	p := &passing{TransferRun: r, sum: sha256.New(), gone: map[*transferTable][][][]byte{}, again: map[*transferTable][][][]byte{}}
	err := r.from.inTransaction(ctx, beginReading, func() error { return p.run(ctx) })
	if err == nil && p.applied == 0 && p.failed != nil && !p.startedOver {
		if err = p.startOver(ctx); err == nil {
			return p.TransferPass, nil
		}
	}
	if err == nil && p.applied == 0 && p.failed != nil {
		err = fmt.Errorf("%w: rows at the target cannot be made those of the source: %w", errStray, explain(p.failed))
	}
	if p.Differences() == 0 {
		p.Fingerprint = hex.EncodeToString(p.sum.Sum(nil))
	}
	r.to.rows += p.applied
	return p.TransferPass, err
}

// maxLeft bounds the keys that a pass keeps in memory. What is beyond is left for the next one.
const maxLeft = 500_000

// passing is a pass.
type passing struct {
	*TransferRun
	TransferPass
	sum         hash.Hash
	gone, again map[*transferTable][][][]byte // keys of rows to delete, and of those that could not be applied
	left        int
	applied     int64
	failed      error // why rows could not be applied
}

func (p *passing) run(ctx context.Context) error {
	for n := 0; n < len(p.tables); {
		group := p.groupAt(n)
		n += len(group)
		if err := p.write(ctx, group, func() error {
			for _, t := range group {
				if err := p.table(ctx, t); err != nil {
					return fmt.Errorf("%s: %w", t.name(), explain(err))
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, t := range slices.Backward(p.tables) {
		if len(p.gone[t]) == 0 {
			continue
		}
		if err := p.write(ctx, nil, func() error { return p.remove(ctx, t) }); err != nil {
			return fmt.Errorf("%s: %w", t.name(), explain(err))
		}
	}
	for _, t := range p.tables {
		if len(p.again[t]) == 0 {
			continue
		}
		if err := p.write(ctx, nil, func() error { return p.oneByOne(ctx, t) }); err != nil {
			return fmt.Errorf("%s: %w", t.name(), explain(err))
		}
	}
	return nil
}

// groupAt returns the tables of a group, which begins at n.
func (p *passing) groupAt(n int) []*transferTable {
	for _, group := range p.from.scope.group {
		if slices.Contains(group, p.tables[n].relation) {
			return p.tables[n : n+len(group)]
		}
	}
	return p.tables[n : n+1]
}

// write runs do in a transaction at the target. In a circle of tables, constraints that can wait for its end do.
func (p *passing) write(ctx context.Context, group []*transferTable, do func() error) error {
	return p.to.inTransaction(ctx, beginWriting, func() error {
		constraints := "SET CONSTRAINTS ALL IMMEDIATE" // what is refused is then seen at once, and tried otherwise
		if slices.ContainsFunc(group, func(t *transferTable) bool { return t.circle }) {
			constraints = "SET CONSTRAINTS ALL DEFERRED"
		}
		if err := p.to.exec(ctx, constraints); err != nil {
			return err
		}
		return do()
	})
}

// entry is a row as it is compared.
type entry struct {
	key  [][]byte
	hash []byte
}

// table compares a table, and applies inserts and updates.
func (p *passing) table(ctx context.Context, t *transferTable) error {
	p.from.progress(t.name(), 0, 0)
	same, err := p.stillEqual(ctx, t)
	if err != nil || same {
		return err
	}
	seen := agreement{sum: sha256.New()}
	if seen.source, err = p.from.horizon(ctx); err != nil {
		return err
	}
	if seen.target, err = p.to.horizon(ctx); err != nil {
		return err
	}
	source, target := &stream{s: p.from, table: t, from: t.from()}, &stream{s: p.to, table: t, from: t.to.from()}
	if err := target.open(ctx); err != nil {
		return err
	}
	if err := target.fill(ctx); err != nil {
		return err
	}
	if len(target.rows) == 0 {
		if err := target.close(ctx); err != nil {
			return err
		}
		return p.copyAll(ctx, t)
	}
	if err := source.open(ctx); err != nil {
		return err
	}
	before := p.Differences()
	inserts, updates := &keyBatch{p: p, table: t, insert: true}, &keyBatch{p: p, table: t}
	done := int64(0)
	for {
		a, b, err := both(ctx, source, target)
		if err != nil {
			return err
		}
		if a == nil && b == nil {
			break
		}
		order := t.compare(a, b)
		if order <= 0 { // there is a row at the source
			p.Rows++
			p.from.rows++
			hashEntry(seen.sum, a)
			seen.rows++
			if done++; done%reportEvery == 0 {
				p.from.progress(t.name(), done, 0)
			}
			source.next++
		}
		if order >= 0 {
			target.next++
		}
		switch {
		case order > 0:
			p.Deleted++
			p.leave(p.gone, t, b.key)
		case order < 0:
			err = inserts.add(ctx, a.key)
		case !bytes.Equal(a.hash, b.hash):
			err = updates.add(ctx, a.key)
		}
		if err != nil {
			return err
		}
	}
	for _, finish := range []func(context.Context) error{inserts.flush, updates.flush, source.close, target.close} {
		if err := finish(ctx); err != nil {
			return err
		}
	}
	if p.Differences() == before {
		p.agreed[t] = seen
		p.addSum(t, seen.sum)
	}
	return nil
}

// agreement is what a pass has seen of a table in which nothing differed.
type agreement struct {
	source, target string // horizons before it was read
	rows           int64
	sum            hash.Hash
}

// horizon returns a transaction id: what transactions before it have done is visible, and each row that is written from now on has this id or a later one.
func (s *session) horizon(ctx context.Context) (string, error) {
	row, err := s.row(ctx, "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text")
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// stillEqual reports whether a table in which nothing differed has not changed since, on both servers: there are as many rows, and none was
// written after the horizon. So none was deleted either, and their values need not be read again. Of rows that are so old that their transaction
// ids are in use again, some may be taken for new ones; then the table is compared.
func (p *passing) stillEqual(ctx context.Context, t *transferTable) (bool, error) {
	seen, ok := p.agreed[t]
	if !ok {
		return false, nil
	}
	for _, side := range []struct {
		s             *session
		from, horizon string
	}{{p.from, t.from(), seen.source}, {p.to, t.to.from(), seen.target}} {
		query := fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE pg_catalog.age(t.xmin) <= pg_catalog.age($2::text::xid8::xid)) FROM %s t WHERE t.%s", side.from, t.condition())
		row, err := side.s.row(ctx, query, side.s.tenant, side.horizon)
		if err != nil {
			return false, err
		}
		if string(row[0]) != strconv.FormatInt(seen.rows, 10) || string(row[1]) != "0" {
			delete(p.agreed, t)
			return false, nil
		}
	}
	p.Rows += seen.rows
	p.addSum(t, seen.sum)
	return true, nil
}

// addSum adds the hash of a table to the fingerprint.
func (p *passing) addSum(t *transferTable, sum hash.Hash) {
	fmt.Fprintf(p.sum, "%q %x\n", t.name(), sum.Sum(nil))
}

func hashEntry(sum hash.Hash, e *entry) {
	for _, k := range e.key {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(k)))
		sum.Write(length[:])
		sum.Write(k)
	}
	sum.Write(e.hash)
}

// fingerprint is the fingerprint of a pass without differences.
func (r *TransferRun) fingerprint(ctx context.Context) (string, error) {
	sum := sha256.New()
	for _, t := range r.tables {
		source := &stream{s: r.from, table: t, from: t.from()}
		if err := source.open(ctx); err != nil {
			return "", fmt.Errorf("%s: %w", t.name(), explain(err))
		}
		of := sha256.New()
		for {
			if err := source.fill(ctx); err != nil {
				return "", fmt.Errorf("%s: %w", t.name(), explain(err))
			}
			e := source.current()
			if e == nil {
				break
			}
			hashEntry(of, e)
			source.next++
		}
		fmt.Fprintf(sum, "%q %x\n", t.name(), of.Sum(nil))
		if err := source.close(ctx); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// refuse remembers why rows could not be applied. A key that is taken is the cause of references that are missing, and not the other way round.
func (p *passing) refuse(err error) {
	var is, was *pgconn.PgError
	if p.failed == nil || errors.As(err, &is) && errors.As(p.failed, &was) && is.Code == "23505" && was.Code != "23505" {
		p.failed = err
	}
}

// leave remembers a key.
func (p *passing) leave(in map[*transferTable][][][]byte, t *transferTable, key [][]byte) {
	if p.left < maxLeft {
		p.left++
		in[t] = append(in[t], key)
	}
}

// isNumber reports whether the texts of a column are integers, which are compared as such.
func (c column) isNumber() bool {
	return c.Base == "smallint" || c.Base == "integer" || c.Base == "bigint"
}

// compare orders rows as PostgreSQL does by orderBy. A row that is not there comes last.
func (t *transferTable) compare(a, b *entry) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	for n, c := range t.key {
		order := bytes.Compare(a.key[n], b.key[n])
		if c.isNumber() {
			x, _ := strconv.ParseInt(string(a.key[n]), 10, 64) // PostgreSQL wrote them
			y, _ := strconv.ParseInt(string(b.key[n]), 10, 64)
			order = cmp.Compare(x, y)
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// orderBy is an order that this package knows as well: integers, UUIDs, whose texts are in the order of their values, and bytes of texts.
func (t *transferTable) orderBy() string {
	list := make([]string, len(t.key))
	for n, c := range t.key {
		switch list[n] = "t." + sqltext.Ident(c.Name); { // and not the text of that name in the result
		case c.isNumber() || c.Base == "uuid":
		case c.Base == "text" || c.Base == "character varying":
			list[n] += ` COLLATE "C"`
		default:
			list[n] += `::text COLLATE "C"`
		}
	}
	return strings.Join(list, ", ")
}

// stream reads the rows of a table through a cursor, so that the connection can do something else in between.
type stream struct {
	s        *session
	table    *transferTable
	from     string
	rows     []entry
	next     int
	finished bool
}

const (
	cursorName = "tenancy_transfer"
	cursorRows = 5000
)

func (c *stream) open(ctx context.Context) error {
	columns := make([]string, len(c.table.key))
	for n, k := range c.table.key {
		columns[n] = sqltext.Ident(k.Name) + "::text"
	}
	query := fmt.Sprintf("DECLARE %s NO SCROLL CURSOR FOR SELECT %s, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(ROW(%s)::text, 'UTF8')), 'base64') FROM %s t WHERE t.%s ORDER BY %s",
		cursorName, strings.Join(columns, ", "), sqltext.Idents(columnNames(c.table.columns)), c.from, c.table.condition(), c.table.orderBy())
	if err := c.s.exec(ctx, "SET LOCAL cursor_tuple_fraction = 1"); err != nil {
		return err
	}
	return c.s.each(ctx, query, func([][]byte) error { return nil }, c.s.tenant)
}

func (c *stream) close(ctx context.Context) error { return c.s.exec(ctx, "CLOSE "+cursorName) }

// fill reads the next rows, if all are used.
func (c *stream) fill(ctx context.Context) error {
	if c.next < len(c.rows) || c.finished {
		return nil
	}
	c.rows, c.next = c.rows[:0], 0
	err := c.s.each(ctx, fmt.Sprintf("FETCH FORWARD %d FROM %s", cursorRows, cursorName), func(row [][]byte) error {
		values := copied(row)
		c.rows = append(c.rows, entry{key: values[:len(values)-1], hash: values[len(values)-1]})
		return nil
	})
	c.finished = len(c.rows) < cursorRows
	return err
}

func (c *stream) current() *entry {
	if c.next < len(c.rows) {
		return &c.rows[c.next]
	}
	return nil
}

// both reads from two servers at the same time.
func both(ctx context.Context, a, b *stream) (*entry, *entry, error) {
	if a.next < len(a.rows) && b.next < len(b.rows) {
		return &a.rows[a.next], &b.rows[b.next], nil
	}
	done := make(chan error, 1)
	go func() { done <- a.fill(ctx) }()
	err := errors.Join(b.fill(ctx), <-done)
	return a.current(), b.current(), err
}

// copyAll copies the rows of a table that has none at the target.
func (p *passing) copyAll(ctx context.Context, t *transferTable) error {
	before := p.Inserted
	b := &rowBatch{p: p, table: t, insert: true}
	query := fmt.Sprintf("SELECT %s FROM %s t WHERE t.%s ORDER BY %s", sqltext.Idents(columnNames(t.columns)), t.from(), t.condition(), t.orderBy())
	err := p.from.each(ctx, query, func(row [][]byte) error {
		p.Rows++
		p.from.rows++
		p.Inserted++
		if b.done++; b.done%reportEvery == 0 {
			p.from.progress(t.name(), b.done, 0)
		}
		return b.add(ctx, copied(row))
	}, p.from.tenant)
	if p.Inserted == before { // both are empty
		p.addSum(t, sha256.New())
	}
	return errors.Join(err, ifNone(err, func() error { return b.flush(ctx) }))
}

// keyBatch collects the keys of rows to bring over.
type keyBatch struct {
	p      *passing
	table  *transferTable
	insert bool
	keys   [][][]byte
}

func (b *keyBatch) add(ctx context.Context, key [][]byte) error {
	if b.insert {
		b.p.Inserted++
	} else {
		b.p.Updated++
	}
	if b.keys = append(b.keys, key); len(b.keys) < batchRows {
		return nil
	}
	return b.flush(ctx)
}

func (b *keyBatch) flush(ctx context.Context) error {
	if len(b.keys) == 0 {
		return nil
	}
	rows := &rowBatch{p: b.p, table: b.table, insert: b.insert}
	err := b.p.fetch(ctx, b.table, b.keys, rows.add)
	b.keys = nil
	return errors.Join(err, ifNone(err, func() error { return rows.flush(ctx) }))
}

// fetch reads rows of the source by their keys, in the snapshot of the pass.
func (p *passing) fetch(ctx context.Context, t *transferTable, keys [][][]byte, do func(ctx context.Context, row [][]byte) error) error {
	columns := make([]string, len(t.columns))
	for n, c := range t.columns {
		columns[n] = "t." + sqltext.Ident(c.Name)
	}
	values, condition := keysOf(t.key, t.key, len(keys))
	query := fmt.Sprintf("SELECT %s FROM %s t, %s WHERE t.%s AND %s", strings.Join(columns, ", "), t.from(), values, t.condition(), condition)
	args := append([][]byte{[]byte(p.from.tenant)}, slices.Concat(keys...)...)
	return p.from.eachOf(ctx, query, func(row [][]byte) error { return do(ctx, copied(row)) }, args)
}

// keysOf is a table k of parameters from $2 on in SQL, and the condition that a row t has one of its keys. Each column of the key is compared with all of its
// values besides: a server without statistics, such as one that the rows have just come to, would otherwise read the table once for each key.
func keysOf(columns, key []column, rows int) (values, condition string) {
	var list []string
	for n, c := range columns {
		if !slices.ContainsFunc(key, func(k column) bool { return k.Name == c.Name }) {
			continue
		}
		all := make([]string, rows)
		for row := range all {
			all[row] = fmt.Sprintf("$%d::text::%s", 2+row*len(columns)+n, c.Type)
		}
		name := sqltext.Ident(c.Name)
		list = append(list, fmt.Sprintf("t.%s = k.%[1]s AND t.%[1]s = ANY (ARRAY[%s])", name, strings.Join(all, ", ")))
	}
	return valuesAs("k", columns, rows, 2), strings.Join(list, " AND ")
}

// rowBatch collects rows to write.
type rowBatch struct {
	p      *passing
	table  *transferTable
	insert bool
	rows   [][][]byte
	bytes  int
	done   int64
}

func (b *rowBatch) add(ctx context.Context, row [][]byte) error {
	b.rows = append(b.rows, row)
	for _, v := range row {
		b.bytes += len(v)
	}
	if len(b.rows) < min(batchRows, maxParameters/len(row)) && b.bytes < batchBytes {
		return nil
	}
	return b.flush(ctx)
}

// maxParameters is below the number of parameters that a statement can have, 65,535.
const maxParameters = 60_000

// flush writes rows by one statement. Those that foreign keys or unique constraints refuse are tried again later, without the references that
// may be NULL where they are what is refused: the next pass sets them.
func (b *rowBatch) flush(ctx context.Context) error {
	if len(b.rows) == 0 {
		return nil
	}
	rows := b.rows
	b.rows, b.bytes = nil, 0
	refused, err := b.p.put(ctx, b.table, rows, b.insert)
	if err == nil && refused != nil && b.insert && b.table.circle {
		refused, err = b.p.put(ctx, b.table, b.p.withoutReferences(b.table, rows), true)
	}
	if err != nil || refused == nil {
		return err
	}
	b.p.refuse(refused)
	for _, row := range rows {
		b.p.leave(b.p.again, b.table, b.table.keyOf(row))
	}
	return nil
}

func (t *transferTable) keyOf(row [][]byte) [][]byte {
	key := make([][]byte, len(t.key))
	for n, c := range t.key {
		key[n] = row[slices.IndexFunc(t.columns, func(o column) bool { return o.Name == c.Name })]
	}
	return key
}

// withoutReferences returns the rows with NULL in place of references to rows of the same group, where that may be.
func (p *passing) withoutReferences(t *transferTable, rows [][][]byte) [][][]byte {
	late := &target{relation: t.relation, columns: t.columns, late: make([]bool, len(t.columns))}
	for _, f := range t.ForeignKeys {
		to := p.from.scope.find(f.Schema, f.Table)
		for _, group := range p.from.scope.group {
			if slices.Contains(group, t.relation) && slices.Contains(group, to) {
				late.makeLate(f)
			}
		}
	}
	list := make([][][]byte, len(rows))
	for n, row := range rows {
		list[n] = slices.Clone(row)
		for k := range row {
			if late.late[k] {
				list[n][k] = nil
			}
		}
	}
	return list
}

// put writes rows, all or none. What foreign keys and unique constraints refuse is no error.
func (p *passing) put(ctx context.Context, t *transferTable, rows [][][]byte, insert bool) (refused, err error) {
	query, args := t.insertSQL(rows), slices.Concat(rows...)
	if !insert {
		if query = t.updateSQL(len(rows)); query == "" {
			return nil, nil
		}
		args = append([][]byte{[]byte(p.to.tenant)}, args...)
	}
	if refused, err = p.attempt(ctx, query, args); refused == nil && err == nil {
		p.applied += int64(len(rows))
	}
	return refused, err
}

// attempt runs a statement at the target, and takes it back if constraints refuse it. Triggers get the search_path that they are used to.
func (p *passing) attempt(ctx context.Context, query string, args [][]byte) (refused, err error) {
	if err := p.to.exec(ctx, "SAVEPOINT transfer; "+triggersPath); err != nil {
		return nil, err
	}
	err = p.to.eachOf(ctx, query, func([][]byte) error { return nil }, args)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil, p.to.exec(ctx, plainPath+"; RELEASE transfer")
	case errors.As(err, &pg) && slices.Contains(refusals, pg.Code):
		return err, p.to.exec(ctx, "ROLLBACK TO transfer; RELEASE transfer")
	default:
		return nil, err
	}
}

// refusals are the errors of foreign keys, unique, check and exclusion constraints, which rows that are applied in another order may pass.
var refusals = []string{"23503", "23505", "23514", "23P01"}

func (t *transferTable) insertSQL(rows [][][]byte) string {
	lists := make([]string, len(rows))
	for n := range rows {
		lists[n] = "(" + parameters(1+n*len(t.columns), len(t.columns)) + ")"
	}
	return fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES %s", t.to.quoted(), sqltext.Idents(columnNames(t.columns)), strings.Join(lists, ", "))
}

// updateSQL is empty if there is nothing beside the key.
func (t *transferTable) updateSQL(rows int) string {
	var set []string
	for _, c := range t.columns {
		if c.Name != t.relation.key.Name && !slices.Contains(t.Primary, c.Name) {
			set = append(set, fmt.Sprintf("%s = k.%[1]s", sqltext.Ident(c.Name)))
		}
	}
	if len(set) == 0 {
		return ""
	}
	values, condition := keysOf(t.columns, t.key, rows)
	return fmt.Sprintf("UPDATE %s t SET %s FROM %s WHERE t.%s AND %s", t.to.from(), strings.Join(set, ", "), values, t.condition(), condition)
}

// parkSQL takes what may be NULL from rows. It is empty if there is no such column, or no row.
func (t *transferTable) parkSQL(rows int) string {
	var set []string
	for _, c := range t.to.stored() {
		if c.Name != t.relation.key.Name && !slices.Contains(t.Primary, c.Name) && !c.NotNull {
			set = append(set, sqltext.Ident(c.Name)+" = NULL")
		}
	}
	if len(set) == 0 || rows == 0 {
		return ""
	}
	values, condition := keysOf(t.key, t.key, rows)
	return fmt.Sprintf("UPDATE %s t SET %s FROM %s WHERE t.%s AND %s", t.to.from(), strings.Join(set, ", "), values, t.condition(), condition)
}

func (t *transferTable) deleteSQL(rows int) string {
	values, condition := keysOf(t.key, t.key, rows)
	return fmt.Sprintf("DELETE FROM %s t USING %s WHERE t.%s AND %s", t.to.from(), values, t.condition(), condition)
}

// valuesAs is a table of parameters in SQL, with the names and types of columns; the first parameter is $from.
func valuesAs(alias string, columns []column, rows, from int) string {
	lists := make([]string, rows)
	for n := range lists {
		list := make([]string, len(columns))
		for k, c := range columns {
			list[k] = fmt.Sprintf("$%d::text::%s", from+n*len(columns)+k, c.Type)
		}
		lists[n] = "(" + strings.Join(list, ", ") + ")"
	}
	return fmt.Sprintf("(VALUES %s) %s (%s)", strings.Join(lists, ", "), alias, sqltext.Idents(columnNames(columns)))
}

// remove deletes rows that are gone at the source. Those that are still referred to are tried again by the next pass.
func (p *passing) remove(ctx context.Context, t *transferTable) error {
	for keys := range slices.Chunk(p.gone[t], batchRows) {
		refused, err := p.delete(ctx, t, keys)
		if err != nil {
			return err
		}
		if refused != nil {
			p.refuse(refused)
			p.Unresolved += int64(len(keys))
			continue
		}
		p.applied += int64(len(keys))
	}
	return nil
}

func (p *passing) delete(ctx context.Context, t *transferTable, keys [][][]byte) (refused, err error) {
	return p.attempt(ctx, t.deleteSQL(len(keys)), append([][]byte{[]byte(p.to.tenant)}, slices.Concat(keys...)...))
}

// oneByOne tries rows again, each by itself. The rest exchanges values with each other: they are deleted together, and inserted.
func (p *passing) oneByOne(ctx context.Context, t *transferTable) error {
	for keys := range slices.Chunk(p.again[t], batchRows) {
		var rest [][][]byte
		err := p.fetch(ctx, t, keys, func(ctx context.Context, row [][]byte) error { rest = append(rest, row); return nil })
		if err != nil {
			return err
		}
		there, err := p.present(ctx, t, keys)
		if err != nil {
			return err
		}
		var still [][][]byte
		for _, row := range rest {
			refused, err := p.put(ctx, t, [][][]byte{row}, !there[keyText(t.keyOf(row))])
			if err != nil {
				return err
			}
			if refused != nil {
				p.refuse(refused)
				still = append(still, row)
			}
		}
		if err := p.exchange(ctx, t, still, there); err != nil {
			return err
		}
	}
	return nil
}

// exchange writes rows that are in each other's way. Those that are at the target give up what may be NULL first; if that does not help,
// all are deleted, and inserted again.
func (p *passing) exchange(ctx context.Context, t *transferTable, rows [][][]byte, there map[string]bool) error {
	if len(rows) == 0 {
		return nil
	}
	var keys, old [][][]byte
	for _, row := range rows {
		key := t.keyOf(row)
		if keys = append(keys, key); there[keyText(key)] {
			old = append(old, key)
		}
	}
	size := max(1, min(batchRows, maxParameters/len(t.columns)))
	put := func(insert func(row [][]byte) bool) (refused, err error) {
		for _, inserted := range []bool{false, true} {
			list := slices.DeleteFunc(slices.Clone(rows), func(row [][]byte) bool { return insert(row) != inserted })
			for chunk := range slices.Chunk(list, size) {
				if refused, err = p.put(ctx, t, chunk, inserted); refused != nil || err != nil {
					return refused, err
				}
			}
		}
		return nil, nil
	}
	park := t.parkSQL(len(old))
	done := false
	if park != "" {
		refused, err := p.together(ctx, func() (refused, err error) {
			if refused, err = p.attempt(ctx, park, append([][]byte{[]byte(p.to.tenant)}, slices.Concat(old...)...)); refused != nil || err != nil {
				return refused, err
			}
			return put(func(row [][]byte) bool { return !there[keyText(t.keyOf(row))] })
		})
		if err != nil {
			return err
		}
		done = refused == nil
	}
	if done {
		return nil
	}
	refused, err := p.together(ctx, func() (refused, err error) {
		if refused, err = p.delete(ctx, t, keys); refused != nil || err != nil {
			return refused, err
		}
		return put(func([][]byte) bool { return true })
	})
	if refused != nil {
		p.refuse(refused)
		p.Unresolved += int64(len(rows))
	}
	return err
}

// together runs several statements at the target, all or none.
func (p *passing) together(ctx context.Context, do func() (refused, err error)) (refused, err error) {
	applied := p.applied
	if err := p.to.exec(ctx, "SAVEPOINT exchange"); err != nil {
		return nil, err
	}
	refused, err = do()
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		p.applied = applied
		return refused, p.to.exec(ctx, "ROLLBACK TO exchange; RELEASE exchange")
	}
	return nil, p.to.exec(ctx, "RELEASE exchange")
}

// startOver deletes all rows of the tenant at the target, children first, which always can be done, so that the next pass copies them all.
func (p *passing) startOver(ctx context.Context) error {
	p.startedOver = true
	return p.to.inTransaction(ctx, beginWriting, func() error {
		if err := p.to.exec(ctx, triggersPath); err != nil {
			return err
		}
		for _, group := range slices.Backward(p.to.scope.group) {
			parts := make([]string, len(group))
			for n, r := range group {
				parts[n] = fmt.Sprintf("d%d AS (DELETE FROM %s WHERE %s)", n, r.from(), r.condition())
			}
			if err := p.to.each(ctx, "WITH "+strings.Join(parts, ", ")+" SELECT", func([][]byte) error { return nil }, p.to.tenant); err != nil {
				return fmt.Errorf("%s: %w", group[0].name(), explain(err))
			}
		}
		return nil
	})
}

// present returns which keys are at the target.
func (p *passing) present(ctx context.Context, t *transferTable, keys [][][]byte) (map[string]bool, error) {
	columns := make([]string, len(t.key))
	for n, c := range t.key {
		columns[n] = "t." + sqltext.Ident(c.Name) + "::text"
	}
	there := map[string]bool{}
	values, condition := keysOf(t.key, t.key, len(keys))
	query := fmt.Sprintf("SELECT %s FROM %s t, %s WHERE t.%s AND %s", strings.Join(columns, ", "), t.to.from(), values, t.condition(), condition)
	err := p.to.eachOf(ctx, query, func(row [][]byte) error {
		there[keyText(row)] = true
		return nil
	}, append([][]byte{[]byte(p.to.tenant)}, slices.Concat(keys...)...))
	return there, err
}

func keyText(key [][]byte) string { return fmt.Sprintf("%q", key) }

// copied returns values that stay valid.
func copied(row [][]byte) [][]byte {
	list := make([][]byte, len(row))
	for n, v := range row {
		if v != nil {
			list[n] = append([]byte{}, v...)
		}
	}
	return list
}
