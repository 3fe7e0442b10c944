package model

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/gormtenancy/tenancy"
)

// leaveActions leave in a session what outlives a statement: in a transaction, whose holder finds it again, or outside.
func (m *machine) leaveActions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"temporary table": m.temporaryTable, "shadow": m.shadow, "shadow once more": m.shadow, "setting": m.setting,
		"setting once more": m.setting, "setting in a condition": m.settingInCondition,
		"less rights": m.lessRights, "cursor": m.cursor, "SQL PREPARE": m.prepareBySQL, "forge": m.forge,
		"lock": m.lock, "listen": m.listen, "procedure": m.procedure, "procedure for nobody": m.procedureForNobody,
		"lastval": m.lastval, "look": m.look, "look again": m.look, "hold": m.hold, "hold again": m.hold, "unguarded": m.unguarded,
	}
}

// client draws a client that may leave something in its session: a transaction, if one is open, or a tenant outside.
func (m *machine) client(t *rapid.T) session {
	if x := m.drawOpen(t); x != nil && rapid.IntRange(0, 3).Draw(t, "outside") != 0 {
		return inside(x)
	}
	return m.outside(rapid.SampledFrom(tenants).Draw(t, "tenant"))
}

// send sends SQL text in one of the ways that GORM's users have.
func (s session) send(t *rapid.T, sql string) error {
	switch rapid.SampledFrom([]string{"Exec", "Rows", "ConnPool"}).Draw(t, "sent by") {
	case "Exec":
		return s.db.Exec(sql).Error
	case "Rows":
		rows, err := s.db.Raw(sql).Rows()
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		_ = rows.Close() // it says the same
		return rows.Err()
	default:
		stmt := s.db.Session(&gorm.Session{}).Statement
		_, err := stmt.ConnPool.ExecContext(stmt.Context, sql)
		return err
	}
}

// leave sends SQL that works wherever a statement can be sent, and reports whether it did.
func (s session) leave(t *rapid.T, sql string) bool {
	want := works
	if s.refused() {
		want = refused
	}
	return s.judge(t, want, s.send(t, sql), sql)
}

// isHolder reports whether the client finds again what it has left.
func (s session) isHolder() bool { return s.in != nil || s.held }

// temporaryTable makes one that goes with the transaction, or at the next cleaning.
func (m *machine) temporaryTable(t *rapid.T) { m.leaveTemporaryTable(t, m.client(t)) }

func (m *machine) leaveTemporaryTable(t *rapid.T, s session) {
	if s.things.report || s.things.role != "" {
		return
	}
	create := rapid.SampledFrom([]string{
		`CREATE TEMP TABLE report AS SELECT 1 AS n`, `CREATE TEMP TABLE report (n int) ON COMMIT DROP`,
		`CREATE TEMP VIEW report AS SELECT 1 AS n`, `SELECT 1 AS n INTO TEMP report`,
	}).Draw(t, "create")
	if s.leave(t, create) {
		s.things.report = s.in != nil || !strings.Contains(create, "ON COMMIT DROP")
	}
}

// shadow makes a temporary relation of the table's name, which PostgreSQL finds first.
func (m *machine) shadow(t *rapid.T) { m.leaveShadow(t, m.client(t)) }

func (m *machine) leaveShadow(t *rapid.T, s session) {
	if s.things.shadow != nil || s.things.role != "" || s.things.setting("row_security") == "off" {
		return
	}
	if rapid.Bool().Draw(t, "a view") {
		if s.leave(t, `CREATE TEMP VIEW notes AS SELECT * FROM public.notes WHERE value < 0`) {
			s.things.shadow = notes{}
		}
		return
	}
	if s.leave(t, `CREATE TEMP TABLE notes AS SELECT id, tenant_id, body, value + 1000 AS value FROM public.notes`) {
		s.things.shadow = notes{}
		for body, value := range m.sees(s) {
			s.things.shadow[body] = value + 1000
		}
	}
}

// setting changes one, for the session or for the transaction.
func (m *machine) setting(t *rapid.T) { m.leaveSetting(t, m.client(t)) }

func (m *machine) leaveSetting(t *rapid.T, s session) {
	change := settingChanges[rapid.IntRange(0, len(settingChanges)-1).Draw(t, "setting")]
	form := rapid.SampledFrom([]string{
		`SET %s = %s`, `SET LOCAL %s = %s`, `SELECT set_config('%s', '%s', false)`, `SELECT set_config('%s', '%s', true)`,
	}).Draw(t, "form")
	value := change.value
	if strings.HasPrefix(form, "SET") && change.name != "search_path" { // a list of names
		value = "'" + value + "'"
	}
	if s.leave(t, fmt.Sprintf(form, change.name, value)) {
		if local := strings.Contains(form, "LOCAL") || strings.Contains(form, "true"); s.in != nil || !local {
			s.things.set(change.name, change.reads)
		}
	}
}

// settingInCondition has a statement that GORM builds call set_config, for each row that it finds.
func (m *machine) settingInCondition(t *rapid.T) { m.leaveSettingInCondition(t, m.client(t)) }

func (m *machine) leaveSettingInCondition(t *rapid.T, s session) {
	value := rapid.SampledFrom([]string{"told", "whispered"}).Draw(t, "value")
	local := rapid.Bool().Draw(t, "local")
	want := s.reads()
	var found []Note
	err := s.db.Where(`set_config(?, ?, ?) <> ''`, secret, value, local).Find(&found).Error
	if !s.judge(t, want, err, "set_config in a condition") {
		require.Empty(t, found)
		return
	}
	m.compare(t, s, found, "set_config in a condition")
	if len(found) > 0 && (s.in != nil || !local) {
		s.things.set(secret, value)
	}
}

// lessRights takes a role that may only read, or gives it up.
func (m *machine) lessRights(t *rapid.T) { m.leaveRole(t, m.client(t)) }

func (m *machine) leaveRole(t *rapid.T, s session) {
	if s.things.report || s.things.shadow != nil {
		return // which that role may not read
	}
	take := rapid.SampledFrom([]string{
		`SET ROLE ` + m.less, `SET LOCAL ROLE ` + m.less, `SELECT set_config('role', '` + m.less + `', false)`, `RESET ROLE`,
	}).Draw(t, "role")
	switch {
	case !s.leave(t, take):
	case take == `RESET ROLE`:
		s.things.role = ""
	case s.in != nil || !strings.Contains(take, "LOCAL"):
		s.things.role = m.less
	}
}

// cursor leaves one that outlives its transaction.
func (m *machine) cursor(t *rapid.T) { m.leaveCursor(t, m.client(t)) }

func (m *machine) leaveCursor(t *rapid.T, s session) {
	if s.reads() != works {
		return
	}
	name := m.name("c")
	if s.leave(t, `DECLARE `+name+` CURSOR WITH HOLD FOR SELECT * FROM notes`) && s.isHolder() {
		found, err := scan(s.db.Raw(`FETCH ALL FROM ` + name).Rows())
		require.NoError(t, err)
		require.Equal(t, m.sees(s), toNotes(t, s.tenant, found))
	}
}

// prepareBySQL leaves a statement that SQL has prepared.
func (m *machine) prepareBySQL(t *rapid.T) { m.leavePrepared(t, m.client(t)) }

func (m *machine) leavePrepared(t *rapid.T, s session) {
	name := m.name("p")
	if !s.leave(t, `PREPARE `+name+` AS SELECT 7`) || !s.isHolder() {
		return
	}
	s.session.prepared++
	var n int
	require.NoError(t, s.db.Raw(`EXECUTE `+name).Scan(&n).Error)
	require.Equal(t, 7, n)
	if rapid.Bool().Draw(t, "deallocate") {
		require.NoError(t, s.send(t, `DEALLOCATE `+name))
		s.session.prepared--
	}
}

// forge replaces the guard's prepared statements by others of the same names. A transaction ends with it: its holder has
// nothing to expect of statements that it has replaced.
func (m *machine) forge(t *rapid.T) {
	s := m.client(t)
	other := literal(rapid.SampledFrom(tenants).Draw(t, "other"))
	role := rapid.SampledFrom([]string{"none", m.Admin.Role}).Draw(t, "role")
	s.leave(t, `DO $do$
		DECLARE s record;
		BEGIN
			FOR s IN SELECT name, statement FROM pg_prepared_statements WHERE name LIKE 'tenancy%' AND NOT from_sql LOOP
				EXECUTE format('DEALLOCATE %I', s.name);
				IF s.statement LIKE '%set_config%' THEN
					EXECUTE format('PREPARE %I (text, text, text, text) AS SELECT set_config(''app.tenant_id'', %L, true), set_config(''role'', %L, true)',
						s.name, `+other+`, '`+role+`');
				ELSE
					EXECUTE format('PREPARE %I AS SELECT 0::bigint, ''forged''::text, ''forged''::text, 0', s.name);
				END IF;
			END LOOP;
		END $do$`)
	if s.in != nil {
		m.finish(t, s.in)
	}
}

// lock leaves an advisory lock of the session.
func (m *machine) lock(t *rapid.T) { m.leaveLock(t, m.client(t)) }

func (m *machine) leaveLock(t *rapid.T, s session) {
	m.names++
	if s.leave(t, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, m.names)) {
		s.session.locks++
	}
}

// listen leaves a channel, and a notification for the next listener.
func (m *machine) listen(t *rapid.T) {
	s := m.client(t)
	if s.leave(t, `LISTEN news`) {
		s.leave(t, `NOTIFY news, 'secret'`)
	}
}

// procedure runs one that writes, sets something, and perhaps commits, which none may for a tenant.
func (m *machine) procedure(t *rapid.T) {
	s := m.writer(t)
	value := values.Draw(t, "value")
	commits := rapid.Bool().Draw(t, "commits")
	calls := []string{fmt.Sprintf(`CALL public.leave(%d, %t)`, value, commits)}
	body := fmt.Sprintf(`UPDATE notes SET value = %d; PERFORM set_config('%s', 'told', false)`, value, secret)
	if commits {
		body += `; COMMIT`
	}
	calls = append(calls, `DO $$ BEGIN `+body+`; END $$`)
	want := s.writes()
	if commits && want == works {
		want = fails
	}
	err := s.send(t, rapid.SampledFrom(calls).Draw(t, "call"))
	if s.judge(t, want, err, "procedure") {
		for body := range m.sees(s) {
			m.change(s, body, value)
		}
		s.things.set(secret, "told")
	}
}

// procedureForNobody may commit, and sees nothing before and after.
func (m *machine) procedureForNobody(t *rapid.T) {
	db := m.db.WithContext(tenancy.WithoutTenant(context.Background()))
	require.NoError(t, db.Exec(`CALL public.leave(-1, true)`).Error)
}

// lastval returns what the transaction has inserted, and nothing that came before it.
func (m *machine) lastval(t *rapid.T) {
	s := m.client(t)
	if s.refused() {
		return
	}
	var id int64
	err := s.db.Raw(`SELECT lastval()`).Scan(&id).Error
	if s.in == nil || !s.in.inserted {
		requireState(t, err, "55000")
		s.failed()
		return
	}
	require.NoError(t, err)
	var foreign int
	require.NoError(t, m.admin.QueryRow(`SELECT count(*) FROM notes WHERE id = $1 AND tenant_id <> $2`, id, s.tenant).Scan(&foreign))
	require.Zero(t, foreign, "the id of another tenant's row")
}

// finish ends a transaction, one way or the other.
func (m *machine) finish(t *rapid.T, x *transaction) {
	if rapid.Bool().Draw(t, "commit") {
		m.end(t, x)
	} else {
		m.throwAway(t, x)
	}
}

// heldActions are what the holder of a connection does, for a tenant.
func (m *machine) heldActions() map[string]func(*rapid.T, session) {
	return map[string]func(*rapid.T, session){
		"temporary table": m.leaveTemporaryTable, "shadow": m.leaveShadow, "setting": m.leaveSetting,
		"setting in a condition": m.leaveSettingInCondition, "role": m.leaveRole, "cursor": m.leaveCursor,
		"prepare": m.leavePrepared, "lock": m.leaveLock, "read": m.read, "look": m.lookAt, "transaction": m.heldTransaction,
		"begin by hand": m.heldByHand,
	}
}

// hold holds a connection, and works there for several tenants. It finds again what it has made, as long as the tenant stays
// the same.
func (m *machine) hold(t *rapid.T) {
	if m.free() == 0 {
		return
	}
	actions := m.heldActions()
	names := make([]string, 0, len(actions))
	for name := range actions {
		names = append(names, name)
	}
	slices.Sort(names)
	require.NoError(t, m.db.WithContext(context.Background()).Connection(func(c *gorm.DB) error {
		var tenant string
		var made things
		var kept kept
		for range rapid.IntRange(1, 8).Draw(t, "statements") {
			if tenant == "" || rapid.IntRange(0, 3).Draw(t, "switch") == 0 {
				next := rapid.SampledFrom(tenants).Draw(t, "tenant")
				if next != tenant {
					made, kept.prepared = things{}, 0
				}
				tenant = next
			}
			db := c.Session(&gorm.Session{NewDB: true, Context: as(tenant)})
			s := session{tenant: tenant, db: db, held: true, things: &made, session: &kept}
			actions[rapid.SampledFrom(names).Draw(t, "held")](t, s)
		}
		return nil
	}))
}

// heldTransaction runs a transaction on a connection that is held. What it sets for the session stays if it commits.
func (m *machine) heldTransaction(t *rapid.T, s session) {
	if s.refused() {
		return
	}
	before := s.things.clone()
	tx := s.db.Begin()
	require.NoError(t, tx.Error)
	x := &transaction{tenant: s.tenant, tx: tx, cancel: func() {}, things: s.things.clone(), kept: *s.session, state: m.committed[s.tenant]}
	in := inside(x)
	local := rapid.Bool().Draw(t, "local")
	in.leave(t, map[bool]string{false: `SET `, true: `SET LOCAL `}[local]+secret+` = 'told'`)
	in.things.set(secret, "told")
	m.lookAt(t, in)
	if rapid.Bool().Draw(t, "commit") {
		require.NoError(t, tx.Commit().Error)
		if !local {
			before.set(secret, "told")
		}
	} else {
		require.NoError(t, tx.Rollback().Error)
	}
	*s.things = before
}

// heldByHand begins a transaction by SQL, in which no other tenant may work.
func (m *machine) heldByHand(t *rapid.T, s session) {
	if s.refused() {
		return
	}
	require.NoError(t, s.db.Exec(`BEGIN`).Error)
	for _, other := range tenants {
		if other != s.tenant && rapid.Bool().Draw(t, "other") {
			found, err := drawWay(t).read(s.db.WithContext(as(other)))
			require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
			require.Empty(t, found)
		}
	}
	require.NoError(t, s.db.Exec(rapid.SampledFrom([]string{`COMMIT`, `ROLLBACK`}).Draw(t, "end")).Error)
}

// unguarded has the pool used without the guard. Whatever hides a table then, or changes how it is read, is found before the
// next statement of each tenant, on whichever connection, if the guard has seen the connection before: what it finds on a
// new one it takes for what the application's connect hook has set. (row_security is switched on with each statement instead, and
// stays off for those without the guard.)
func (m *machine) unguarded(t *rapid.T) {
	if m.free() == 0 {
		return
	}
	m.useAll(t)
	var n int
	require.NoError(t, m.pool.QueryRow(`SELECT count(*) FROM notes`, simple).Scan(&n))
	require.Zero(t, n, "rows of tenants without the guard")
	const forged = ` AS SELECT 0::bigint AS id, 'forged'::text AS tenant_id, 'forged'::text AS body, 0 AS value`
	_, err := m.pool.Exec(rapid.SampledFrom([]string{
		`CREATE TEMP TABLE notes` + forged, `CREATE TEMP VIEW notes` + forged, `SET search_path = pg_catalog`,
		`SET client_encoding = LATIN1`, `SET DateStyle = German`, `SET default_transaction_read_only = on`,
	}).Draw(t, "left"))
	require.NoError(t, err)
	m.useAll(t)
}

// useAll has tenants read on all connections that are not held, at the same time.
func (m *machine) useAll(t *rapid.T) {
	for range m.free() {
		s := m.outside(rapid.SampledFrom(tenants).Draw(t, "tenant"))
		tx := s.db.Begin()
		require.NoError(t, tx.Error)
		defer func() { require.NoError(t, tx.Rollback().Error) }()
		s.db = tx.Session(&gorm.Session{NewDB: true})
		m.read(t, s)
	}
}
