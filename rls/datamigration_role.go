package rls

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/visible"
)

// dataTransaction is a transaction of a data migration.
type dataTransaction struct {
	*dataMigration
	ctx    context.Context //nolint:containedctx // it lives as long as one call
	tx     *gorm.DB
	conn   gorm.ConnPool // of the transaction
	nested bool          // in one of the caller's

	before   dataRole
	role     string // that fn runs as, empty for none but the login's own
	security string // the value of row_security
	token    string // that tells this transaction from a later one
	unforced []string
}

// dataRole is what PostgreSQL says of the login before a data migration.
type dataRole struct {
	Current, Role, Security string
	LockTimeout             string
	Version                 int
	Exempt                  bool // policies do not apply to the current role
	Admin                   *struct {
		Exempt, Taken bool
	}
}

const policiesDoNotApply = "r.rolsuper OR r.rolbypassrls"

var dataRoleQuery = `SELECT pg_catalog.json_build_object(
	'current', current_user, 'role', pg_catalog.current_setting('role'), 'security', pg_catalog.current_setting('row_security'),
	'locktimeout', pg_catalog.current_setting('lock_timeout'), 'version', pg_catalog.current_setting('server_version_num')::int,
	'exempt', (SELECT ` + policiesDoNotApply + ` FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
	'admin', (SELECT pg_catalog.json_build_object('exempt', ` + policiesDoNotApply + `, 'taken', ` + policy.CanTake("session_user", "r.oid") + `)
		FROM pg_catalog.pg_roles r WHERE r.rolname = $1))::text`

// run does the work of a data migration, within the transaction.
func (t *dataTransaction) run(do func(t *dataTransaction) error) error {
	if err := t.enter(); err != nil {
		return err
	}
	err := do(t)
	if err == nil {
		err = t.sawAll()
	}
	if err == nil {
		return t.leave()
	}
	if errors.Is(err, errEnded) {
		err = errors.Join(err, t.forceAfterCommit())
	}
	return t.explainHidden(err)
}

// enter chooses the role, and takes it. Where no policy is to apply to the role, PostgreSQL is told to refuse statements from which one
// would hide rows: row_security off is no privilege, but the wish for an error
// (https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-ROW-SECURITY).
func (t *dataTransaction) enter() error {
	if err := catalog.ReadJSON(t.ctx, t.conn, &t.before, dataRoleQuery, t.AdminRole); err != nil {
		return err
	}
	t.token, t.role, t.security = rand.Text(), t.before.Role, "off"
	switch admin := t.before.Admin; {
	case t.asOwner:
		if err := t.unforce(); err != nil {
			return err
		}
	case t.before.Exempt || admin == nil:
	case t.before.Current == t.AdminRole:
		t.security = "on"
	case admin.Taken:
		t.role = t.AdminRole
		if !admin.Exempt {
			t.security = "on"
		}
	}
	const set = `SELECT pg_catalog.set_config('role', $1, true), pg_catalog.set_config('row_security', $2, true), pg_catalog.set_config('tenancy.data_migration', $3, true)`
	if _, err := t.conn.ExecContext(t.ctx, set, t.role, t.security, t.token); err != nil {
		return err
	}
	return t.holds()
}

// leave gives back what enter has taken. A transaction of the caller's goes on as before.
func (t *dataTransaction) leave() error {
	const set = `SELECT pg_catalog.set_config('role', $1, true), pg_catalog.set_config('row_security', $2, true), pg_catalog.set_config('tenancy.data_migration', '', true)`
	if _, err := t.conn.ExecContext(t.ctx, set, t.before.Role, t.before.Security); err != nil {
		return err
	}
	return t.force()
}

// unforce lets the owner see all rows of the tables.
func (t *dataTransaction) unforce() error {
	if t.before.LockTimeout == "0" {
		if _, err := t.conn.ExecContext(t.ctx, "SET LOCAL lock_timeout = '5s'"); err != nil {
			return err
		}
	}
	for _, table := range t.tables {
		var forced bool
		const query = "SELECT relforcerowsecurity FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.regclass"
		if err := t.conn.QueryRowContext(t.ctx, query, table).Scan(&forced); err != nil {
			return err
		}
		if !forced {
			continue
		}
		if _, err := t.conn.ExecContext(t.ctx, "ALTER TABLE "+table+" NO FORCE ROW LEVEL SECURITY"); err != nil {
			return err
		}
		t.unforced = append(t.unforced, table)
	}
	const reset = "SELECT pg_catalog.set_config('lock_timeout', $1, true)"
	_, err := t.conn.ExecContext(t.ctx, reset, t.before.LockTimeout)
	return err
}

// force is the reverse of unforce. A table that fn has replaced by another of its name has to have policies as well.
func (t *dataTransaction) force() error {
	for _, table := range t.unforced {
		var exists, enabled bool
		const query = "SELECT count(*) > 0, coalesce(bool_and(relrowsecurity), false) FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)"
		if err := t.conn.QueryRowContext(t.ctx, query, table).Scan(&exists, &enabled); err != nil {
			return err
		}
		switch {
		case !exists:
			continue
		case !enabled:
			return fmt.Errorf("table %s has lost its row level security: let Migrate isolate a table that takes the place of another, in the same transaction", table)
		}
		if _, err := t.conn.ExecContext(t.ctx, "ALTER TABLE "+table+" FORCE ROW LEVEL SECURITY"); err != nil {
			return err
		}
	}
	return nil
}

// forceAfterCommit undoes what PostgreSQL has committed, and so does not undo itself. A transaction that a statement has begun
// after that has no part in it.
func (t *dataTransaction) forceAfterCommit() error {
	if len(t.unforced) == 0 {
		return nil
	}
	if _, err := t.conn.ExecContext(t.ctx, "ROLLBACK"); err != nil {
		return err
	}
	return t.force()
}

// sawAll returns an error if policies may have hidden rows of a table that the transaction has read or written. With row_security off
// PostgreSQL has refused that.
func (t *dataTransaction) sawAll() error {
	if t.security == "off" {
		return nil
	}
	var hidden []struct{ Name, Reader string }
	query := "SELECT coalesce(pg_catalog.json_agg(h), '[]')::text FROM (" + visible.Touched + ") h"
	if err := catalog.ReadJSON(t.ctx, t.conn, &hidden, query); err != nil {
		return err
	}
	if len(hidden) == 0 {
		return nil
	}
	table, reader := hidden[0].Name, hidden[0].Reader
	if reader == t.AdminRole {
		return fmt.Errorf("%w: role %q does not see all rows of %s: let Migrate make its policy %s", ErrRowsHidden, reader, table, policy.Admin)
	}
	return fmt.Errorf("%w: a view was read with the rights of its owner, role %q, from which rows of %s are hidden: "+
		"create it WITH (security_invoker = true), or use AsOwner", ErrRowsHidden, reader, table)
}

// explainHidden adds to PostgreSQL's refusal what to do about it.
func (t *dataTransaction) explainHidden(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Routine != "check_enable_rls" {
		return err
	}
	advice := "AsOwner has to name this table"
	switch {
	case t.asOwner:
	case t.AdminRole == "":
		advice = fmt.Sprintf("role %q is bound by its policies, and Isolation has no AdminRole", t.before.Current)
	case t.before.Admin == nil:
		advice = fmt.Sprintf("role %q does not exist: CREATE ROLE %s NOLOGIN, and migrate", t.AdminRole, sqltext.Ident(t.AdminRole))
	case !t.before.Admin.Taken:
		advice = fmt.Sprintf("role %q is bound by its policies, and cannot take %[2]q, which is not: %[3]s; or use AsOwner",
			t.before.Current, t.AdminRole, policy.GrantRoleToOwner(t.before.Version, t.AdminRole, t.before.Current))
	}
	return fmt.Errorf("%w: %w: %s", ErrRowsHidden, catalog.Explain(err, t.Column), advice)
}
