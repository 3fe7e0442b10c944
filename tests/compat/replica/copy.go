package replica

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// newCopy makes a second database on the same server, which is read-only unless a session says otherwise.
func newCopy(t testing.TB, d *pgserver.Database) (*Replica, error) {
	name := d.Name + "_replica"
	maintenance := pgserver.Shared(t).DSN()
	if err := poll(t.Context(), "wait until no session is open", func() (free bool, err error) {
		err = with(t.Context(), maintenance, func(conn *pgx.Conn) error {
			return conn.QueryRow(t.Context(),
				"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)", d.Name).Scan(&free)
		})
		return free, err
	}); err != nil {
		return nil, err
	}
	if err := do(t.Context(), maintenance,
		fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s", name, d.Name, d.Owner.Role)); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := do(context.Background(), maintenance, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	r := &Replica{
		Here:   "current_database() = '" + name + "'",
		locate: func(dsn *url.URL) { dsn.Path = "/" + name },
	}
	if err := do(t.Context(), r.DSN(t, d.Owner.DSN),
		"ALTER DATABASE "+name+" SET default_transaction_read_only = on"); err != nil {
		return nil, err
	}
	r.catchUp = func(ctx context.Context) error {
		return with(ctx, d.Admin.DSN, func(from *pgx.Conn) error {
			return with(ctx, r.DSN(t, d.Admin.DSN), func(to *pgx.Conn) error { return copyRows(ctx, from, to) })
		})
	}
	r.pause = func(context.Context) error { return nil } // it never changes by itself
	r.resume = r.pause
	r.promote = func(ctx context.Context) error {
		err := do(ctx, maintenance, "ALTER DATABASE "+name+" RESET default_transaction_read_only")
		return errors.Join(err, do(ctx, maintenance, endSessions(name)))
	}
	r.stop = func(ctx context.Context) error {
		err := do(ctx, maintenance, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
		return errors.Join(err, do(ctx, maintenance, endSessions(name)))
	}
	return r, nil
}

func endSessions(database string) string {
	return "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + database + "'"
}

// copyRows replaces the rows of all tables, as the admin, whom policies show all of them.
func copyRows(ctx context.Context, from, to *pgx.Conn) error {
	rows, err := from.Query(ctx, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	tx, err := to.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, table := range tables {
		var content string
		if err := from.QueryRow(ctx, "SELECT coalesce(json_agg(t), '[]')::text FROM "+table+" t").Scan(&content); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM "+table); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT * FROM json_populate_recordset(NULL::%[1]s, $1::text::json)",
			table), content); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}
