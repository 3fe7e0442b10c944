package rls

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// ErrRowsHidden is the error of a data migration from which policies may have hidden rows. Nothing of it is kept.
var ErrRowsHidden = errors.New("policies hide rows from the data migration")

// DataOption changes how a data migration runs.
type DataOption func(*dataMigration)

// AsOwner runs a data migration as the owner itself, for what only owners may do: ALTER TABLE, REFRESH MATERIALIZED VIEW, CREATE TABLE AS.
// Until the transaction ends, the policies of these tables are not forced on their owner. The names are as in PostgreSQL's catalog,
// without quotes, with a schema in front or without.
//
// It locks the tables: no other session reads or writes them until the data migration has ended. It waits for them as long as lock_timeout
// says, and for 5 seconds if that is 0. Other sessions never see the tables without FORCE. All other tables whose rows policies hide
// from the owner are refused by PostgreSQL.
func AsOwner(tables ...string) DataOption {
	return func(m *dataMigration) { m.asOwner, m.tables = true, append(m.tables, tables...) }
}

// DataMigration calls fn in a transaction that sees the rows of all tenants, to change rows after Migrate has forced policies on the
// owner. Without it, an UPDATE of the owner changes 0 rows, and reports no error.
//
//	err := iso.DataMigration(ctx, owner, func(tx *gorm.DB) error {
//		return tx.Exec("UPDATE invoices SET currency = 'EUR' WHERE currency IS NULL").Error
//	})
//
// It needs a plain *gorm.DB: of the owner, of AdminRole or of a superuser. Statements must go through tx, or through its pool,
// tx.Statement.ConnPool, which has the methods of a *sql.Tx. The transaction runs as
//
//   - the owner, with AsOwner;
//   - the login itself, if it is a superuser, has BYPASSRLS, or is AdminRole;
//   - AdminRole, if the login may take it: others go on working with the tables, and statements that need the owner fail;
//   - the login itself otherwise. PostgreSQL then refuses each statement from which a policy would hide rows, and the error says
//     which GRANT is missing.
//
// The setting of the tenant plays no part: fn may set it, for the default of the tenant column. In a transaction of the caller's, fn runs
// within a savepoint, and the role is as before afterwards. If fn returns an error, nothing of it is kept.
//
// DataMigration fails rather than let fn miss rows. The error is ErrRowsHidden if fn has read or written a table of which policies may
// hide rows from its role, or from the owner of a view that it has used; if fn leaves the role or ends the transaction; or if it has sent
// no statement through tx. One thing is not noticed: a function with SECURITY DEFINER that fn calls in AdminRole reads with the rights of
// its owner; with AsOwner, PostgreSQL refuses it. Errors of PostgreSQL are found by errors.As with a *pgconn.PgError; no error text
// holds a stored value.
func (i Isolation) DataMigration(ctx context.Context, db *gorm.DB, fn func(tx *gorm.DB) error, opts ...DataOption) error {
	m, err := i.dataMigration(opts)
	if err != nil {
		return err
	}
	if err := m.usable(db); err != nil {
		return fmt.Errorf("tenancy: %w", err)
	}
	return m.inTransaction(ctx, db, func(t *dataTransaction) error { return t.call(fn) })
}

// dataMigration is what a data migration is to do.
type dataMigration struct {
	policy.Config
	asOwner bool
	tables  []string
}

func (i Isolation) dataMigration(opts []DataOption) (*dataMigration, error) {
	p, err := i.planner()
	if err != nil {
		return nil, err
	}
	m := &dataMigration{Config: p.Config}
	for _, opt := range opts {
		opt(m)
	}
	for n, name := range m.tables {
		if name == "" || strings.Count(name, ".") > 1 {
			return nil, errors.New("tenancy: AsOwner: name a table, or schema.table, without quotes")
		}
		m.tables[n] = sqltext.Ident(strings.Split(name, ".")...)
	}
	return m, nil
}

// usable refuses a database in which the role of a transaction cannot be chosen.
func (m *dataMigration) usable(db *gorm.DB) error {
	if err := model.Usable(db); err != nil {
		return err
	}
	if _, guarded := db.Plugins["tenancy"]; guarded {
		return errors.New("the plugin chooses the role of each statement: pass a *gorm.DB of the owner without it")
	}
	return nil
}

// inTransaction calls do in a transaction that is prepared for a data migration, and ends it.
func (m *dataMigration) inTransaction(ctx context.Context, db *gorm.DB, do func(t *dataTransaction) error) error {
	session := db.WithContext(ctx).Session(&gorm.Session{})
	session.DisableNestedTransaction = false // so that an error undoes what is done within a transaction of the caller's
	nested := gormtx.In(db.Statement.ConnPool)
	err := session.Transaction(func(tx *gorm.DB) error {
		t := &dataTransaction{dataMigration: m, ctx: ctx, tx: tx, conn: tx.Statement.ConnPool, nested: nested}
		return t.run(do)
	})
	if err != nil {
		return fmt.Errorf("tenancy: data migration: %w", catalog.Explain(err, m.Column))
	}
	return nil
}
