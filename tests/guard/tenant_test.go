package guard_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// currentSQL tells what a statement finds.
const currentSQL = `SELECT current_setting('app.tenant_id', true) || '|' || current_user`

// hostileIDs are tenants' ids that try to be more than an id.
var hostileIDs = []string{
	`'`, `''`, `\`, `\'`, `\\'`, `'; DROP TABLE notes; --`, `\'; DROP TABLE notes; --`, `$1`, `$2`, `$3`, `$1$2$3`, `$$`,
	`$a$x$a$`, `a -- b`, `/* a`, `*/`, `;--`, "a\nb", "a\r\n;\nb", "\t", " ", `"`, `E'\x41'`, `U&'\0041'`, `%s %d`, `{}`,
	"Ünïcödé ☃ 🐘", "\u00a0", "\u2028", "\ufeff", "ｆｕｌｌ＇ｗｉｄｔｈ", "'||current_user||'", "b', true), set_config('role', 'admin",
	"\x01\x7f", "null", "none", "default",
}

// TestTenantWithHostileID sees each id arrive as it is, in every mode, whatever SQL text the statement itself is.
func TestTenantWithHostileID(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for _, conforming := range []string{"on", "off"} {
		t.Run("standard_conforming_strings="+conforming, func(t *testing.T) {
			eachWay(t, func(t *testing.T, way way) {
				cfg := config(t, d.App, way.mode)
				cfg.RuntimeParams["standard_conforming_strings"] = conforming
				cfg.RuntimeParams["escape_string_warning"] = "off"
				p := guarded(t, way, cfg, guard.Config{})
				for _, id := range hostileIDs {
					ctx := tenant(t, id)
					want := id + "|" + d.App.Role
					require.Equal(t, want, way.one(ctx, t, p, currentSQL))
					if conforming == "on" || way.prepared || way.mode != pgx.QueryExecModeSimpleProtocol {
						// pgx writes no arguments into SQL text where strings don't conform.
						require.Equal(t, want, way.one(ctx, t, p, currentSQL+` WHERE $1::int = 1`, 1))
					}
					_, err := way.exec(ctx, t, p, `INSERT INTO notes (body) VALUES (current_setting('app.tenant_id') || ' note')`)
					require.NoError(t, err)
					require.Equal(t, []string{id + " note"}, p.notes(ctx, t))
					tx, err := p.BeginTx(ctx, nil)
					require.NoError(t, err)
					_, err = tx.ExecContext(ctx, `UPDATE notes SET body = body || '!'`)
					require.NoError(t, err)
					require.Equal(t, want, way.one(ctx, t, tx, currentSQL))
					require.NoError(t, tx.Rollback())
					_, err = way.exec(ctx, t, p, `DELETE FROM notes`)
					require.NoError(t, err)
				}
				p.requireFree(t)
			})
		})
	}
}

// TestTenantInOtherEncoding: bytes of UTF-8 are another text where the connection takes them for LATIN1, perhaps another
// tenant's id.
func TestTenantInOtherEncoding(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		cfg := config(t, d.App, way.mode)
		cfg.RuntimeParams["client_encoding"] = "LATIN1"
		p := guarded(t, way, cfg, guard.Config{})
		_, err := way.query(tenant(t, "é"), t, p, currentSQL)
		require.ErrorContains(t, err, "client_encoding")
		require.Equal(t, "a|"+d.App.Role, way.one(tenant(t, "a"), t, p, currentSQL))
		p.requireFree(t)
	})
}

// inside shows what is left on the connection without the guard.
func (p *pool) inside(t *testing.T) string {
	t.Helper()
	return p.one(context.Background(), t, p.inner, currentSQL)
}

// TestTenantDoesNotStayOnConnection looks at the connection between the statements.
func TestTenantDoesNotStayOnConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		if way.direct {
			return // it is the only user of its connection: see TestSessionSettings
		}
		ctx := tenant(t, "a")
		for name, run := range map[string]func(p *pool) error{
			"query": func(p *pool) error {
				require.Equal(t, []string{"a1", "a2"}, p.notes(ctx, t))
				return nil
			},
			"early close": func(p *pool) error {
				rows, err := way.query(ctx, t, p, `SELECT generate_series(1, 1000)`)
				require.NoError(t, err)
				require.True(t, rows.Next())
				return rows.Close()
			},
			"exec": func(p *pool) error {
				_, err := way.exec(ctx, t, p, `UPDATE notes SET body = body`)
				return err
			},
			"arguments": func(p *pool) error {
				_, err := way.exec(ctx, t, p, `UPDATE notes SET body = body WHERE body = $1`, "a1")
				return err
			},
			"error": func(p *pool) error {
				_, err := way.exec(ctx, t, p, `SELECT 1/0`)
				require.Error(t, err)
				return nil
			},
			"commit": func(p *pool) error {
				tx, err := p.BeginTx(ctx, nil)
				require.NoError(t, err)
				require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx))
				return tx.Commit()
			},
			"rollback": func(p *pool) error {
				tx, err := p.BeginTx(ctx, nil)
				require.NoError(t, err)
				require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx))
				return tx.Rollback()
			},
		} {
			for _, role := range []string{"", d.Admin.Role} {
				p := guarded(t, way, config(t, d.App, way.mode), guard.Config{Role: role, Bypass: role != ""})
				ctx = guard.WithBypass(tenant(t, "a"), guard.Bypass{Reason: "test"})
				if role == "" {
					require.NoError(t, run(p), name)
				} else {
					require.Equal(t, "|"+role, way.one(ctx, t, p, currentSQL))
				}
				require.Equal(t, "|"+d.App.Role, p.inside(t), name)
			}
		}
	})
}

// TestSessionSettings: what raw SQL sets for the session stays on a pooled connection, and must mean nothing.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	traps := []string{
		`SET app.tenant_id = 'b'`,
		`SET SESSION app.tenant_id = 'b'`,
		`SELECT set_config('app.tenant_id', 'b', false)`,
		`SET ROLE ` + d.Admin.Role,
		`SET ROLE ` + d.Admin.Role + `; SET app.tenant_id = 'b'`,
		`SET SESSION ROLE ` + d.Admin.Role,
		`SET search_path = pg_catalog, public`,
		`COMMIT; SET app.tenant_id = 'b'`,
		`DO $$ BEGIN PERFORM set_config('role', '` + d.Admin.Role + `', false); END $$`,
	}
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		for _, trap := range traps {
			_, err := p.ExecContext(tenant(t, "b"), trap)
			require.NoError(t, err, trap)
			require.Equal(t, []string{"a1", "a2"}, p.notes(tenant(t, "a"), t), trap)
			require.Empty(t, p.notes(guard.WithoutTenant(context.Background()), t), trap)
			require.Equal(t, "|"+d.App.Role, p.one(guard.WithoutTenant(context.Background()), t, p, currentSQL), trap)

			tx, err := p.BeginTx(tenant(t, "a"), nil)
			require.NoError(t, err)
			require.Equal(t, "a|"+d.App.Role, p.one(tenant(t, "a"), t, tx, currentSQL), trap)
			// The same from within, and for as long as the transaction lasts.
			if _, err := tx.Exec(trap); err == nil {
				rows, err := p.query(tenant(t, "a"), t, tx, currentSQL)
				if err == nil {
					got, err := texts(rows, nil)
					require.NoError(t, err)
					require.Equal(t, []string{"a|" + d.App.Role}, got, trap)
				} else {
					require.ErrorContains(t, err, "already ended", trap)
				}
			}
			_ = tx.Rollback()
			require.Equal(t, []string{"a1", "a2"}, p.notes(tenant(t, "a"), t), trap)
		}
		// What raw SQL has begun and not ended goes with its connection.
		_, err := p.ExecContext(tenant(t, "b"), `BEGIN; SET LOCAL ROLE `+d.Admin.Role)
		require.NoError(t, err)
		p.requireFree(t)
	})
}
