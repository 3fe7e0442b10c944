package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
)

// subject is a run for one person.
type subject struct {
	*session
	declared []Holding
	key      string     // of the person
	holdings []*holding // those that find their rows by others come before them
	records  *relation  // of changes; nil where there are none, or they are left alone
}

// holding is a Holding that the catalog knows.
type holding struct {
	*relation
	Erasure
	Link
	omit   []string
	target *relation // that a Reference or Same leads to
	keys   []string  // its columns, as Link.columns
	found  []string  // what link finds rows by, before anything was erased: see subjectrecords.go
}

// run does the work for a person, after all that can be refused is refused.
func (s Subjects) run(ctx context.Context, op Operation, tenant, key string, do func(p *subject) error) error {
	return s.Tenants.run(ctx, op, tenant, func(session *session) error {
		session.request = s.Request
		switch {
		case strings.TrimSpace(s.Request) == "":
			return errors.New("Subjects.Request is empty: the record of a run names no person, so that it needs the number of the request")
		case key == "" || strings.ContainsRune(key, 0):
			return errors.New("the key of the person is empty")
		case len(s.Holdings) == 0:
			return errors.New("Subjects.Holdings are empty: they declare which tables hold what is about a person")
		}
		return do(&subject{session: session, declared: s.Holdings, key: key})
	})
}

// resolve finds the declared tables in the catalog, and refuses what is wrong or forgotten.
func (p *subject) resolve(ctx context.Context) error {
	p.holdings = nil
	for n, declared := range p.declared {
		h, err := p.holding(declared)
		if err != nil {
			return fmt.Errorf("Holdings[%d]: %w", n, err)
		}
		p.holdings = append(p.holdings, h)
	}
	for _, h := range p.holdings {
		if err := p.lead(h); err != nil {
			return err
		}
	}
	checks := []func() error{p.covered, p.reaches, p.sort}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	p.tables = len(p.holdings)
	if err := p.canonicalKey(ctx); err != nil {
		return err
	}
	return p.findRecords(ctx)
}

// tableOf finds the table of a model, or one by its name.
func (p *subject) tableOf(model any) (*relation, error) {
	name, byName := model.(string)
	if !byName {
		parsed, err := schema.Parse(model, &sync.Map{}, schema.NamingStrategy{})
		if err != nil {
			return nil, fmt.Errorf("model %T: %w", model, err)
		}
		name = parsed.Table
	}
	var found []*relation
	for _, r := range p.scope.tables() {
		if r.name() == name || !byName && r.Table == name {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("model %T: several schemas have a table %s: name it by Table", model, name)
	case byName:
		return nil, fmt.Errorf("there is no tenant table %s: write schema.table", name)
	}
	return nil, fmt.Errorf("model %T: there is no tenant table %s", model, name)
}

// holding checks a Holding by itself.
func (p *subject) holding(declared Holding) (*holding, error) {
	if (declared.Model == nil) == (declared.Table == "") {
		return nil, errors.New("name the table by Model or by Table")
	}
	model := declared.Model
	if model == nil {
		model = declared.Table
	}
	r, err := p.tableOf(model)
	if err != nil {
		return nil, err
	}
	h := &holding{relation: r, Erasure: declared.Erasure, Link: declared.Link, omit: declared.Omit}
	for _, name := range slices.Concat(declared.Omit, declared.Link.columns) {
		if c := r.column(name); c == nil {
			return nil, fmt.Errorf("%s has no column %s", r.name(), sqltext.Ident(name))
		}
	}
	switch {
	case h.Link.kind == 0 || len(h.Link.columns) == 0:
		return nil, fmt.Errorf("%s: Link says which rows: Key, Reference or Same", r.name())
	case h.Erasure.kind == 0:
		return nil, fmt.Errorf("%s: Erasure says what becomes of the rows: Delete, Anonymise, Retain or Unlink", r.name())
	}
	return h, h.checkErasure()
}

func (h *holding) checkErasure() error {
	switch h.Erasure.kind {
	case erasureRetain:
		switch {
		case strings.TrimSpace(h.basis) == "":
			return fmt.Errorf("%s: Retain needs the legal basis", h.name())
		case !h.until.IsZero() && !h.until.After(time.Now()):
			return fmt.Errorf("%s: what Retain says has ended on %s: say what becomes of the rows now", h.name(), h.until.Format(time.DateOnly))
		}
	case erasureUnlink:
		if h.Link.kind != linkReference || len(h.unlinked()) == 0 {
			return fmt.Errorf("%s: Unlink needs a Reference, of which a column can be NULL", h.name())
		}
	case erasureAnonymise:
		return h.checkValues()
	}
	return nil
}

// unlinked are the columns of the reference that become NULL.
func (h *holding) unlinked() []string {
	var list []string
	for _, name := range h.Link.columns {
		if c := h.column(name); !c.NotNull && !c.Generated && name != h.relation.key.Name && !slices.Contains(h.Primary, name) {
			list = append(list, name)
		}
	}
	return list
}

// checkValues refuses columns that are forgotten, and values that cannot be.
func (h *holding) checkValues() error {
	if len(h.Primary) == 0 {
		return fmt.Errorf("%s has no primary key, by which Anonymise finds rows again: give it one, or Delete", h.name())
	}
	for name, v := range h.values {
		c := h.column(name)
		switch {
		case c == nil:
			return fmt.Errorf("%s has no column %s", h.name(), sqltext.Ident(name))
		case v.kind == 0:
			return fmt.Errorf("%s: what becomes of column %s is Null, Fixed, Unique or Keep", h.name(), sqltext.Ident(name))
		case v.kind == valueKeep && strings.TrimSpace(v.text) == "":
			return fmt.Errorf("%s: Keep needs a reason for column %s", h.name(), sqltext.Ident(name))
		case v.kind == valueKeep:
		case c.Generated || slices.Contains(h.Primary, name) || name == h.relation.key.Name:
			return fmt.Errorf("%s: column %s belongs to the key, or is generated: it can only stay, or the row be deleted", h.name(), sqltext.Ident(name))
		case v.kind == valueNull && c.NotNull:
			return fmt.Errorf("%s: column %s cannot be NULL", h.name(), sqltext.Ident(name))
		case v.kind == valueUnique && v.of == nil:
			return fmt.Errorf("%s: Unique needs a function for column %s", h.name(), sqltext.Ident(name))
		}
	}
	var forgotten []string
	for _, c := range h.Columns {
		if _, named := h.values[c.Name]; !named && !c.Generated && !slices.Contains(h.Primary, c.Name) && c.Name != h.relation.key.Name {
			forgotten = append(forgotten, sqltext.Ident(c.Name))
		}
	}
	if len(forgotten) > 0 {
		return fmt.Errorf("%w: Anonymise does not say what becomes of %s of %s: name each, with Keep where it stays",
			ErrUndeclared, strings.Join(forgotten, ", "), h.name())
	}
	return nil
}

// lead finds where a Reference or Same leads to.
func (p *subject) lead(h *holding) (err error) {
	switch h.Link.kind {
	case linkSame:
		if h.target, err = p.tableOf(h.model); err != nil {
			return fmt.Errorf("%s: Same: %w", h.name(), err)
		}
		if h.keys = h.Link.keys; h.target.column(h.keys[0]) == nil {
			return fmt.Errorf("%s: Same: %s has no column %s", h.name(), h.target.name(), sqltext.Ident(h.keys[0]))
		}
	case linkReference:
		f := h.foreignKey()
		if f == nil {
			return fmt.Errorf("%s has no foreign key with the columns %s: use Same where there is none", h.name(), sqltext.Idents(h.Link.columns))
		}
		if h.target = p.scope.find(f.Schema, f.Table); h.target == nil {
			return fmt.Errorf("%s: the reference leads to no table", h.name())
		}
		h.keys, h.Link.columns = f.Keys, f.Columns
	default:
		return nil
	}
	if len(p.owners(h.target)) == 0 {
		return fmt.Errorf("%s leads to %s, of which no holding has rows of the person", h.name(), h.target.name())
	}
	return nil
}

// foreignKey is the one that a Reference names, with or without the tenant column.
func (h *holding) foreignKey() *foreignKey {
	for n, f := range h.ForeignKeys {
		same := true
		for _, c := range f.Columns {
			same = same && (slices.Contains(h.Link.columns, c) || c == h.relation.key.Name)
		}
		for _, c := range h.Link.columns {
			same = same && slices.Contains(f.Columns, c)
		}
		if same {
			return &h.ForeignKeys[n]
		}
	}
	return nil
}

// owners are the holdings that have rows of the person in a table.
func (p *subject) owners(r *relation) []*holding {
	var list []*holding
	for _, h := range p.holdings {
		if h.relation == r && h.owns() {
			list = append(list, h)
		}
	}
	return list
}

// covered refuses a foreign key to rows of the person that no holding is about.
func (p *subject) covered() error {
	for _, r := range p.scope.all {
		for _, f := range r.ForeignKeys {
			to := p.scope.find(f.Schema, f.Table)
			if to == nil || len(p.owners(to)) == 0 || p.Skip[r.name()] != "" {
				continue
			}
			if !slices.ContainsFunc(p.holdings, func(h *holding) bool { return h.isAbout(r, f, to) }) {
				return fmt.Errorf("%w: %s refers to %s by %s: declare it, as Unlink if its rows are about others, or leave the table out by Skip",
					ErrUndeclared, r.name(), to.name(), sqltext.Ident(f.Name))
			}
		}
	}
	return nil
}

// isAbout reports whether a holding goes along a foreign key, in its direction or back.
func (h *holding) isAbout(r *relation, f foreignKey, to *relation) bool {
	switch h.Link.kind {
	case linkReference:
		return h.relation == r && slices.Equal(h.Link.columns, f.Columns)
	case linkSame:
		return h.relation == to && h.target == r && slices.Contains(f.Columns, h.keys[0])
	}
	return false
}

// reaches refuses a foreign key by which PostgreSQL would change more than the holdings say, and columns that others refer to.
func (p *subject) reaches() error {
	for _, r := range p.scope.all {
		for _, f := range r.ForeignKeys {
			to := p.scope.find(f.Schema, f.Table)
			for _, h := range p.owners(to) {
				acts := f.OnDelete == "c" || f.OnDelete == "n" || f.OnDelete == "d"
				switch {
				case h.Erasure.kind == erasureDelete && acts && !p.scope.tellsTenants(r, f):
					return fmt.Errorf("%w: %s of %s does not include the tenant, and would delete or change rows of other tenants: let Migrate replace it",
						ErrBeyond, sqltext.Ident(f.Name), r.name())
				case h.Erasure.kind == erasureDelete && acts && !p.goesBefore(r, f):
					return fmt.Errorf("%w: %s of %s would delete or change rows that the holdings keep: drop ON DELETE, or delete or unlink the rows",
						ErrBeyond, sqltext.Ident(f.Name), r.name())
				}
				for _, key := range f.Keys {
					if v := h.values[key]; v.kind != 0 && v.kind != valueKeep {
						return fmt.Errorf("%w: %s of %s refers to column %s of %s: it can only stay", ErrBeyond, sqltext.Ident(f.Name), r.name(), sqltext.Ident(key), to.name())
					}
				}
			}
		}
	}
	return nil
}

// goesBefore reports whether all rows that refer by a foreign key are deleted or let go before those that they refer to.
func (p *subject) goesBefore(r *relation, f foreignKey) bool {
	retained := slices.ContainsFunc(p.holdings, func(h *holding) bool { return h.relation == r && h.Erasure.kind == erasureRetain })
	return !retained && slices.ContainsFunc(p.holdings, func(h *holding) bool {
		return h.relation == r && h.Link.kind == linkReference && slices.Equal(h.Link.columns, f.Columns) && h.letsGo()
	})
}

// letsGo reports whether no row refers by the holding's reference after it.
func (h *holding) letsGo() bool {
	switch h.Erasure.kind {
	case erasureDelete, erasureUnlink:
		return true
	case erasureAnonymise:
		return slices.ContainsFunc(h.Link.columns, func(c string) bool { return h.values[c].kind == valueNull })
	}
	return false
}

// sort brings the holdings in an order in which each still finds its rows: what is found by others goes first.
func (p *subject) sort() error {
	var (
		sorted []*holding
		visit  func(h *holding, path []*holding) error
	)
	visit = func(h *holding, path []*holding) error {
		switch {
		case slices.Contains(sorted, h):
			return nil
		case slices.Contains(path, h):
			return fmt.Errorf("%w: the rows of %s are found by rows that are found by them: use Unlink for references within a table", ErrCycle, h.name())
		}
		for _, other := range p.holdings {
			finds := other.target == h.relation && h.owns()
			if finds && other != h {
				if err := visit(other, append(slices.Clone(path), h)); err != nil {
					return err
				}
			}
			if finds && other == h {
				return visit(h, append(slices.Clone(path), h))
			}
		}
		sorted = append(sorted, h)
		return nil
	}
	// Of the holdings of a table, what only lets rows go comes first: PostgreSQL refuses to delete a row that another refers to.
	holdings := slices.Clone(p.holdings)
	slices.SortStableFunc(holdings, func(a, b *holding) int { return int(b.Erasure.kind) - int(a.Erasure.kind) })
	for _, h := range holdings {
		if err := visit(h, nil); err != nil {
			return err
		}
	}
	p.holdings = sorted
	return p.deletable()
}

// deletable refuses rows that are deleted before rows that refer to them.
func (p *subject) deletable() error {
	for n, h := range p.holdings {
		if h.Erasure.kind != erasureDelete {
			continue
		}
		for _, later := range p.holdings[n+1:] {
			for _, f := range later.ForeignKeys {
				if p.scope.find(f.Schema, f.Table) == h.relation && later.relation != h.relation && !p.goesBefore(later.relation, f) {
					return fmt.Errorf("%w: %s is found by %s, which refers to it: anonymise %[2]s instead of deleting it", ErrCycle, h.name(), later.name())
				}
			}
		}
	}
	return nil
}

// canonicalKey refuses a key that PostgreSQL writes otherwise: records of changes have it as a text.
func (p *subject) canonicalKey(ctx context.Context) error {
	for _, h := range p.holdings {
		if h.Link.kind != linkKey {
			continue
		}
		base := h.column(h.Link.columns[0]).Base
		row, err := p.row(ctx, "SELECT $1::text::"+base+"::text", p.key)
		if err != nil || string(row[0]) != p.key {
			return errors.Join(fmt.Errorf("%s: the key of the person is not what PostgreSQL writes of a value of type %s", h.name(), base), explain(err))
		}
	}
	return nil
}

// findRecords finds the table of records of changes, which the login must be able to change.
func (p *subject) findRecords(ctx context.Context) error {
	p.records = nil
	for _, r := range p.scope.kept {
		if r.Table != audit.Name || r.Kind != "p" || p.Skip[r.name()] != "" {
			continue
		}
		row, err := p.row(ctx, "SELECT (pg_catalog.has_table_privilege($1, $2::pg_catalog.regclass, 'SELECT') AND pg_catalog.has_table_privilege($1, $2::pg_catalog.regclass, 'UPDATE'))::text", p.login, r.quoted())
		if err != nil {
			return err
		}
		if string(row[0]) != "true" {
			return fmt.Errorf("the login cannot change %s, whose records hold old values of the person: log in as its owner, or leave it out by Skip", r.name())
		}
		p.records = r
	}
	return nil
}
