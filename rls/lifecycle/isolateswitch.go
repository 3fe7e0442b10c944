package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/locks"
)

// pair is the table and its copy, for passes.
func (i *isolating) pair() *transferTable { return pairOf(i.relation, i.copy) }

// policiesQuery makes the policies of a table, $1, for another one, $2.
const policiesQuery = `SELECT pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, $2::text,
	CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
	CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
	(SELECT pg_catalog.string_agg(CASE WHEN m = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(m)) END, ', ') FROM pg_catalog.unnest(p.polroles) m),
	' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
	FROM pg_catalog.pg_policy p WHERE p.polrelid = $1::pg_catalog.regclass`

// revokesQuery takes from everyone but its owner what default privileges give on a table.
const revokesQuery = `SELECT DISTINCT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', $1::text,
	CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END)
	FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) g WHERE c.oid = $1::pg_catalog.regclass AND g.grantee <> c.relowner`

// make makes the copy, in one transaction with its policies, so that no other session ever finds it without them. A constraint says that it has rows
// of the tenant alone: PostgreSQL attaches it without reading them. A copy of an earlier run is used again if it still has the shape of the table.
func (i *isolating) make(ctx context.Context) error {
	if i.live.Copy != nil && i.live.Copy.Safe && i.live.Copy.Same {
		return nil
	}
	err := i.short(ctx, func() error {
		if err := i.look(ctx); err != nil {
			return err
		}
		if err := i.check(); err != nil {
			return err
		}
		s, name := i.source, i.copy.quoted()
		var statements []string
		if i.live.Copy != nil {
			statements = append(statements, "DROP TABLE "+name)
		}
		statements = append(statements,
			fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)", name, i.quoted()),
			fmt.Sprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, ADD CONSTRAINT %s CHECK (%s = %s)",
				name, i.checkName(), sqltext.Ident(i.key.Name), sqltext.Literal(s.tenant)),
			fmt.Sprintf("COMMENT ON TABLE %s IS %s", name, sqltext.Literal(copyMark)))
		for _, statement := range statements {
			if err := s.exec(ctx, statement); err != nil {
				return err
			}
		}
		policies, err := s.texts(ctx, policiesQuery, i.quoted(), name)
		if err != nil {
			return err
		}
		revokes, err := s.texts(ctx, revokesQuery, name)
		if err != nil {
			return err
		}
		for _, statement := range append(policies, revokes...) {
			if err := s.exec(ctx, statement); err != nil {
				return err
			}
		}
		if err := i.look(ctx); err != nil {
			return err
		}
		if c := i.live.Copy; c == nil || !c.Safe || !c.Same {
			return errors.New("the copy could not be made with the columns, policies and rights that it should have")
		}
		return nil
	})
	return err
}

// passes brings rows over while the tenant works, until few are left.
func (i *isolating) passes(ctx context.Context) error {
	for range maxLivePasses {
		pass, err := i.pass(ctx)
		if err != nil {
			return err
		}
		if pass.Differences() <= smallRest && pass.Unresolved == 0 {
			return nil
		}
	}
	return fmt.Errorf("rows still differ after %d passes: the tenant writes faster than they are copied; try again when it writes less", maxLivePasses)
}

func (i *isolating) pass(ctx context.Context) (TransferPass, error) {
	began, pair := time.Now(), i.pair()
	var err error
	// What was not yet visible then is brought over under lock, whether the pass has seen it or not.
	if err := i.source.inTransaction(ctx, beginReading, func() error { i.horizon, err = i.source.horizon(ctx); return err }); err != nil {
		return TransferPass{}, err
	}
	source, target := *i.source, *i.target
	source.scope, target.scope = &scope{group: [][]*relation{{pair.relation}}}, &scope{group: [][]*relation{{pair.to}}}
	run := &TransferRun{from: &source, to: &target, tables: []*transferTable{pair}, ready: true, agreed: map[*transferTable]agreement{}}
	pass, err := run.Pass(ctx)
	i.source.rows = source.rows
	i.report.Live = append(i.report.Live, pass.Pass(time.Since(began)))
	return pass, err
}

// prove compares all rows that have not changed since the last pass, has PostgreSQL look at the copy, and proves to it that the partitions in which the
// tenant has no rows have none of them: otherwise it would read them all under lock.
func (i *isolating) prove(ctx context.Context) error {
	s := i.source
	err := s.inTransaction(ctx, beginReading, func() error {
		pair := i.pair()
		query := fmt.Sprintf("SELECT count(*) FROM %s t LEFT JOIN %s n ON %s AND n.%s WHERE t.%s AND NOT (%s) AND ROW(%s)::text IS DISTINCT FROM ROW(%s)::text",
			i.from(), i.copy.from(), pair.sameKey("t", "n"), i.copy.condition(), i.condition(), newer, pair.prefixed("t"), pair.prefixed("n"))
		differ, err := s.number(ctx, query, s.tenant, i.horizon)
		if err == nil && differ > 0 {
			err = fmt.Errorf("%w: %d rows of the copy are not those of the table", ErrChanged, differ)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "ANALYZE "+i.copy.quoted()); err != nil {
		return err
	}
	for _, part := range i.live.Parts {
		if part.Tenants || part.Checked != nil && *part.Checked {
			continue
		}
		s.progress(i.name(), 0, 0)
		statements := []string{fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", part.Name, i.checkName())}
		if part.Checked == nil {
			statements = append([]string{fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s <> %s) NOT VALID",
				part.Name, i.checkName(), sqltext.Ident(i.key.Name), sqltext.Literal(s.tenant))}, statements...)
		}
		for _, statement := range statements {
			if err := i.short(ctx, func() error { return s.exec(ctx, statement) }); err != nil {
				return err
			}
		}
	}
	i.report.Tries = 0 // those of the switch count
	return nil
}

// newer is the condition that a row t may not have been visible to the last pass, whose horizon is $2.
const newer = "pg_catalog.age(t.xmin) <= pg_catalog.age($2::text::xid8::xid)"

// sameKey is the condition that two rows have the same key.
func (t *transferTable) sameKey(a, b string) string {
	list := make([]string, len(t.key))
	for n, c := range t.key {
		list[n] = fmt.Sprintf("%s.%s = %s.%[2]s", a, sqltext.Ident(c.Name), b)
	}
	return strings.Join(list, " AND ")
}

// prefixed are the columns of a row.
func (t *transferTable) prefixed(alias string) string {
	list := make([]string, len(t.columns))
	for n, c := range t.columns {
		list[n] = alias + "." + sqltext.Ident(c.Name)
	}
	return strings.Join(list, ", ")
}

// switchOver attaches the copy in place of the rows, in one transaction.
func (i *isolating) switchOver(ctx context.Context) error {
	var began time.Time
	err := i.short(ctx, func() error {
		if err := i.lock(ctx, &began); err != nil {
			return err
		}
		if err := i.underLock(ctx); err != nil {
			return err
		}
		if held := time.Since(began); held > i.MaxLock {
			return fmt.Errorf("%w: %s, and MaxLock is %s", ErrLocked, held.Round(time.Millisecond), i.MaxLock)
		}
		return nil
	})
	i.report.Lock = time.Since(began)
	var pg *pgconn.PgError
	const canceled, overlaps = "57014", "42P17"
	if err == nil {
		return nil
	}
	i.report.Rows, i.report.Lock = 0, 0
	switch {
	case errors.As(err, &pg) && pg.Code == canceled && ctx.Err() == nil:
		err = fmt.Errorf("%w: a statement would take longer than %s (MaxLock): %w", ErrLocked, i.MaxLock, explain(err))
	case errors.As(err, &pg) && pg.Code == overlaps:
		err = fmt.Errorf("the tenant shares a partition by list with others: take its id out of that partition first: %w", explain(err))
	}
	return err
}

// lock locks the table itself first: a statement that comes later then waits before it has chosen a partition. After it come the tables that refer to it, or that
// it refers to, whose foreign keys are made, the partitions of the rest, and the copy. From then on a statement takes at most MaxLock.
func (i *isolating) lock(ctx context.Context, began *time.Time) error {
	s := i.source
	if err := s.exec(ctx, "LOCK TABLE ONLY "+i.quoted()+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	*began = time.Now()
	if err := i.look(ctx); err != nil {
		return err
	}
	if err := i.check(); err != nil {
		return err
	}
	if c := i.live.Copy; c == nil || !c.Safe || !c.Same {
		return errCopy
	}
	tables, parents := []string{i.live.Rest, i.copy.quoted()}, map[string]bool{}
	for _, k := range i.live.Keys {
		if !slices.Contains(tables, k.Quoted) && (k.Schema != i.Schema || k.Table != i.Table) {
			tables = append(tables, k.Quoted)
		}
	}
	for _, parent := range i.live.Parents {
		if !slices.Contains(tables, parent) {
			parents[parent] = true
			tables = append(tables, parent)
		}
	}
	i.busy.Sort(tables)
	if err := i.limitWaits(ctx, locks.Share(i.lockTimeout(), len(tables)+1)); err != nil {
		return err
	}
	for _, table := range tables {
		what := table + " IN ACCESS EXCLUSIVE MODE"
		if parents[table] {
			what = "ONLY " + table + " IN SHARE ROW EXCLUSIVE MODE" // which lets others read
		}
		if err := s.exec(ctx, "LOCK TABLE "+what); err != nil {
			i.busy.First(table)
			return err
		}
	}
	return s.exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", i.MaxLock.Milliseconds()))
}

// underLock does the rest, which others wait for.
func (i *isolating) underLock(ctx context.Context) error {
	s := i.source
	if err := i.bringOver(ctx); err != nil {
		return err
	}
	for _, k := range i.live.Keys {
		if err := s.exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", k.Quoted, sqltext.Ident(k.Name))); err != nil {
			return err
		}
	}
	if err := i.withoutTriggers(ctx, func() error {
		deleted, err := i.change(ctx, fmt.Sprintf("DELETE FROM %s t WHERE t.%s", i.from(), i.condition()), s.tenant)
		if err == nil && deleted != i.report.Rows {
			err = fmt.Errorf("%w: the table has %d rows of the tenant, and the copy %d", ErrChanged, deleted, i.report.Rows)
		}
		return err
	}); err != nil {
		return err
	}
	return i.withoutTenant(ctx, func() error { return i.attach(ctx) })
}

// attach attaches the copy, and makes the foreign keys again that refer to the table. The rows are those for which PostgreSQL has verified all that: with
// policies in force, and no tenant set, it finds none to verify again.
func (i *isolating) attach(ctx context.Context) error {
	statements := []string{
		fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%s)", i.quoted(), i.copy.quoted(), sqltext.Literal(i.source.tenant)),
		fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", i.copy.quoted(), i.checkName()),
		fmt.Sprintf("COMMENT ON TABLE %s IS NULL", i.copy.quoted()),
	}
	for _, k := range i.live.Keys {
		statements = append(statements, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", k.Quoted, sqltext.Ident(k.Name), k.Definition))
	}
	for _, part := range i.live.Parts {
		if part.Checked != nil {
			statements = append(statements, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", part.Name, i.checkName()))
		}
	}
	for _, statement := range statements {
		if err := i.source.exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// bringOver makes the copy equal to the table. Rows that were written since the last pass, and those that are gone, are deleted from it first, so that
// the new ones may have their unique values.
func (i *isolating) bringOver(ctx context.Context) error {
	s, pair := i.source, i.pair()
	count := func(table, condition string, args ...string) (n int64, err error) {
		return s.number(ctx, fmt.Sprintf("SELECT count(*) FROM %s t WHERE t.%s%s", table, i.condition(), condition), append([]string{s.tenant}, args...)...)
	}
	all, err := count(i.from(), "")
	if err != nil {
		return err
	}
	changed, err := count(i.from(), " AND "+newer, i.horizon)
	if err != nil {
		return err
	}
	if changed > 0 {
		if _, err := i.change(ctx, fmt.Sprintf("DELETE FROM %s n USING (SELECT t.* FROM %s t WHERE t.%s AND %s) t WHERE n.%s AND %s",
			i.copy.from(), i.from(), i.condition(), newer, i.condition(), pair.sameKey("t", "n")), s.tenant, i.horizon); err != nil {
			return err
		}
	}
	copied, err := count(i.copy.from(), "")
	if err != nil {
		return err
	}
	if copied != all-changed {
		gone, err := i.change(ctx, fmt.Sprintf("DELETE FROM %s n WHERE n.%s AND NOT EXISTS (SELECT FROM %s t WHERE t.%s AND %s)",
			i.copy.from(), i.condition(), i.from(), i.condition(), pair.sameKey("t", "n")), s.tenant)
		if err != nil {
			return err
		}
		i.report.Last, copied = gone, copied-gone
	}
	if copied != all-changed {
		return fmt.Errorf("%w: the copy lacks rows", ErrChanged)
	}
	i.report.Last += changed
	if changed == 0 {
		i.report.Rows = all
		return nil
	}
	columns := sqltext.Idents(columnNames(pair.columns))
	inserted, err := i.change(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s t WHERE t.%s AND %s", i.copy.quoted(), columns, columns, i.from(), i.condition(), newer),
		s.tenant, i.horizon)
	if err == nil && inserted != changed {
		err = fmt.Errorf("%w: rows could not be brought over", ErrChanged)
	}
	i.report.Rows = all
	return err
}

// change runs a statement, and returns how many rows it has changed.
func (i *isolating) change(ctx context.Context, query string, args ...string) (int64, error) {
	result := i.source.conn.ExecParams(ctx, query, bytesOf(args), nil, nil, nil).Read()
	return result.CommandTag.RowsAffected(), result.Err
}

// triggersQuery lists the triggers, made by hand or by Migrate, that a DELETE of a table, $1, or of its partitions fires, with the statements that switch them off and on.
const triggersQuery = `SELECT pg_catalog.format('ALTER TABLE %s DISABLE TRIGGER %I', g.tgrelid::pg_catalog.regclass, g.tgname),
	pg_catalog.format('ALTER TABLE %s ENABLE %sTRIGGER %I', g.tgrelid::pg_catalog.regclass, CASE g.tgenabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END, g.tgname)
	FROM pg_catalog.pg_trigger g WHERE g.tgrelid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass) t) AND g.tgconstraint = 0 AND g.tgparentid = 0 AND g.tgenabled <> 'D' AND g.tgtype & 8 <> 0`

// withoutTriggers runs do while the table's triggers for DELETE are off, on its partitions as well: no row is deleted for anybody else.
func (i *isolating) withoutTriggers(ctx context.Context, do func() error) error {
	var off, on []string
	err := i.source.each(ctx, triggersQuery, func(row [][]byte) error {
		off, on = append(off, string(row[0])), append(on, string(row[1]))
		return nil
	}, i.quoted())
	if err != nil {
		return err
	}
	for _, statement := range off {
		if err := i.source.exec(ctx, statement); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	for _, statement := range on {
		if err := i.source.exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// withoutTenant runs do while no tenant is set.
func (i *isolating) withoutTenant(ctx context.Context, do func() error) error {
	s := i.source
	const set = "SELECT pg_catalog.set_config($1, $2, true)"
	before, err := s.row(ctx, "SELECT pg_catalog.current_setting($1)", s.config.Setting)
	if err != nil {
		return err
	}
	if _, err := s.row(ctx, set, s.config.Setting, ""); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_, err = s.row(ctx, set, s.config.Setting, string(before[0]))
	return err
}

// backOut drops what was made for the table, and reports whether there was a copy.
func (i *isolating) backOut(ctx context.Context) (bool, error) {
	had := i.live.Copy != nil && i.live.Copy.Marked
	if had {
		if err := i.short(ctx, func() error { return i.source.exec(ctx, "DROP TABLE "+i.copy.quoted()) }); err != nil {
			return false, err
		}
	}
	for _, part := range i.live.Parts {
		if part.Checked == nil {
			continue
		}
		statement := fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", part.Name, i.checkName())
		if err := i.short(ctx, func() error { return i.source.exec(ctx, statement) }); err != nil {
			return false, err
		}
	}
	return had, nil
}
