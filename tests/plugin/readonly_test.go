package plugin_test

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// reader makes a role that the application may take, and isolates the database with it.
func (d database) reader(t *testing.T) string {
	t.Helper()
	role := d.App.Role + "_reader"
	d.AsSuperuser(t, "CREATE ROLE "+role, "GRANT "+role+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	isolation := d.Isolation()
	isolation.ReadOnlyRole = role
	d.Migrate(t, isolation, &Doctor{}, &Patient{}, &Country{}, &Membership{})
	return role
}

// writes are what a read-only client could send to write all the same.
func writes(admin string) []string {
	return []string{
		`DELETE FROM patients`,
		`SET TRANSACTION READ WRITE; DELETE FROM patients`,
		`SET TRANSACTION READ WRITE`,
		`COMMIT; SET ROLE ` + admin + `; DELETE FROM patients`,
		`ROLLBACK; SET ROLE ` + admin + `; DELETE FROM patients`,
		`CALL wipe()`,
		`DO $$ BEGIN COMMIT; DELETE FROM patients; END $$`,
	}
}

// wipe is a procedure that commits and then writes.
func (d database) wipe(t *testing.T) {
	t.Helper()
	d.AsSuperuser(t, `CREATE PROCEDURE wipe() LANGUAGE plpgsql AS $$ BEGIN COMMIT; SET ROLE `+d.Admin.Role+`; DELETE FROM patients; COMMIT; END $$`)
}

func TestBypassReadOnlyRefusesWrites(t *testing.T) {
	d := newDatabase(t)
	d.wipe(t)
	reader := d.reader(t)
	for how, cfg := range map[string]tenancy.Config{
		"AdminRole": {AdminRole: d.Admin.Role}, "ReadOnlyRole": {AdminRole: d.Admin.Role, ReadOnlyRole: reader},
	} {
		t.Run(how, func(t *testing.T) {
			d.eachMode(t, cfg, func(t *testing.T, db *gorm.DB) {
				admin := tenancy.Bypass(db, "look", tenancy.BypassReadOnly())
				for _, write := range writes(d.Admin.Role) {
					require.Error(t, admin.Exec(write).Error, write)
					require.Error(t, admin.Raw(write).Scan(&[]int{}).Error, write)
					require.Error(t, admin.Transaction(func(tx *gorm.DB) error { return tx.Exec(write).Error }), write)
					require.Error(t, admin.Transaction(func(tx *gorm.DB) error {
						require.NoError(t, tx.Find(&[]Patient{}).Error)
						return tx.Exec(write).Error
					}), write)
					require.Error(t, admin.Connection(func(tx *gorm.DB) error { return tx.Exec(write).Error }), write)
				}
				var n int64
				require.NoError(t, admin.Model(&Patient{}).Count(&n).Error)
				require.EqualValues(t, 2, n)
			})
		})
	}
}

func TestBypassReadOnlyTakesItsRole(t *testing.T) {
	d := newDatabase(t)
	reader := d.reader(t)
	adminDB, err := sql.Open("pgx", d.Admin.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, adminDB.Close()) })
	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{AdminDB: adminDB, ReadOnlyRole: reader})
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, "GRANT", "AdminDB's login")
	d.AsSuperuser(t, "GRANT "+reader+" TO "+d.Admin.Role)

	role := func(db *gorm.DB) (role string) {
		t.Helper()
		require.NoError(t, db.Raw("SELECT current_user").Scan(&role).Error)
		return role
	}
	for name, cfg := range map[string]tenancy.Config{
		"AdminRole": {AdminRole: d.Admin.Role, ReadOnlyRole: reader},
		"AdminDB":   {AdminDB: adminDB, ReadOnlyRole: reader},
	} {
		t.Run(name, func(t *testing.T) {
			db := d.Open(t, cfg)
			admin, look := tenancy.Bypass(db, "write"), tenancy.Bypass(db, "look", tenancy.BypassReadOnly())
			require.Equal(t, d.Admin.Role, role(admin))
			require.Equal(t, reader, role(look))
			require.Equal(t, reader, role(tenancy.Bypass(admin, "look", tenancy.BypassReadOnly())))
			require.Equal(t, reader, role(tenancy.Bypass(look, "look again")))
			require.NoError(t, look.Transaction(func(tx *gorm.DB) error {
				require.Equal(t, reader, role(tx))
				require.Equal(t, reader, role(tenancy.Bypass(tx, "look again")))
				return nil
			}))
			require.NoError(t, admin.Transaction(func(tx *gorm.DB) error {
				require.ErrorContains(t, tenancy.Bypass(tx, "look", tenancy.BypassReadOnly()).First(&Patient{}).Error,
					"begin one with the read-only client")
				return tx.Exec("UPDATE patients SET name = name").Error
			}))
			for name, read := range everything {
				n, err := read(look)
				require.NoError(t, err, name)
				require.EqualValues(t, 2, n, name)
			}
			require.NoError(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error)
		})
	}

	alone := d.Open(t, tenancy.Config{ReadOnlyRole: reader})
	require.Equal(t, reader, role(tenancy.Bypass(alone, "look", tenancy.BypassReadOnly())))
	require.ErrorIs(t, tenancy.Bypass(alone, "write").Find(&[]Patient{}).Error, tenancy.ErrNoAdminRole)
}

// The role may SELECT, whatever the transaction allows.
func TestReadOnlyRoleHasSelectOnly(t *testing.T) {
	d := newDatabase(t)
	reader := d.reader(t)
	d.AsSuperuser(t, "BEGIN; SET LOCAL ROLE "+reader+"; SELECT FROM patients; SELECT FROM countries; COMMIT")
	for _, table := range []string{"patients", "countries"} {
		var granted []string
		require.NoError(t, d.OwnerDB.Raw(`SELECT privilege_type FROM information_schema.role_table_grants WHERE table_name = ? AND grantee = ?`,
			table, reader).Scan(&granted).Error)
		require.Equal(t, []string{"SELECT"}, granted)
	}
	d.AsOwner(t, "GRANT UPDATE, DELETE ON patients TO "+reader) // and the policy shows it no row to change
	d.AsSuperuser(t, `DO $$ DECLARE n bigint; BEGIN SET LOCAL ROLE `+reader+`; UPDATE patients SET name = 'x'; GET DIAGNOSTICS n = ROW_COUNT;
		ASSERT n = 0; DELETE FROM patients; GET DIAGNOSTICS n = ROW_COUNT; ASSERT n = 0; END $$`)

	// Before PostgreSQL 16 a function can make its transaction writable by RESET, which is not checked there.
	d.AsSuperuser(t, `CREATE FUNCTION sly() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RESET transaction_read_only; UPDATE countries SET name = 'x'; END $$`)
	look := tenancy.Bypass(d.Open(t, tenancy.Config{ReadOnlyRole: reader}), "look", tenancy.BypassReadOnly())
	require.Error(t, look.Raw(`SELECT sly()`).Scan(new(any)).Error)
}

func TestReadOnlyRoleIsChecked(t *testing.T) {
	d := newDatabase(t)
	reader := d.reader(t)
	_, err := testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{ReadOnlyRole: "nobody_is_called_this"})
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, `CREATE ROLE "nobody_is_called_this"`)
	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{ReadOnlyRole: d.Owner.Role})
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, "GRANT")
	d.AsSuperuser(t, "CREATE ROLE inheriting LOGIN INHERIT PASSWORD 'inheriting' IN ROLE "+reader)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE inheriting") })
	_, err = testdb.OpenGuarded(t, d.login("inheriting"), tenancy.Config{ReadOnlyRole: reader})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "inherits")

	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{
		AdminRole: d.Admin.Role, ReadOnlyRole: reader, Check: tenancy.CheckRefuse,
		CheckOptions: []check.Option{check.Models(&Doctor{}, &Patient{}, &Country{}, &Membership{})},
	})
	require.NoError(t, err)
}

// leveled is a handler that is enabled from one level on.
type leveled struct {
	slog.Handler
	level slog.Level
}

func (h leveled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func TestBypassRefusesSilentLog(t *testing.T) {
	d := newDatabase(t)
	reader := d.reader(t)
	adminDB, err := sql.Open("pgx", d.Admin.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, adminDB.Close()) })
	hook := func(context.Context, tenancy.BypassEvent) {}
	at := func(l slog.Level) *slog.Logger { return slog.New(leveled{testdb.Quiet.Handler(), l}) }
	for name, c := range map[string]struct {
		cfg    tenancy.Config
		silent bool
	}{
		"no bypass":       {tenancy.Config{Logger: at(slog.LevelWarn)}, false},
		"AdminRole":       {tenancy.Config{Logger: at(slog.LevelWarn), AdminRole: d.Admin.Role}, true},
		"AdminDB":         {tenancy.Config{Logger: at(slog.LevelWarn), AdminDB: adminDB}, true},
		"ReadOnlyRole":    {tenancy.Config{Logger: at(slog.LevelWarn), ReadOnlyRole: reader}, true},
		"discarding":      {tenancy.Config{Logger: slog.New(slog.DiscardHandler), AdminRole: d.Admin.Role}, true},
		"with a hook":     {tenancy.Config{Logger: at(slog.LevelWarn), AdminRole: d.Admin.Role, OnBypass: hook}, false},
		"at level Info":   {tenancy.Config{Logger: at(slog.LevelInfo), AdminRole: d.Admin.Role}, false},
		"the default log": {tenancy.Config{AdminRole: d.Admin.Role}, false},
	} {
		t.Run(name, func(t *testing.T) {
			db := testdb.OpenPlain(t, d.App.DSN)
			err := db.Use(tenancy.New(c.cfg))
			if !c.silent {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "would leave no trace")
			require.ErrorContains(t, err, "OnBypass")
		})
	}
}
