package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
)

// scope is what belongs to tenants in a database.
type scope struct {
	all   []*relation
	group [][]*relation // the tables of the run, parents first; tables in a circle of foreign keys are one group
	kept  []*relation   // tenant tables in Skip
	left  []Left
}

// tables are the tables of the run, parents first.
func (c *scope) tables() []*relation { return slices.Concat(c.group...) }

func (c *scope) find(schema, table string) *relation {
	for _, r := range c.all {
		if r.Schema == schema && r.Table == table {
			return r
		}
	}
	return nil
}

// roleQuery returns what roles the run can be: that of the login, and AppRole, $1, if the login may take it.
var roleQuery = `SELECT pg_catalog.json_build_object('current', current_user, 'origin', pg_catalog.current_setting('session_replication_role') = 'origin',
	'app', (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = $1 AND ` + policy.CanTake("session_user", "r.oid") + `))::text`

// findScope finds a role that the policies of all tables bind, and the tables.
func (s *session) findScope(ctx context.Context) error {
	var roles struct {
		Current, App string
		Origin       bool
	}
	if err := s.readJSON(ctx, &roles, roleQuery, s.config.AppRole); err != nil {
		return err
	}
	if !roles.Origin {
		return errors.New("session_replication_role is not origin: foreign keys would not be checked")
	}
	candidates := []string{roles.Current}
	if roles.App != "" && roles.App != roles.Current {
		candidates = append(candidates, roles.App)
	}
	var failed error
	for _, role := range candidates {
		found, err := s.scopeOf(ctx, role)
		if err == nil {
			s.login, s.role, s.scope, s.tables = roles.Current, role, found, len(found.tables())
			s.signs = s.needsProof(found)
			return s.canonical(ctx)
		}
		if !errors.Is(err, ErrNotIsolated) && !errors.Is(err, ErrRowsHidden) {
			return err
		}
		failed = err // that of AppRole, if there is one: the login is not bound at all
	}
	return failed
}

// scopeOf finds the tables as the policies bind a role.
func (s *session) scopeOf(ctx context.Context, role string) (*scope, error) {
	c := &scope{}
	if err := s.readJSON(ctx, &c.all, relationsQuery, role); err != nil {
		return nil, err
	}
	if err := s.readJSON(ctx, &c.left, copiesQuery); err != nil {
		return nil, err
	}
	for _, r := range c.all {
		s.setKey(r)
	}
	if err := s.checkSkip(c); err != nil {
		return nil, err
	}
	var tables []*relation
	for _, r := range c.all {
		reason, skipped := s.Skip[r.name()]
		if !skipped && r.Table == audit.Name {
			reason, skipped = "records of changes, with copies of rows, which no run writes or deletes: retention drops them", true
		}
		if erases := s.op == OpErase || s.op == OpPlan || s.op == OpSubjectErase || s.op == OpSubjectPlan; !skipped && r.Comment == copyMark && !erases {
			reason, skipped = "a copy of rows that tenant isolate has not attached", true
		}
		if skipped {
			c.left = append(c.left, Left{Object: r.name(), Reason: reason})
		}
		switch {
		case skipped && r.key != nil:
			c.kept = append(c.kept, r)
		case skipped:
		case r.key != nil:
			if err := s.isolated(r, role, true); err != nil {
				return nil, err
			}
			tables = append(tables, r)
		default:
			if err := s.shared(c, r); err != nil {
				return nil, err
			}
		}
	}
	c.noteShared(tables)
	c.group = inOrder(tables, func(*relation, foreignKey) bool { return true })
	return c, nil
}

// setKey finds the column that tells tenants apart: the tenant column, or the primary key if policies compare it with the setting.
func (s *session) setKey(r *relation) {
	if r.key = r.column(s.config.Column); r.key != nil || len(r.Primary) != 1 {
		return
	}
	key := r.column(r.Primary[0])
	if slices.ContainsFunc(r.Policies, func(p appliedPolicy) bool {
		return p.Using != nil && p.Using.Text != "false" && s.judgeExpression(key, p.Using) != policy.Unproved
	}) {
		r.key, r.own = key, true
	}
}

// checkSkip refuses a name that is no table: with a typing error in it, a table that the law demands would be erased.
func (s *session) checkSkip(c *scope) error {
	for name := range s.Skip {
		if !slices.ContainsFunc(c.all, func(r *relation) bool { return r.name() == name }) {
			return fmt.Errorf("Tenants.Skip: there is no table %s: write schema.table", name)
		}
	}
	return nil
}

// isolated proves that the role reads all rows of the tenant and, if it is to write, writes no others.
func (s *session) isolated(r *relation, role string, writes bool) error {
	not := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s; fix it, or leave the table out by Skip", ErrNotIsolated, r.name(), fmt.Sprintf(format, args...))
	}
	switch {
	case r.Kind == "f":
		return not("a foreign table has no policies")
	case !r.Enabled:
		return not("row-level security is off")
	case !r.Bound:
		return not("its policies do not bind the role %s: log in as the owner, and force the policies on it, or set Isolation.AppRole", sqltext.Ident(role))
	case !policy.IsColumnType(r.key.Base):
		return not("its tenant column has the type %s", r.key.Base)
	case r.key.Loose:
		return not("the collation of its tenant column takes different tenants for the same")
	}
	sees := false
	for _, p := range r.Policies {
		if !p.Applies {
			continue
		}
		everything := p.Using != nil && p.Using.Text == "true" && !p.Using.Others
		canonical := p.Using != nil && s.judgeExpression(r.key, p.Using) == policy.Canonical
		reads := p.Command == "*" || p.Command == "r"
		switch {
		case !p.Permissive && !canonical:
			return fmt.Errorf("%w: %s: the restrictive policy %s", ErrRowsHidden, r.name(), sqltext.Ident(p.Name))
		case !p.Permissive:
		case writes && p.Command != "r" && s.judge(r.key, func(c policy.Config) policy.Verdict { return p.Judge(c, r.key.Base) }) == policy.Unproved:
			return not("the policy %s lets the role %s write rows of other tenants, or is not understood", sqltext.Ident(p.Name), sqltext.Ident(role))
		}
		sees = sees || p.Permissive && reads && (canonical || everything)
	}
	if !sees {
		return fmt.Errorf("%w: %s: no policy shows the role %s all of them", ErrRowsHidden, r.name(), sqltext.Ident(role))
	}
	return nil
}

// shared refuses a table without a tenant column whose rows are a tenant's all the same: they hang on a tenant's, or policies name the tenant.
func (s *session) shared(c *scope, r *relation) error {
	for _, f := range r.ForeignKeys {
		if to := c.find(f.Schema, f.Table); to != nil && to.key != nil {
			return fmt.Errorf("%w: %s refers to %s by %s, and has no tenant column: let Migrate isolate it, or leave it out by Skip",
				ErrNotIsolated, r.name(), to.name(), sqltext.Ident(f.Name))
		}
	}
	for _, p := range r.Policies {
		for _, e := range []*policy.Expression{p.Using, p.Check} {
			if e != nil && strings.Contains(strings.ToLower(e.Text), strings.ToLower(s.config.Setting)) {
				return fmt.Errorf("%w: %s has the policy %s, which compares the tenant with neither the tenant column nor the primary key: leave it out by Skip",
					ErrNotIsolated, r.name(), sqltext.Ident(p.Name))
			}
		}
	}
	return nil
}

// noteShared lists the shared tables that rows of the tenant refer to.
func (c *scope) noteShared(tables []*relation) {
	seen := map[string]bool{}
	for _, r := range tables {
		for _, f := range r.ForeignKeys {
			if to := c.find(f.Schema, f.Table); to != nil && to.key == nil && !seen[to.name()] {
				seen[to.name()] = true
				c.left = append(c.left, Left{Object: to.name(), Reason: "a shared table, which " + r.name() + " refers to"})
			}
		}
	}
}

// canonical refuses a tenant that PostgreSQL writes otherwise, as 07 or a UUID in capitals: what is compared as texts would differ.
func (s *session) canonical(ctx context.Context) error {
	var types []string
	for _, r := range slices.Concat(s.scope.tables(), s.scope.kept) {
		if !slices.Contains(types, r.key.Base) {
			types = append(types, r.key.Base)
		}
	}
	if len(types) == 0 {
		return fmt.Errorf("no table has the column %s: is this the database, and is Isolation.Column right?", sqltext.Ident(s.config.Column))
	}
	for _, t := range types {
		row, err := s.row(ctx, "SELECT $1::text::"+t+"::text", s.tenant)
		if err != nil || string(row[0]) != s.tenant {
			return errors.Join(fmt.Errorf("the tenant is not what PostgreSQL writes of a value of type %s", t), explain(err))
		}
	}
	return nil
}

// tellsTenants reports whether a foreign key compares the tenants of both sides.
func (c *scope) tellsTenants(r *relation, f foreignKey) bool {
	to := c.find(f.Schema, f.Table)
	if to == nil || to.key == nil || r.key == nil {
		return false
	}
	for n := range f.Columns {
		if f.Columns[n] == r.key.Name && f.Keys[n] == to.key.Name {
			return true
		}
	}
	return false
}

// inOrder returns the tables with parents first, and those in a circle of foreign keys as one group. Tables of tenants come as early as
// they can. Foreign keys that count refuses do not count. (Tarjan: it gives out a group when all that it refers to is given out.)
func inOrder(tables []*relation, count func(*relation, foreignKey) bool) [][]*relation {
	type state struct {
		index, low int
		open       bool
	}
	var (
		groups [][]*relation
		stack  []*relation
		states = map[*relation]*state{}
		visit  func(r *relation)
	)
	byName := map[string]*relation{}
	for _, r := range tables {
		byName[r.name()] = r
	}
	visit = func(r *relation) {
		st := &state{index: len(states), low: len(states), open: true}
		states[r] = st
		stack = append(stack, r)
		for _, f := range r.ForeignKeys {
			to := byName[f.Schema+"."+f.Table]
			switch {
			case to == nil || !count(r, f):
			case states[to] == nil:
				visit(to)
				st.low = min(st.low, states[to].low)
			case states[to].open:
				st.low = min(st.low, states[to].index)
			}
		}
		if st.low < st.index {
			return
		}
		start := slices.Index(stack, r)
		group := slices.Clone(stack[start:])
		stack = stack[:start]
		for _, member := range group {
			states[member].open = false
		}
		groups = append(groups, group)
	}
	sorted := slices.Clone(tables)
	slices.SortStableFunc(sorted, func(a, b *relation) int {
		if a.own != b.own {
			if a.own {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name(), b.name())
	})
	for _, r := range sorted {
		if states[r] == nil {
			visit(r)
		}
	}
	return groups
}
