package guard_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

var everything = []string{"a1", "a2", "b1"}

func bypassing(b guard.Bypass) context.Context { return guard.WithBypass(context.Background(), b) }

// bypass opens a pool that bypasses by the admin's role.
func (d *database) bypass(t *testing.T, way way, report func(context.Context, guard.Event)) *pool {
	t.Helper()
	return guarded(t, way, config(t, d.App, way.mode), guard.Config{Bypass: true, Role: d.Admin.Role, Report: report})
}

// TestBypassNeedsMark: the pool serves no context without a reason.
func TestBypassNeedsMark(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		p := d.bypass(t, way, nil)
		require.NoError(t, p.Ping())
		before := p.sent.Load()
		for _, ctx := range []context.Context{
			context.Background(), tenant(t, "a"), guard.WithoutTenant(context.Background()), bypassing(guard.Bypass{}),
			bypassing(guard.Bypass{Table: "notes", ReadOnly: true}),
		} {
			_, err := way.query(ctx, t, p, `SELECT body FROM notes`)
			require.ErrorIs(t, err, guard.ErrNoTenant)
			_, err = way.exec(ctx, t, p, `DELETE FROM notes`)
			require.ErrorIs(t, err, guard.ErrNoTenant)
			_, err = p.BeginTx(ctx, nil)
			require.ErrorIs(t, err, guard.ErrNoTenant)
		}
		require.Equal(t, before, p.sent.Load(), "nothing may be sent")

		ctx := bypassing(guard.Bypass{Reason: "test"})
		require.Equal(t, everything, p.notes(ctx, t))
		require.Equal(t, "|"+d.Admin.Role, way.one(ctx, t, p, currentSQL))
		require.Equal(t, everything, p.notes(guard.WithBypass(tenant(t, "a"), guard.Bypass{Reason: "test"}), t))
		tx := begin(ctx, t, p, nil)
		require.Equal(t, everything, way.notesOf(context.Background(), t, tx), "inherited")
		require.NoError(t, tx.Commit())
		if p.inner != nil {
			require.Equal(t, "|"+d.App.Role, p.inside(t))
		}
	})
}

// TestBypassByLogin: a pool with credentials of its own takes no role.
func TestBypassByLogin(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachPool(t, func(t *testing.T, way way) {
		p := guarded(t, way, config(t, d.Admin, way.mode), guard.Config{Bypass: true})
		ctx := bypassing(guard.Bypass{Reason: "test"})
		require.Equal(t, everything, p.notes(ctx, t))
		require.Equal(t, "|"+d.Admin.Role, way.one(ctx, t, p, currentSQL))
	})
}

// TestReadOnlyBypass writes nothing, alone and in a transaction.
func TestReadOnlyBypass(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	const readOnly = "25006"
	eachWay(t, func(t *testing.T, way way) {
		p := d.bypass(t, way, nil)
		ctx, writing := bypassing(guard.Bypass{Reason: "look", ReadOnly: true}), bypassing(guard.Bypass{Reason: "write"})
		for _, sql := range []string{
			`DELETE FROM notes`, `INSERT INTO notes (tenant_id, body) VALUES ('a', 'x') RETURNING id`, `TRUNCATE shared`,
			`SELECT set_config('transaction_read_only', 'off', true)`, `SET TRANSACTION READ WRITE`,
		} {
			_, err := way.exec(ctx, t, p, sql)
			if err == nil {
				_, err = way.exec(ctx, t, p, `DELETE FROM notes`)
			} else if code(err) != "25001" {
				require.Equal(t, readOnly, code(err), sql)
			}
			require.Error(t, err, sql)
			tx := begin(ctx, t, p, nil)
			if _, err = way.exec(ctx, t, tx, sql); err == nil {
				_, err = way.exec(ctx, t, tx, `DELETE FROM notes`)
			}
			require.Error(t, err, sql)
			require.NoError(t, tx.Rollback())
		}
		require.Equal(t, everything, p.notes(ctx, t))
		_, err := way.exec(writing, t, p, `UPDATE notes SET body = body`)
		require.NoError(t, err, "it does not stay")

		tx := begin(ctx, t, p, nil)
		_, err = way.exec(writing, t, tx, `UPDATE notes SET body = body`)
		require.ErrorContains(t, err, "read-only")
		require.Equal(t, everything, way.notesOf(ctx, t, tx))
		require.NoError(t, tx.Rollback())
		tx = begin(writing, t, p, nil)
		_, err = way.exec(ctx, t, tx, `SELECT 1`)
		require.ErrorContains(t, err, "begin one with the read-only client")
		_, err = way.exec(writing, t, tx, `UPDATE notes SET body = body`)
		require.NoError(t, err, "it goes on as it was begun")
		require.NoError(t, tx.Rollback())
		tx = begin(writing, t, p, &sql.TxOptions{ReadOnly: true})
		_, err = way.exec(writing, t, tx, `UPDATE notes SET body = body`)
		require.Equal(t, readOnly, code(err))
		require.NoError(t, tx.Rollback())
	})
}

// TestRoleErrors: a role that can't be taken is an error that says what to do, wherever it is met.
func TestRoleErrors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		for role, remedy := range map[string]string{
			`no "such" role`: `CREATE ROLE "no ""such"" role"`,
			d.Owner.Role:     `GRANT "` + d.Owner.Role + `" TO "` + d.App.Role + `"`,
		} {
			var reported error
			p := guarded(t, way, config(t, d.App, way.mode), guard.Config{
				Bypass: true, Role: role, Report: func(_ context.Context, e guard.Event) { reported = e.Err },
			})
			ctx := bypassing(guard.Bypass{Reason: "test"})
			check := func(err error) {
				t.Helper()
				require.ErrorIs(t, err, guard.ErrSetRole)
				require.ErrorContains(t, err, remedy)
				require.ErrorIs(t, reported, guard.ErrSetRole)
				reported = nil
			}
			_, err := way.query(ctx, t, p, `SELECT body FROM notes`)
			check(err)
			_, err = way.query(ctx, t, p, `SELECT body FROM notes WHERE body = $1`, "a1")
			check(err)
			_, err = way.exec(ctx, t, p, `DELETE FROM notes`)
			check(err)
			tx := begin(ctx, t, p, nil)
			_, err = way.exec(ctx, t, tx, `DELETE FROM notes WHERE body = $1`, "a1")
			check(err)
			require.NoError(t, tx.Rollback())
			conn, err := p.Conn(ctx)
			require.NoError(t, err)
			check(conn.Raw(func(dc any) error {
				_, err := dc.(copier).CopyFrom(ctx, pgx.Identifier{"shared"}, []string{"id"}, pgx.CopyFromRows(nil))
				return err
			}))
			require.NoError(t, conn.Close())

			// A statement's own lack of rights is not the role's.
			admin := d.bypass(t, way, nil)
			_, err = way.exec(ctx, t, admin, `DROP TABLE notes`)
			require.Equal(t, "42501", code(err))
			require.NotErrorIs(t, err, guard.ErrSetRole)
		}
	})
}

// TestSchemaOfTheRole: a statement is understood with the rights of the role it runs under, not of the login.
func TestSchemaOfTheRole(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE SCHEMA audit; CREATE TABLE audit.log (id int); GRANT USAGE ON SCHEMA audit TO `+d.Admin.Role+
		`; GRANT ALL ON audit.log TO `+d.Admin.Role)
	eachWay(t, func(t *testing.T, way way) {
		p := d.bypass(t, way, nil)
		ctx := bypassing(guard.Bypass{Reason: "test"})
		_, err := way.exec(ctx, t, p, `INSERT INTO audit.log VALUES ($1)`, 1)
		require.NoError(t, err)
		_, err = texts(way.query(ctx, t, p, `SELECT id FROM audit.log`))
		require.NoError(t, err)
		tx := begin(ctx, t, p, nil)
		_, err = way.exec(ctx, t, tx, `INSERT INTO audit.log VALUES ($1 + 0)`, 1)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())

		app := d.app(t, way)
		_, err = way.exec(tenant(t, "a"), t, app, `INSERT INTO audit.log VALUES ($1)`, 1)
		require.Equal(t, "42501", code(err))
		_, err = app.ExecContext(tenant(t, "a"), `SET ROLE `+d.Admin.Role)
		require.NoError(t, err)
		_, err = way.exec(tenant(t, "a"), t, app, `INSERT INTO audit.log VALUES ($1)`, 1)
		require.Equal(t, "42501", code(err))
	})
}
