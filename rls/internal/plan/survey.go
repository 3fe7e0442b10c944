package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Survey compares the catalog with what the models need, and returns what is left to do.
func (p Planner) Survey(ctx context.Context, conn gorm.ConnPool, m model.Migrator, set *model.Set) ([]Change, error) {
	relations, err := p.inspect(ctx, conn, names(set.Tables))
	if err != nil {
		return nil, err
	}
	made := make([]string, len(relations))
	for n, wanted := range m.Relations() {
		if wanted.Column != nil {
			made[n] = wanted.Column.Type
		}
	}
	tables, err := p.tables(set.Tables, relations, made)
	if err != nil {
		return nil, err
	}
	if tables, err = p.withAudit(ctx, conn, tables); err != nil {
		return nil, err
	}
	if tables, err = p.withParts(ctx, conn, tables); err != nil {
		return nil, err
	}
	if tables, err = p.withPartitions(tables); err != nil {
		return nil, err
	}
	if err := checkNames(ctx, conn, tables); err != nil {
		return nil, err
	}
	if err := p.LookForSetup(ctx, conn); err != nil {
		return nil, err
	}
	return p.Plan(tables), nil
}

// inspect reads the named tables from the catalog, in their order, and with Distributes from that of Citus.
func (p Planner) inspect(ctx context.Context, conn gorm.ConnPool, names []string) ([]catalog.Relation, error) {
	relations, err := catalog.Inspect(ctx, conn, p.Config, names)
	if err != nil || !p.Distributes {
		return relations, err
	}
	by, err := catalog.Distributed(ctx, conn, names)
	for n := range relations {
		relations[n].Distributed = by[names[n]]
	}
	return relations, err
}

// LookForSetup asks whether the keys and functions of package signing are there, which Plan would otherwise have made.
func (p *Planner) LookForSetup(ctx context.Context, conn gorm.ConnPool) error {
	if p.Form == policy.Unsigned {
		return nil
	}
	return conn.QueryRowContext(ctx, signing.IsSetUp, p.Signer).Scan(&p.SetUp)
}

// Foresee returns the tables of the models as they are, and those that are missing as they will be. A table whose tenant
// column is to get another type counts as missing: its indexes would be made once more.
func (p Planner) Foresee(ctx context.Context, conn gorm.ConnPool, m model.Migrator, set *model.Set) ([]Table, error) {
	relations := m.Relations()
	exist, err := catalog.Exist(ctx, conn, names(set.Tables))
	if err != nil {
		return nil, err
	}
	var present []string
	for n, t := range set.Tables {
		if exist[n] {
			present = append(present, t.Name)
		}
	}
	live, err := p.inspect(ctx, conn, present)
	if err != nil {
		return nil, err
	}
	made := make([]string, len(set.Tables))
	for n := range set.Tables {
		if !exist[n] {
			continue
		}
		is, wanted := live[0], relations[n]
		live = live[1:]
		if is.Column == nil && wanted.Column != nil {
			made[n] = wanted.Column.Type
		}
		if exist[n] = is.Column == nil || wanted.Column == nil || wanted.Column.Kept || is.Column.Type == wanted.Column.Type; exist[n] {
			relations[n] = is
		}
	}
	tables, err := p.tables(set.Tables, relations, made)
	if err != nil {
		return nil, err
	}
	for n := range tables {
		tables[n].Fresh = !exist[n]
	}
	return p.withAudit(ctx, conn, tables)
}

// ForeseeParts does what Foresee does, and returns the parts of tables, too.
func (p Planner) ForeseeParts(ctx context.Context, conn gorm.ConnPool, m model.Migrator, set *model.Set) ([]Table, error) {
	tables, err := p.Foresee(ctx, conn, m, set)
	if err != nil {
		return nil, err
	}
	if tables, err = p.withParts(ctx, conn, tables); err != nil {
		return nil, err
	}
	if tables, err = p.withPartitions(tables); err != nil {
		return nil, err
	}
	return tables, checkNames(ctx, conn, tables)
}

// Names reports whether the statement, one of GORM's migrator, is about the table.
func (t Table) Names(sql string) bool {
	for _, begin := range []string{"CREATE TABLE IF NOT EXISTS ", "ALTER TABLE ", "COMMENT ON COLUMN "} {
		if rest, found := strings.CutPrefix(sql, begin+t.name); found && strings.ContainsAny(rest[:1], " .") {
			return true
		}
	}
	return strings.HasPrefix(sql, "CREATE ") && (strings.Contains(sql, " ON "+t.name+" ") || strings.Contains(sql, " ON "+t.name+"("))
}

// Expect returns the tables of the models as they are in a database where only the recorded statements have run. What cannot be
// known without looking counts as missing, so that the plan makes it, or as there, so that the plan takes it away.
func (p Planner) Expect(m model.Migrator, set *model.Set) ([]Table, error) {
	relations := m.Relations()
	for n := range relations {
		if relations[n].Schema == "" {
			relations[n].Usable = p.Roles()
		}
	}
	tables, err := p.tables(set.Tables, relations, nil)
	for n := range tables {
		t := &tables[n]
		t.Fresh = true
		onTables, onSequences := p.excess(t.sharing)
		t.Grants = onTables
		for i := range t.Sequences {
			t.Sequences[i].Grants = onSequences
		}
	}
	if err == nil && p.audits() {
		tables, err = p.auditTables(tables, catalog.AuditStore{Usable: p.Roles()})
	}
	if err != nil {
		return nil, err
	}
	return p.withPartitions(tables)
}

// excess returns grants of what the roles should not have on a table of the kind. Where none is granted anything on sequences, none
// is taken away: a REVOKE alone would be seen in the catalog.
func (p Planner) excess(kind policy.Sharing) (onTables, onSequences map[string][]string) {
	onTables, onSequences = map[string][]string{}, map[string][]string{}
	granted := slices.ContainsFunc(p.Roles(), func(role string) bool {
		_, sequences := p.Privileges(role, kind)
		return len(sequences) > 0
	})
	for _, role := range p.Roles() {
		tables, sequences := p.Privileges(role, kind)
		onTables[role] = missing([]string{"REFERENCES", "TRIGGER", "TRUNCATE", "SELECT", "INSERT", "UPDATE", "DELETE"}, tables)
		if !granted {
			continue
		}
		onSequences[role] = missing([]string{"USAGE", "SELECT", "UPDATE"}, sequences)
	}
	return onTables, onSequences
}

// tables puts together what the models' tables are and what they should be. The relations are in the order of the tables, and so are
// the types of tenant columns that are yet to be made, if any is known.
func (p Planner) tables(asked []*model.Table, relations []catalog.Relation, made []string) ([]Table, error) {
	tables := make([]Table, len(asked))
	byName := make(map[string]*Table, len(asked))
	byTable := make(map[string]string, len(asked))
	for n, t := range asked {
		live := relations[n]
		if live.Owner == p.AppRole && p.AppRole != "" {
			return nil, fmt.Errorf("role %q owns table %s, and an owner can switch isolation off: "+
				"let the migrating role own it: ALTER TABLE %s OWNER TO …", p.AppRole, live, live.Quoted())
		}
		tables[n] = Table{
			Relation: live, asked: t, name: t.Name, index: t.Index, uniques: t.Uniques, references: t.References,
			sharing: t.Sharing, ownColumn: t.OwnColumn, lookups: p.Lookups[t.Name], primary: t.Primary,
		}
		if made != nil {
			tables[n].columnMade = made[n]
		}
		if t.Asked() {
			tables[n].sharing = policy.NotShared
		}
		byName[t.Name], byTable[live.Quoted()] = &tables[n], t.Name
	}
	findParents(tables, byName, byTable)
	for n := range tables {
		if err := p.isolate(&tables[n], byName); err != nil {
			return nil, err
		}
	}
	if err := p.checkPartitions(tables); err != nil {
		return nil, err
	}
	if err := p.checkDistribution(tables); err != nil {
		return nil, err
	}
	return tables, p.checkTenantKeys(tables)
}

// isolate decides how a table is isolated, if it is.
func (p Planner) isolate(t *Table, byName map[string]*Table) (err error) {
	switch {
	case t.sharing == policy.SharedOwn:
		columnType, column := t.PrimaryType, t.ownColumn
		if column == p.Column && t.Column != nil {
			columnType = t.Column.Type
		}
		if !policy.IsColumnType(columnType) {
			return fmt.Errorf("column %s of table %s has type %s, which cannot hold a tenant: use one of %q",
				column, t.Relation, columnType, policy.ColumnTypes)
		}
		t.columnType = columnType
	case t.asked.IsTenant(t.Relation) || len(t.parents) > 0:
		t.columnType, err = p.columnType(t, byName, map[*Table]bool{})
	case t.sharing == policy.NotShared:
		t.sharing = policy.SharedRead
	}
	return err
}

// columnType returns the type of the table's tenant column. A table that has none yet gets that of its parents, or of the tables it
// joins.
func (p Planner) columnType(t *Table, byName map[string]*Table, seen map[*Table]bool) (string, error) {
	seen[t] = true
	if t.sharing == policy.SharedOwn && t.ownColumn != p.Column {
		return t.PrimaryType, nil
	}
	if t.Column != nil {
		switch {
		case !policy.IsColumnType(t.Column.Type):
			return "", fmt.Errorf("column %s of table %s has type %s, which cannot hold a tenant: use one of %q",
				p.Column, t.Relation, t.Column.Type, policy.ColumnTypes)
		case t.Column.Loose:
			return "", fmt.Errorf("column %s of table %s has a collation that takes different texts for equal, so that one tenant would see "+
				"the rows of another: run ALTER TABLE %s ALTER COLUMN %s TYPE %s COLLATE \"C\"",
				p.Column, t.Relation, t.Quoted(), sqltext.Ident(p.Column), t.Column.Type)
		}
		return t.Column.Type, nil
	}
	if t.columnMade != "" {
		return t.columnMade, nil
	}
	from := slices.Clone(t.asked.Sides)
	for _, parent := range t.parents {
		from = append(from, parent.to.name)
	}
	for _, name := range from {
		to := byName[name]
		if to == nil || seen[to] {
			continue
		}
		if columnType, err := p.columnType(to, byName, seen); err == nil {
			return columnType, nil
		}
	}
	return "", fmt.Errorf("table %s has no column %s, and GORM is told not to make it: add it", t.Relation, p.Column)
}

// withParts returns the tables with the parts of tenant tables after them. A query of the whole is subject to its policies
// only, and a query of a part to the part's (PostgreSQL documentation, "Row Security Policies" and CREATE POLICY), so each
// needs its own. Columns, keys and foreign keys they have from the whole.
func (p Planner) withParts(ctx context.Context, conn gorm.ConnPool, tables []Table) ([]Table, error) {
	wholes := make([]string, len(tables))
	known := map[string]bool{}
	for n, t := range tables {
		wholes[n] = t.Quoted()
		known[t.Quoted()] = true
	}
	roots, parts, err := catalog.Parts(ctx, conn, wholes)
	if err != nil || len(parts) == 0 {
		return tables, err
	}
	relations, err := catalog.Inspect(ctx, conn, p.Config, parts)
	if err != nil {
		return nil, err
	}
	all := tables
	for n, live := range relations {
		if root := tables[roots[n]]; root.isolated() && !known[live.Quoted()] {
			known[live.Quoted()] = true
			all = append(all, Table{Relation: live, name: parts[n], whole: root.name, columnType: root.columnType, sharing: root.sharing, ownColumn: root.ownColumn})
		}
	}
	return all, nil
}

// names returns the names of tables.
func names(tables []*model.Table) []string {
	list := make([]string, len(tables))
	for n, t := range tables {
		list[n] = t.Name
	}
	return list
}
