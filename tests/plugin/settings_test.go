package plugin_test

import (
	"bytes"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// lasting returns a login, and SQL with its name, the database's and the admin's filled in.
func (d database) lasting(t *testing.T) (login string, fill func(string) string) {
	t.Helper()
	login = d.newLogin(t, "NOINHERIT") // or it would have the admin's rights without SET ROLE
	d.AsSuperuser(t, "GRANT "+d.Admin.Role+" TO "+login)
	return login, strings.NewReplacer("{login}", `"`+login+`"`, "{database}", `"`+d.Name+`"`, "{admin}", d.Admin.Role,
		"{app}", d.App.Role).Replace
}

// undo returns the SQL that an error says undoes what is wrong.
func undo(err error) string {
	var all []string
	for _, found := range regexp.MustCompile(`run (ALTER (?:[^;]|; ALTER)*)`).FindAllStringSubmatch(err.Error(), -1) {
		all = append(all, found[1])
	}
	return strings.Join(all, "; ")
}

func TestLastingSettingIsRefused(t *testing.T) {
	d := newDatabase(t)
	for name, c := range map[string]struct {
		set, undo, problem string
	}{
		"row_security of the role": {
			"ALTER ROLE {login} SET row_security = off", "ALTER ROLE {login} RESET row_security", "row_security off",
		},
		"row_security of the role, in a short form": {
			"ALTER ROLE {login} SET row_security = 'F'", "ALTER ROLE {login} RESET row_security", "row_security off",
		},
		"row_security of the role in the database": {
			"ALTER ROLE {login} IN DATABASE {database} SET row_security = off",
			"ALTER ROLE {login} IN DATABASE {database} RESET row_security", "row_security off",
		},
		"row_security of the database": {
			"ALTER DATABASE {database} SET row_security = off", "ALTER DATABASE {database} RESET row_security", "row_security off",
		},
		"row_security twice": {
			"ALTER DATABASE {database} SET row_security = off; ALTER ROLE {login} SET row_security = off",
			"ALTER ROLE {login} RESET row_security; ALTER DATABASE {database} RESET row_security", "row_security off",
		},
		"role": {"ALTER ROLE {login} SET role = {admin}", "ALTER ROLE {login} RESET role", "in another role"},
		"tenant": {
			"ALTER ROLE {login} SET app.tenant_id = 'globex'", "ALTER ROLE {login} RESET app.tenant_id",
			"with a tenant in app.tenant_id",
		},
		"tenant, in capitals": {
			`ALTER ROLE {login} SET "App"."TENANT_id" = 'globex'`, `ALTER ROLE {login} RESET "App"."TENANT_id"`,
			"with a tenant in app.tenant_id",
		},
		"triggers": {
			"ALTER ROLE {login} SET session_replication_role = replica", "ALTER ROLE {login} RESET session_replication_role",
			"no foreign key is checked",
		},
		"encoding": {
			"ALTER ROLE {login} SET client_encoding = 'LATIN1'", "ALTER ROLE {login} RESET client_encoding", "client_encoding",
		},
		"several": {
			"ALTER DATABASE {database} SET client_encoding = 'LATIN1'; ALTER ROLE {login} SET app.tenant_id = 'globex'",
			"ALTER ROLE {login} RESET app.tenant_id; ALTER DATABASE {database} RESET client_encoding",
			"with a tenant in app.tenant_id: run ALTER ROLE {login} RESET app.tenant_id; and with another client_encoding",
		},
	} {
		t.Run(name, func(t *testing.T) {
			login, fill := d.lasting(t)
			d.AsSuperuser(t, fill(c.set))
			dsn := d.login(login)
			db, err := testdb.OpenGuarded(t, dsn, tenancy.Config{AppRole: d.App.Role})
			require.ErrorIs(t, err, tenancy.ErrUnsafeSettings)
			require.ErrorContains(t, err, fill(c.problem))
			require.NotContains(t, err.Error(), globex, "a tenant's id")
			require.Equal(t, fill(c.undo), undo(err))
			require.ErrorIs(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, tenancy.ErrUnsafeSettings)
			d.AsSuperuser(t, fill(c.undo))
			_, err = testdb.OpenGuarded(t, dsn, tenancy.Config{AppRole: d.App.Role})
			require.NoError(t, err, "the error says how to undo it")
		})
	}
}

func TestHarmlessSettingIsNotRefused(t *testing.T) {
	d := newDatabase(t)
	for name, c := range map[string]struct{ set, undo, query string }{
		"search_path":  {set: "ALTER DATABASE {database} SET search_path = app, public"},
		"what is safe": {set: "ALTER ROLE {login} SET row_security = on; ALTER ROLE {login} SET role = none"},
		"AppRole":      {set: "ALTER ROLE {login} SET role = {app}"},
		"utf8":         {set: "ALTER ROLE {login} SET client_encoding = 'unicode'"},
		"no tenant":    {set: "ALTER ROLE {login} SET app.tenant_id = ''"},
		"the role's wins": {
			set:  "ALTER DATABASE {database} SET row_security = off; ALTER ROLE {login} SET row_security = on",
			undo: "ALTER DATABASE {database} RESET row_security",
		},
		"the connection string's wins": {
			set:   "ALTER ROLE {login} SET client_encoding = 'LATIN1'; ALTER ROLE {login} SET row_security = off",
			query: "client_encoding=UTF8&row_security=on",
		},
		"another database": {set: "ALTER ROLE {login} IN DATABASE postgres SET row_security = off"},
		"another role": {
			set: "ALTER ROLE {admin} SET row_security = off", undo: "ALTER ROLE {admin} RESET row_security",
		},
	} {
		t.Run(name, func(t *testing.T) {
			login, fill := d.lasting(t)
			d.AsSuperuser(t, fill(c.set))
			if c.undo != "" {
				defer d.AsSuperuser(t, fill(c.undo))
			}
			dsn, err := url.Parse(d.login(login))
			require.NoError(t, err)
			if c.query != "" {
				dsn.RawQuery += "&" + c.query
			}
			var log bytes.Buffer
			db, err := testdb.OpenGuarded(t, dsn.String(), tenancy.Config{
				AppRole: d.App.Role, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			require.NoError(t, err)
			require.Empty(t, log.String())
			var patients []Patient
			require.NoError(t, db.WithContext(as(acme)).Find(&patients).Error)
			require.Len(t, patients, 1)
		})
	}
}

// A connection string is not the login's, so there is no SQL that undoes what it says.
func TestRowSecurityOffInConnectionStringIsRefused(t *testing.T) {
	d := newDatabase(t)
	dsn, err := url.Parse(d.App.DSN)
	require.NoError(t, err)
	dsn.RawQuery += "&row_security=off"
	_, err = testdb.OpenGuarded(t, dsn.String(), tenancy.Config{})
	require.ErrorIs(t, err, tenancy.ErrUnsafeSettings)
	require.ErrorContains(t, err, "connection string")
}

func TestReadOnlyLoginIsWarnedOf(t *testing.T) {
	d := newDatabase(t)
	login, fill := d.lasting(t)
	d.AsSuperuser(t, fill("ALTER ROLE {login} SET default_transaction_read_only = on"))
	var log bytes.Buffer
	_, err := testdb.OpenGuarded(t, d.login(login), tenancy.Config{
		AppRole: d.App.Role, Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	require.NoError(t, err, "the login of a replica may have it")
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	require.Contains(t, log.String(), `ALTER ROLE \"`+login+`\" RESET default_transaction_read_only`)
}

// What a login gives to itself by raw SQL, after Initialize, its next connections start with. They show no other tenant. (The
// tenant is what PostgreSQL 15 and later let only a superuser give.)
func TestLastingSettingShowsNoOtherTenant(t *testing.T) {
	d := newDatabase(t)
	for name, set := range map[string]string{
		"row_security": "ALTER ROLE {login} SET row_security = off",
		"role":         "ALTER ROLE {login} SET role = {admin}",
		"tenant":       "ALTER ROLE {login} SET app.tenant_id = 'globex'",
		"encoding":     "ALTER ROLE {login} SET client_encoding = 'LATIN1'",
		"read-only":    "ALTER ROLE {login} SET default_transaction_read_only = on",
		"search_path":  "ALTER ROLE {login} SET search_path = public, pg_catalog",
	} {
		for _, appRole := range []string{"", d.App.Role} {
			t.Run(name+", AppRole "+appRole, func(t *testing.T) {
				login, fill := d.lasting(t)
				if appRole == "" {
					d.AsSuperuser(t, fill("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {login}"))
					t.Cleanup(func() { d.AsSuperuser(t, fill("DROP OWNED BY {login}")) })
				}
				d.AsSuperuser(t)
				db := testdb.OpenPlain(t, d.login(login))
				require.NoError(t, db.Use(tenancy.New(tenancy.Config{
					AppRole: appRole, Logger: slog.New(slog.DiscardHandler),
				})))
				pool, err := tenancy.UnguardedPool(db)
				require.NoError(t, err)
				pool.SetMaxIdleConns(0) // each statement has a new connection from here on
				tx := db.WithContext(as(acme))
				alter := fill(set)
				if appRole != "" {
					alter = "RESET ROLE; " + alter
				}
				if name == "tenant" {
					d.AsSuperuser(t, fill(set))
				} else {
					require.NoError(t, tx.Exec(alter).Error)
				}

				for way, read := range map[string]func(rows *[]Patient) error{
					"find": func(rows *[]Patient) error { return tx.Find(rows).Error },
					"raw":  func(rows *[]Patient) error { return tx.Raw("SELECT * FROM patients").Scan(rows).Error },
					"text": func(rows *[]Patient) error {
						return tx.Raw("/* simple */ SELECT * FROM public.patients").Scan(rows).Error
					},
					"transaction": func(rows *[]Patient) error {
						return tx.Transaction(func(tx *gorm.DB) error { return tx.Find(rows).Error })
					},
				} {
					var rows []Patient
					err := read(&rows)
					if name != "row_security" && name != "encoding" {
						require.NoError(t, err, way)
						require.Len(t, rows, 1, way)
					}
					for _, row := range rows {
						require.Equal(t, acme, row.TenantID, way)
					}
				}
			})
		}
	}
}
