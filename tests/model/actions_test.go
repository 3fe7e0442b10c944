package model

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/gormtenancy/tenancy"
)

// actions are what can happen in one step. Where there is nothing to do it with, a step does nothing.
func (m *machine) actions() map[string]func(*rapid.T) {
	all := map[string]func(*rapid.T){
		"create": m.create, "create twice": m.create, "update": m.update, "delete": m.remove,
		"syntax error": m.syntaxError,
		"begin":        m.begin, "begin again": m.begin, "commit": m.commit, "rollback": m.rollback,
		"savepoint": m.savepoint, "rollback to": m.rollbackTo,
		"set": m.set, "set again": m.set, "end by hand": m.endByHand, "begin by hand": m.beginByHand,
		"bypass reads": m.bypassReads, "bypass writes": m.bypassWrites, "for each": m.forEach,
		"nobody": m.nobody, "another": m.another,
		"panic": m.panic, "cancel": m.cancel, "unread rows": m.unreadRows, "cut": m.cut,
	}
	maps.Copy(all, m.leaveActions())
	for name, action := range all {
		all[name] = func(t *rapid.T) { m.steps++; action(t) }
	}
	all[""] = m.check
	return all
}

// check has somebody read, after each step, and now and then compares the whole table.
func (m *machine) check(t *rapid.T) {
	if rapid.Bool().Draw(t, "look first") {
		m.lookOutside(t)
		m.read(t, m.reader(t))
	} else {
		m.read(t, m.reader(t))
		m.lookOutside(t)
	}
	if rapid.IntRange(0, 9).Draw(t, "compare all") == 0 {
		rows, err := m.admin.Query(`SELECT tenant_id, body, value FROM notes`)
		require.NoError(t, err)
		got := map[string]notes{}
		for _, tenant := range tenants {
			got[tenant] = notes{}
		}
		for rows.Next() {
			var n Note
			require.NoError(t, rows.Scan(&n.TenantID, &n.Body, &n.Value))
			got[n.TenantID][n.Body] = n.Value
		}
		require.NoError(t, rows.Err())
		require.Equal(t, m.committed, got)
		m.lookEverywhere(t)
	}
}

// read compares what a client sees with what it may see.
func (m *machine) read(t *rapid.T, s session) {
	way := drawWay(t)
	want := s.reads()
	found, err := way.read(s.db)
	if !s.judge(t, want, err, way.name) {
		require.Empty(t, found, way.name)
		return
	}
	m.compare(t, s, found, way.name)
}

func toNotes(t require.TestingT, tenant string, found []Note) notes {
	got := notes{}
	for _, n := range found {
		require.Equal(t, tenant, n.TenantID, "a row has crossed")
		got[n.Body] = n.Value
	}
	require.Len(t, got, len(found))
	return got
}

var (
	bodies = rapid.SampledFrom([]string{"a", "b", "c", "d"})
	values = rapid.IntRange(0, 99)
)

func (m *machine) create(t *rapid.T) {
	s := m.writer(t)
	n := Note{Body: bodies.Draw(t, "body"), Value: values.Draw(t, "value")}
	_, exists := m.sees(s)[n.Body]
	var err error
	raw := rapid.Bool().Draw(t, "by raw SQL")
	want := s.writes()
	if raw {
		err = s.db.Exec(`INSERT INTO notes (body, value) VALUES (?, ?)`, n.Body, n.Value).Error
	} else {
		err = s.db.Create(&n).Error
	}
	switch {
	case exists && want == works:
		requireState(t, err, "23505")
		s.failed()
	case !s.judge(t, want, err, "create"):
		return
	default:
		m.change(s, n.Body, n.Value)
	}
	if s.in != nil {
		s.in.inserted = true
	}
}

func (m *machine) update(t *rapid.T) {
	s := m.writer(t)
	body, value := bodies.Draw(t, "body"), values.Draw(t, "value")
	_, exists := m.sees(s)[body]
	want := s.writes()
	done := s.db.Model(&Note{}).Where("body = ?", body).Update("value", value)
	if !s.judge(t, want, done.Error, "update") {
		return
	}
	if exists {
		require.EqualValues(t, 1, done.RowsAffected)
		m.change(s, body, value)
	} else {
		require.Zero(t, done.RowsAffected)
	}
}

func (m *machine) remove(t *rapid.T) {
	s := m.writer(t)
	body := bodies.Draw(t, "body")
	want := s.writes()
	done := s.db.Where("body = ?", body).Delete(&Note{})
	if !s.judge(t, want, done.Error, "delete") {
		return
	}
	if _, exists := m.sees(s)[body]; exists {
		require.EqualValues(t, 1, done.RowsAffected)
		delete(m.sees(s), body)
	} else {
		require.Zero(t, done.RowsAffected)
	}
}

func (m *machine) syntaxError(t *rapid.T) {
	s := m.writer(t)
	var err error
	if rapid.Bool().Draw(t, "as a query") {
		err = s.db.Raw(`SELEC ?`, 1).Scan(new(int)).Error
	} else {
		err = s.db.Exec(`SELEC 1`).Error
	}
	require.Error(t, err)
	if !s.refused() {
		requireState(t, err, "42601")
		s.failed()
	}
}

func (m *machine) begin(t *rapid.T) {
	idle := m.tenantsIdle()
	if len(m.open) >= mostOpen {
		return
	}
	tenant := rapid.SampledFrom(idle).Draw(t, "tenant")
	ctx, cancel := context.WithCancel(as(tenant))
	opts := &sql.TxOptions{}
	if rapid.Bool().Draw(t, "read uncommitted") {
		opts.Isolation = sql.LevelReadUncommitted // which PostgreSQL takes for read committed
	}
	tx := m.db.WithContext(ctx).Begin(opts)
	require.NoError(t, tx.Error)
	m.open[tenant] = &transaction{tenant: tenant, tx: tx, cancel: cancel, state: maps.Clone(m.committed[tenant])}
}

// drawOpen draws a transaction under way, or returns nil.
func (m *machine) drawOpen(t *rapid.T) *transaction {
	if len(m.open) == 0 {
		return nil
	}
	return m.open[rapid.SampledFrom(slices.Sorted(maps.Keys(m.open))).Draw(t, "transaction of")]
}

func (m *machine) commit(t *rapid.T) {
	if x := m.drawOpen(t); x != nil {
		m.end(t, x)
	}
}

// end commits.
func (m *machine) end(t *rapid.T, x *transaction) {
	err := x.tx.Commit().Error
	switch {
	case x.over && !x.used: // there is nothing to lose
		m.close(x, false)
	case x.aborted || x.over || x.client().refused():
		require.Error(t, err)
		m.close(x, false)
	default:
		require.NoError(t, err)
		m.close(x, true)
	}
}

func (m *machine) rollback(t *rapid.T) {
	if x := m.drawOpen(t); x != nil {
		m.throwAway(t, x)
	}
}

func (m *machine) throwAway(t *rapid.T, x *transaction) {
	if err := x.tx.Rollback().Error; !x.over {
		require.NoError(t, err)
	}
	m.close(x, false)
}

func (m *machine) savepoint(t *rapid.T) {
	x := m.drawOpen(t)
	if x == nil {
		return
	}
	name := m.name("sp")
	err := inside(x).db.Exec("SAVEPOINT " + name).Error // GORM's own SavePoint swallows errors
	if x.client().refused() {
		require.Error(t, err)
		return
	}
	require.NoError(t, err)
	x.savepoints = append(x.savepoints, savepoint{name, maps.Clone(x.state), x.things.clone()})
}

func (m *machine) rollbackTo(t *rapid.T) {
	x := m.drawOpen(t)
	if x == nil || len(x.savepoints) == 0 {
		return
	}
	n := rapid.IntRange(0, len(x.savepoints)-1).Draw(t, "savepoint")
	sp := x.savepoints[n]
	err := inside(x).db.Exec("ROLLBACK TO SAVEPOINT " + sp.name).Error
	if aborted := x.aborted; err != nil {
		x.aborted = false
		require.True(t, x.client().refused(), "%v", err)
		x.aborted = aborted
		return
	}
	require.False(t, x.over)
	x.state, x.things, x.aborted, x.savepoints = maps.Clone(sp.state), sp.things.clone(), false, x.savepoints[:n+1]
}

// set changes by hand what the guard sets, for the rest of a transaction or of the session.
func (m *machine) set(t *rapid.T) {
	s := m.writer(t)
	other := literal(rapid.SampledFrom(tenants).Draw(t, "other"))
	trap := rapid.SampledFrom([]string{
		`SET app.tenant_id =` + other,
		`SET LOCAL app.tenant_id =` + other,
		`SELECT set_config('app.tenant_id',` + other + `, false)`,
		`SELECT set_config('app.tenant_id',` + other + `, true)`,
		`SET ROLE ` + m.Admin.Role,
		`SET LOCAL ROLE ` + m.Admin.Role,
		`SELECT set_config('role', '` + m.Admin.Role + `', false)`,
		`RESET app.tenant_id`,
		`RESET ROLE`,
		`RESET ALL`,
		`DISCARD PLANS`,
		`DISCARD TEMP`,
		`DISCARD ALL`,
		`DEALLOCATE ALL`,
	}).Draw(t, "trap")
	if trap == `DISCARD ALL` {
		// It can't run in a transaction. Where it is sent alone, for nobody, it takes prepared statements along, too.
		err := m.db.WithContext(tenancy.WithoutTenant(context.Background())).Exec(trap).Error
		if m.way.prepare { // a prepared statement is never sent alone
			requireState(t, err, "25001")
		} else {
			require.NoError(t, err)
		}
		return
	}
	if !s.leave(t, trap) {
		return
	}
	switch {
	case trap == `RESET ALL`:
		s.things.settings = nil
	case trap == `DISCARD TEMP`:
		s.things.report, s.things.shadow = false, nil
	case trap == `DEALLOCATE ALL`:
		s.session.prepared = 0
	case strings.Contains(strings.ToLower(trap), "role"):
		s.things.role = "" // to a role with more rights the guard does not leave it
	}
}

// endByHand ends a transaction behind database/sql's back. Nothing may run in it afterwards, also where SQL has begun another.
func (m *machine) endByHand(t *rapid.T) {
	x := m.drawOpen(t)
	if x == nil || x.over {
		return
	}
	ends := []string{"COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"}
	if x.aborted {
		ends = ends[:2] // after an error the guard does not always notice a chain
	}
	end := rapid.SampledFrom(ends).Draw(t, "end")
	commits, chains := strings.HasPrefix(end, "COMMIT"), strings.HasSuffix(end, "CHAIN")
	if err := inside(x).db.Exec(end).Error; err != nil {
		require.True(t, x.client().refused(), "%v", err)
		x.over = x.over || x.aborted // so early that the server knows of no transaction
		return
	}
	if commits && !x.aborted {
		m.committed[x.tenant] = x.state
	}
	x.over = true
	if chains && rapid.Bool().Draw(t, "goes on") {
		require.ErrorIs(t, inside(x).db.Exec(`SELECT 1`).Error, sql.ErrTxDone)
	} else if chains {
		m.finish(t, x)
	}
}

// beginByHand leaves a transaction behind on a connection.
func (m *machine) beginByHand(t *rapid.T) {
	if idle := m.tenantsIdle(); len(idle) > 0 {
		tenant := rapid.SampledFrom(idle).Draw(t, "tenant")
		require.NoError(t, m.db.WithContext(as(tenant)).Exec("BEGIN").Error)
	}
}

func (m *machine) bypassReads(t *rapid.T) {
	var opts []tenancy.BypassOption
	if rapid.Bool().Draw(t, "read-only") {
		opts = append(opts, tenancy.BypassReadOnly())
	}
	var found []Note
	require.NoError(t, tenancy.Bypass(m.db, "model", opts...).WithContext(context.Background()).Find(&found).Error)
	got := map[string]notes{}
	for _, tenant := range tenants {
		got[tenant] = notes{}
	}
	for _, n := range found {
		got[n.TenantID][n.Body] = n.Value
	}
	require.Equal(t, m.committed, got)
}

func (m *machine) bypassWrites(t *rapid.T) {
	idle := m.tenantsIdle()
	value := values.Draw(t, "value")
	var opts []tenancy.BypassOption
	readOnly := rapid.Bool().Draw(t, "read-only")
	if readOnly {
		opts = append(opts, tenancy.BypassReadOnly())
	}
	done := tenancy.Bypass(m.db, "model", opts...).WithContext(context.Background()).
		Model(&Note{}).Where("tenant_id IN ?", idle).Update("value", value)
	if readOnly {
		requireState(t, done.Error, "25006")
		return
	}
	require.NoError(t, done.Error)
	for _, tenant := range idle {
		for body := range m.committed[tenant] {
			m.committed[tenant][body] = value
		}
	}
}

var errOwn = errors.New("the application's own")

// forEach writes for each tenant; one may fail, and one panic.
func (m *machine) forEach(t *rapid.T) {
	idle := m.tenantsIdle()
	value := values.Draw(t, "value")
	fails := rapid.SampledFrom(append([]string{""}, idle...)).Draw(t, "fails")
	panics := rapid.SampledFrom(append([]string{""}, idle...)).Draw(t, "panics")
	err := tenancy.ForEachTenant(context.Background(), m.db, idle, func(ctx context.Context, tx *gorm.DB) error {
		tenant, _ := tenancy.TenantFromContext(ctx)
		if err := tx.Model(&Note{}).Where("true").Update("value", value).Error; err != nil {
			return err
		}
		switch tenant {
		case panics:
			panic("on purpose")
		case fails:
			return errOwn
		}
		return nil
	})
	var panicked *tenancy.PanicError
	require.Equal(t, panics != "", errors.As(err, &panicked))
	require.Equal(t, fails != "" && fails != panics, errors.Is(err, errOwn))
	for _, tenant := range idle {
		if tenant == fails || tenant == panics {
			continue
		}
		for body := range m.committed[tenant] {
			m.committed[tenant][body] = value
		}
	}
}

// nobody reads without a decision about the tenant, and for no tenant.
func (m *machine) nobody(t *rapid.T) {
	way := drawWay(t)
	found, err := way.read(m.db.WithContext(context.Background()))
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	require.Empty(t, found)
	found, err = way.read(m.db.WithContext(tenancy.WithoutTenant(context.Background())))
	require.NoError(t, err)
	require.Empty(t, found)
	require.Error(t, m.db.WithContext(tenancy.WithoutTenant(context.Background())).
		Exec(`INSERT INTO notes (tenant_id, body) VALUES (?, 'nobody')`, tenants[0]).Error)
}

// another tenant's context can't use a transaction. One that says nothing inherits.
func (m *machine) another(t *rapid.T) {
	x := m.drawOpen(t)
	if x == nil {
		return
	}
	way := drawWay(t)
	for _, tenant := range tenants {
		if tenant == x.tenant {
			continue
		}
		found, err := way.read(inside(x).db.WithContext(as(tenant)))
		require.Error(t, err)
		if !x.over {
			require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
		}
		require.Empty(t, found)
	}
	inheriting := inside(x)
	inheriting.db = inheriting.db.WithContext(context.Background())
	m.read(t, inheriting)
}

// panic writes, and panics in the transaction.
func (m *machine) panic(t *rapid.T) {
	idle := m.tenantsIdle()
	tenant := rapid.SampledFrom(idle).Draw(t, "tenant")
	require.PanicsWithValue(t, errOwn, func() {
		_ = m.db.WithContext(as(tenant)).Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Where("true").Delete(&Note{}).Error)
			panic(errOwn)
		})
	})
}

// cancel ends the context of a statement before it is sent, or of a transaction.
func (m *machine) cancel(t *rapid.T) {
	if x := m.drawOpen(t); x != nil {
		x.cancel()
		x.over, x.cancelled, x.kept = true, true, kept{}
		tx, ctx := x.tx.Statement.ConnPool, as(x.tenant)
		require.Eventually(t, func() bool { // database/sql rolls back on a goroutine of its own
			_, err := tx.ExecContext(ctx, `SELECT 1`)
			return errors.Is(err, sql.ErrTxDone)
		}, patience, time.Millisecond)
		return
	}
	ctx, cancel := context.WithCancel(as(rapid.SampledFrom(tenants).Draw(t, "tenant")))
	cancel()
	require.ErrorIs(t, m.db.WithContext(ctx).Create(&Note{Body: "never"}).Error, context.Canceled)
}

// unreadRows leaves rows unread.
func (m *machine) unreadRows(t *rapid.T) {
	s := m.reader(t)
	if s.reads() != works {
		return
	}
	rows, err := s.db.Raw(`SELECT tenant_id FROM notes, generate_series(1, 50)`).Rows()
	require.NoError(t, err)
	defer rows.Close()
	if rows.Next() {
		var tenant string
		require.NoError(t, rows.Scan(&tenant))
		require.Equal(t, s.tenant, tenant)
	} else {
		require.Empty(t, m.sees(s))
	}
}

// cut breaks all connections. What was not committed is lost.
func (m *machine) cut(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "really") != 0 {
		return // it is the most expensive of all
	}
	m.proxy.CutAll()
	// Nobody knows before the connections are used. Somebody may get the error, and never another's rows.
	s := m.outside(rapid.SampledFrom(tenants).Draw(t, "tenant"))
	found, err := waysToRead[0].read(s.db)
	if err == nil {
		require.Equal(t, m.committed[s.tenant], toNotes(t, s.tenant, found))
	}
	free := connections
	for _, tenant := range slices.Sorted(maps.Keys(m.open)) {
		x := m.open[tenant]
		by := "rollback"
		switch {
		case !x.used || x.over: // it has no connection that is broken, or sends nothing
		case x.aborted: // perhaps so early that a statement is refused before it is sent, and it is not noticed
			by = rapid.SampledFrom([]string{"commit", "rollback"}).Draw(t, "ended by")
		case x.client().refused():
			by = "rollback"
		default:
			by = rapid.SampledFrom([]string{"statement", "commit", "rollback"}).Draw(t, "found out by")
		}
		x.over, x.kept = true, kept{}
		switch by {
		case "statement":
			require.Error(t, inside(x).db.Exec(`SELECT 1`).Error)
			free--
		case "commit":
			m.end(t, x)
		case "rollback":
			x.tx.Rollback()
			m.close(x, false)
		}
	}
	m.pool.renew(t, free)
}

// poolOf is the pool below the guarded one.
type poolOf struct{ *sql.DB }

// renew takes so many connections, all that are free, and throws away those that are broken.
func (p *poolOf) renew(t require.TestingT, free int) {
	ctx := context.Background()
	var taken []*sql.Conn
	for len(taken) < free {
		c, err := p.Conn(ctx)
		require.NoError(t, err)
		if c.PingContext(ctx) == nil {
			taken = append(taken, c)
		} else {
			_ = c.Close() // database/sql throws it away
		}
	}
	for _, c := range taken {
		require.NoError(t, c.Close())
	}
}

func requireState(t require.TestingT, err error, state string) {
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, state, pgErr.Code)
}

// drawWay draws by name, for the log.
func drawWay(t *rapid.T) wayToRead {
	names := make([]string, len(waysToRead))
	for i, way := range waysToRead {
		names[i] = way.name
	}
	return waysToRead[slices.Index(names, rapid.SampledFrom(names).Draw(t, "read by"))]
}

type wayToRead struct {
	name string
	read func(db *gorm.DB) ([]Note, error)
}

// waysToRead are some of the ways by which GORM's users come to rows.
var waysToRead = []wayToRead{
	{"Find", func(db *gorm.DB) (found []Note, err error) {
		err = db.Find(&found).Error
		return found, err
	}},
	{"Raw", func(db *gorm.DB) (found []Note, err error) {
		err = db.Raw(`SELECT * FROM notes WHERE value >= ?`, 0).Scan(&found).Error
		return found, err
	}},
	{"Rows", func(db *gorm.DB) (found []Note, err error) {
		rows, err := db.Model(&Note{}).Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var n Note
			if err := db.ScanRows(rows, &n); err != nil {
				return found, err
			}
			found = append(found, n)
		}
		return found, rows.Err()
	}},
	{"generics", func(db *gorm.DB) ([]Note, error) {
		return gorm.G[Note](db).Where("value >= ?", 0).Find(db.Statement.Context)
	}},
	{"ConnPool", func(db *gorm.DB) ([]Note, error) {
		stmt := db.Session(&gorm.Session{}).Statement
		return scan(stmt.ConnPool.QueryContext(stmt.Context, `SELECT * FROM notes`))
	}},
	{"simple protocol", func(db *gorm.DB) ([]Note, error) {
		stmt := db.Session(&gorm.Session{}).Statement
		return scan(stmt.ConnPool.QueryContext(stmt.Context, `SELECT * FROM notes`, simple))
	}},
	{"Stmt", func(db *gorm.DB) ([]Note, error) {
		session := db.Session(&gorm.Session{}).Statement
		stmt, err := session.ConnPool.PrepareContext(session.Context, `SELECT * FROM notes WHERE value >= $1`)
		if err != nil {
			return nil, err
		}
		defer stmt.Close()
		return scan(stmt.QueryContext(session.Context, 0))
	}},
}

const simple = pgx.QueryExecModeSimpleProtocol

func scan(rows *sql.Rows, err error) (found []Note, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n Note
		if err := rows.Scan(&n.ID, &n.TenantID, &n.Body, &n.Value); err != nil {
			return found, err
		}
		found = append(found, n)
	}
	return found, rows.Err()
}
