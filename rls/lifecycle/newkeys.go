package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// New primary keys are the old ones after one step that leads back: numbers are moved by a distance into a range that their sequence gives out
// to no other, and UUIDs have bits changed by a mask. So no list of keys is needed, references of any shape follow by the same step, and rows can be
// compared with the file.

// newKey is what a column's values become.
type newKey struct {
	distance int64
	mask     []byte // 16 bytes, of a UUID; nil for a number
	limit    int64  // the largest number of the type
}

// newKeys has the columns with new values, by table and column.
type newKeys map[string]newKey

func keyName(r *relation, column string) string { return r.name() + "\x00" + column }

// forward and back make the new value and the old one.
func (k newKey) forward(value string) (string, error) { return k.step(value, k.distance) }
func (k newKey) back(value string) (string, error)    { return k.step(value, -k.distance) }

var errNewKey = fmt.Errorf("%w: a key is not a value of its type", ErrArchive)

func (k newKey) step(value string, distance int64) (string, error) {
	if k.mask != nil {
		return maskUUID(value, k.mask)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return "", errNewKey
	}
	if distance > 0 && n > k.limit-distance || distance < 0 && n < math.MinInt64-distance {
		return "", fmt.Errorf("%w: new keys are beyond the range of their type", ErrConflict)
	}
	return strconv.FormatInt(n+distance, 10), nil
}

func maskUUID(value string, mask []byte) (string, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(value, "-", ""))
	if err != nil || len(id) != len(mask) {
		return "", errNewKey
	}
	for n := range id {
		id[n] ^= mask[n]
	}
	h := hex.EncodeToString(id)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-"), nil
}

// translate changes the values of a row.
func (k newKeys) translate(r *relation, columns []column, values [][]byte, step func(newKey, string) (string, error)) error {
	if k == nil {
		return nil
	}
	for n, c := range columns {
		key, ok := k[keyName(r, c.Name)]
		if !ok || values[n] == nil {
			continue
		}
		value, err := step(key, string(values[n]))
		if err != nil {
			return fmt.Errorf("column %s: %w", sqltext.Ident(c.Name), err)
		}
		values[n] = []byte(value)
	}
	return nil
}

// rowsSum is a sum of the SHA-256 of rows, whatever their order.
type rowsSum [4]uint64

func (s *rowsSum) add(line []byte) {
	sum := sha256.Sum256(line)
	var carry uint64
	for n := range s {
		s[n], carry = bits.Add64(s[n], binary.LittleEndian.Uint64(sum[8*n:]), carry)
	}
}

// Write adds a whole line.
func (s *rowsSum) Write(line []byte) (int, error) {
	s.add(line)
	return len(line), nil
}

// readCopy reads the rows of the tenant with the keys that they have in the file.
func (s *session) readCopy(ctx context.Context, r *relation, columns []column, as string, keys newKeys) (Table, rowsSum, error) {
	var sum rowsSum
	found, err := s.readRows(ctx, r, columns, r.condition(), []string{s.tenant}, as, keys, &sum)
	return found, sum, err
}

// root is a column that gets new values by itself, and what the file has in it.
type root struct {
	*relation
	column   column
	min, max int64 // of a number
	some     bool
}

// roots finds the columns with new values, and where each gets them from.
func (i *importing) roots() (roots map[string]*root, from map[string]*root, err error) {
	roots, from = map[string]*root{}, map[string]*root{}
	for _, t := range i.tables {
		for _, c := range t.columns {
			found, err := i.rootOf(t.relation, c.Name, nil)
			if err != nil {
				return nil, nil, err
			}
			if found == nil {
				continue
			}
			name := keyName(found.relation, found.column.Name)
			if roots[name] == nil {
				roots[name] = found
			}
			from[keyName(t.relation, c.Name)] = roots[name]
		}
	}
	return roots, from, nil
}

// rootOf follows foreign keys from a column to the one that it takes its values from.
func (i *importing) rootOf(r *relation, name string, path []string) (*root, error) {
	if r.key.Name == name || slices.Contains(path, keyName(r, name)) {
		return nil, nil
	}
	path = append(path, keyName(r, name))
	var found *root
	refers := false
	for _, f := range r.ForeignKeys {
		to := i.scope.find(f.Schema, f.Table)
		for n, c := range f.Columns {
			if c != name || !slices.ContainsFunc(i.tables, func(t *target) bool { return t.relation == to }) {
				continue
			}
			refers = refers || to != r || f.Keys[n] != name
			other, err := i.rootOf(to, f.Keys[n], path)
			if err != nil {
				return nil, err
			}
			if found != nil && other != nil && (found.relation != other.relation || found.column.Name != other.column.Name) {
				return nil, fmt.Errorf("%w: column %s of %s refers to two tables, whose keys would get different values", ErrConflict, sqltext.Ident(name), r.name())
			}
			if other != nil {
				found = other
			}
		}
	}
	c := r.column(name)
	switch {
	case found != nil || refers:
		return found, nil
	case !slices.Contains(r.Primary, name) || slices.Contains(r.Primary, r.key.Name):
		return nil, nil
	case c.Base == "uuid" || len(c.Sequences) == 1 && numberLimit(c.Base) > 0:
		return &root{relation: r, column: *c}, nil
	}
	return nil, nil
}

func numberLimit(base string) int64 {
	switch base {
	case "smallint":
		return math.MaxInt16
	case "integer":
		return math.MaxInt32
	case "bigint":
		return math.MaxInt64
	}
	return 0
}

// measure reads the file for the ranges of keys and the rows that have keys which stay, and which do not include the tenant.
func (i *importing) measure(from map[string]*root) (sums map[string]rowsSum, clashes []string, err error) {
	sums = map[string]rowsSum{}
	for _, t := range slices.SortedFunc(slices.Values(i.tables), func(a, b *target) int { return a.index - b.index }) {
		staying := i.staying(t, from)
		has := make([]bool, len(staying))
		var sum rowsSum
		err := i.archive.table(t.index, func(line []byte) error {
			sum.add(line)
			values := make([][]byte, len(t.columns))
			if err := parseRow(line, t.columns, values); err != nil {
				return err
			}
			for n, c := range t.columns {
				key := from[keyName(t.relation, c.Name)]
				if key == nil || values[n] == nil || key.relation != t.relation || key.column.Name != c.Name {
					continue
				}
				if err := key.see(string(values[n])); err != nil {
					return err
				}
			}
			for n, u := range staying {
				has[n] = has[n] || t.hasAll(u, values)
			}
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", t.name(), err)
		}
		sums[t.name()] = sum
		for n, u := range staying {
			if has[n] {
				clashes = append(clashes, sqltext.Ident(u.Name)+" of "+t.name())
			}
		}
	}
	return sums, clashes, nil
}

// staying are the unique indexes that neither include the tenant nor a column with new values.
func (i *importing) staying(t *target, from map[string]*root) []unique {
	var list []unique
	tenant := i.tenantColumns(t.relation, t.relation.Columns)
	for _, u := range t.Uniques {
		if !slices.ContainsFunc(u.Columns, func(name string) bool {
			n := slices.IndexFunc(t.relation.Columns, func(c column) bool { return c.Name == name })
			return n >= 0 && tenant[n] || from[keyName(t.relation, name)] != nil
		}) {
			list = append(list, u)
		}
	}
	return list
}

// hasAll reports whether a row has a value in all columns of an index: NULLs are not equal. An expression may have one.
func (t *target) hasAll(u unique, values [][]byte) bool {
	for _, name := range u.Columns {
		n := slices.IndexFunc(t.columns, func(c column) bool { return c.Name == name })
		if n >= 0 && values[n] == nil {
			return false
		}
	}
	return true
}

// see notes a number of the file.
func (r *root) see(value string) error {
	if r.column.Base == "uuid" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return errNewKey
	}
	if !r.some {
		r.min, r.max, r.some = n, n, true
	}
	r.min, r.max = min(r.min, n), max(r.max, n)
	return nil
}

// keyMask is the mask of UUIDs for a copy: always the same for a file and a tenant. It leaves the version, the variant and the time of a UUID.
func (i *importing) keyMask() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", i.archive.Tenant, i.archive.Snapshot, i.archive.Time, i.tenant))
	mask := append(bytes.Repeat([]byte{0}, 8), sum[:8]...)
	mask[8] &= 0x3F
	mask[15] |= 1 // which is never none
	return mask
}

// steps makes the new keys, with the distance of each root.
func (i *importing) steps(from map[string]*root, distance map[*root]int64) newKeys {
	keys := newKeys{}
	for name, r := range from {
		if r.column.Base == "uuid" {
			keys[name] = newKey{mask: i.keyMask()}
			continue
		}
		keys[name] = newKey{distance: distance[r], limit: numberLimit(r.column.Base)}
	}
	return keys
}

// reserveKeys finds the new keys for a file, and takes ranges of numbers from their sequences, in a transaction of its own: whether or not the
// import succeeds, no other gets them.
func (s *session) reserveKeys(ctx context.Context, a *archive) (keys newKeys, err error) {
	err = s.inTransaction(ctx, beginWriting, func() error {
		i := &importing{session: s, archive: a}
		if err := i.match(); err != nil {
			return err
		}
		if err := i.vacant(ctx); err != nil {
			return err
		}
		roots, from, err := i.roots()
		if err != nil {
			return err
		}
		_, clashes, err := i.measure(from)
		if err != nil {
			return err
		}
		if len(clashes) > 0 {
			return fmt.Errorf("%w: keys that stay do not include the tenant, so that the original has their values: %s: add the tenant to them, or leave the table out by Skip",
				ErrConflict, strings.Join(clashes, ", "))
		}
		distance := map[*root]int64{}
		if _, err := i.row(ctx, "SELECT pg_catalog.set_config('role', $1, true)", i.login); err != nil {
			return err
		}
		var names []string
		for name := range roots {
			names = append(names, name)
		}
		slices.Sort(names) // so that two runs lock sequences in the same order
		for _, name := range names {
			if r := roots[name]; r.some {
				if distance[r], err = i.reserve(ctx, r); err != nil {
					return fmt.Errorf("%s: take numbers of the sequence %s, which is its owner's right: %w", r.name(), r.column.Sequences[0], explain(err))
				}
			}
		}
		keys = i.steps(from, distance)
		return nil
	})
	return keys, err
}

// reserve takes a range of numbers, and returns how far it is from that of the file. ALTER SEQUENCE keeps others from the sequence until the
// transaction ends (https://www.postgresql.org/docs/current/sql-altersequence.html).
func (i *importing) reserve(ctx context.Context, r *root) (int64, error) {
	sequence := r.column.Sequences[0]
	increment, err := i.number(ctx, "SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = $1::pg_catalog.regclass", sequence)
	if err != nil {
		return 0, err
	}
	if increment < 1 {
		return 0, errors.New("it counts down")
	}
	if err := i.exec(ctx, fmt.Sprintf("ALTER SEQUENCE %s INCREMENT BY %d", sequence, increment)); err != nil {
		return 0, err
	}
	last, err := i.number(ctx, "SELECT last_value FROM "+sequence)
	if err != nil {
		return 0, err
	}
	span := uint64(r.max) - uint64(r.min) //nolint:gosec // the difference of two numbers, the larger first
	if limit := numberLimit(r.column.Base); last < 0 || r.min < 0 && last > limit+r.min || span >= uint64(limit-last) {
		return 0, fmt.Errorf("%w: the sequence has not as many numbers left", ErrConflict)
	}
	first := last + 1
	_, err = i.row(ctx, "SELECT pg_catalog.setval($1::pg_catalog.regclass, $2::bigint)", sequence, strconv.FormatInt(first+int64(span), 10)) //nolint:gosec // checked
	return first - r.min, err
}

// comparison is what a copy is compared by.
type comparison struct {
	keys newKeys
	sums map[string]rowsSum // of the rows of the file, by table
}

// compareKeys finds by which steps a copy may have got its keys: numbers by the distance of the smallest ones.
func (s *session) compareKeys(ctx context.Context, a *archive) (*comparison, error) {
	i := &importing{session: s, archive: a}
	if err := i.match(); err != nil {
		return nil, err
	}
	roots, from, err := i.roots()
	if err != nil {
		return nil, err
	}
	c := &comparison{}
	if c.sums, _, err = i.measure(from); err != nil {
		return nil, err
	}
	distance := map[*root]int64{}
	for _, r := range roots {
		if !r.some {
			continue
		}
		row, err := s.row(ctx, fmt.Sprintf("SELECT min(%s)::text FROM %s WHERE %s", sqltext.Ident(r.column.Name), r.from(), r.condition()), s.tenant)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name(), explain(err))
		}
		if row[0] != nil {
			lowest, err := strconv.ParseInt(string(row[0]), 10, 64)
			if err != nil {
				return nil, err
			}
			distance[r] = lowest - r.min
		}
	}
	c.keys = i.steps(from, distance)
	return c, nil
}
