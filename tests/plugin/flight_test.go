package plugin_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestProofInFlightSaysWhy: the question that travels with a statement answers as much as the first one.
func TestProofInFlightSaysWhy(t *testing.T) {
	d := newDatabase(t)
	for _, find := range []func(db *gorm.DB) error{
		func(db *gorm.DB) error { return db.Find(&[]Remark{}).Error },
		func(db *gorm.DB) error { return db.Find(&[]Bare{}).Error },
		func(db *gorm.DB) error { return db.Table("remarks").Find(&[]map[string]any{}).Error },
		func(db *gorm.DB) error { var n int64; return db.Model(&Bare{}).Count(&n).Error },
		func(db *gorm.DB) error { return db.Model(&Bare{}).Pluck("body", &[]string{}).Error },
	} {
		var refusals []tenancy.Refusal
		cfg := tenancy.Config{OnRefuse: func(_ context.Context, r tenancy.Refusal) { refusals = append(refusals, r) }}
		d.eachMode(t, cfg, func(t *testing.T, db *gorm.DB) {
			d.AsOwner(t, `DROP TABLE IF EXISTS remarks`, remarksSQL, isolateSQL)
			db, refusals = db.WithContext(as(acme)), nil
			require.NoError(t, find(db))
			d.AsOwner(t, `CREATE POLICY "all of them" ON remarks FOR SELECT USING (body <> '')`)
			clock.Advance(time.Minute)
			err := find(db)
			require.ErrorIs(t, err, tenancy.ErrNotIsolated)
			require.ErrorContains(t, err, `the policy "all of them" on remarks`)
			require.NotContains(t, err.Error(), acme)
			var refused *tenancy.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, tenancy.Error{Op: "query", Table: "remarks", Err: refused.Err}, *refused)
			require.Len(t, refusals, 1)
		})
	}
}

// TestProofOfOtherRelationIsNone: what a name means in one transaction says nothing about what it means elsewhere.
func TestProofOfOtherRelationIsNone(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, `DROP TABLE IF EXISTS remarks; DROP SCHEMA IF EXISTS archive CASCADE`, remarksSQL, isolateSQL,
			`CREATE SCHEMA archive; GRANT USAGE ON SCHEMA archive TO PUBLIC; ALTER TABLE remarks SET SCHEMA archive`, remarksSQL)
		pool, err := tenancy.UnguardedPool(db)
		require.NoError(t, err)
		pool.SetMaxOpenConns(1)
		db = db.WithContext(as(acme))
		for _, read := range []func(tx *gorm.DB) error{
			func(tx *gorm.DB) error { return tx.Find(&[]Remark{}).Error },
			func(tx *gorm.DB) error { return tx.Find(&[]Bare{}).Error },
			func(tx *gorm.DB) error { return tx.Table("remarks").Find(&[]map[string]any{}).Error },
		} {
			inArchive := func(tx *gorm.DB) error {
				require.NoError(t, tx.Exec(`SET LOCAL search_path = archive`).Error)
				return read(tx)
			}
			require.NoError(t, db.Transaction(inArchive))
			require.ErrorIs(t, read(db), tenancy.ErrNotIsolated, "on the same connection, after it was given back")
			require.NoError(t, db.Connection(func(db *gorm.DB) error {
				require.NoError(t, db.Transaction(inArchive))
				require.ErrorIs(t, read(db), tenancy.ErrNotIsolated, "on a connection that is held")
				return nil
			}))
		}
	})
}

// TestProofOfMissingTableIsNotRemembered: the table may come a moment later, and without a policy.
func TestProofOfMissingTableIsNotRemembered(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		db = db.WithContext(as(acme))
		for _, read := range []func() error{
			func() error { return db.Find(&[]Bare{}).Error },
			func() error { return db.Table("remarks").Find(&[]map[string]any{}).Error },
			func() error { return db.Table("remarks").Create(map[string]any{"id": 1}).Error },
		} {
			d.AsOwner(t, `DROP TABLE IF EXISTS remarks`)
			require.ErrorContains(t, read(), "42P01")
			d.AsOwner(t, remarksSQL)
			require.ErrorIs(t, read(), tenancy.ErrNotIsolated)
		}
	})
}

// TestProofSeesThroughSearchPath: a function of another schema is none of PostgreSQL's, though it has the name of one.
func TestProofSeesThroughSearchPath(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, remarksSQL, isolateSQL, `CREATE SCHEMA shadows; GRANT USAGE ON SCHEMA shadows TO PUBLIC;
		CREATE FUNCTION shadows.current_setting(text, boolean) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'globex' $$;
		CREATE OPERATOR shadows.= (leftarg = text, rightarg = text, function = pg_catalog.textne);
		CREATE DOMAIN shadows.uuid AS char(8)`)
	for _, predicate := range []string{
		`tenant_id = shadows.current_setting('app.tenant_id', true)`,
		`tenant_id OPERATOR(shadows.=) current_setting('app.tenant_id', true)`,
		`tenant_id = current_setting('app.tenant_id', true)::shadows.uuid`,
	} {
		d.AsOwner(t, `DROP POLICY tenants ON remarks; CREATE POLICY tenants ON remarks USING (`+predicate+`)`)
		for _, path := range []string{"public", "shadows,public,pg_catalog"} {
			db, err := testdb.OpenGuarded(t, d.App.DSN+"&search_path="+path, tenancy.Config{DangerouslyAllowUnsafeRole: true})
			require.NoError(t, err)
			err = db.WithContext(as(acme)).Find(&[]Remark{}).Error
			require.ErrorIs(t, err, tenancy.ErrNotIsolated, "%s with %s", predicate, path)
		}
	}
}

// TestPatternMeansTheSameToPostgreSQL compares its regular expressions with Go's.
func TestPatternMeansTheSameToPostgreSQL(t *testing.T) {
	d := newDatabase(t)
	for _, c := range []struct{ setting, column, written string }{
		{"app.tenant_id", "tenant_id", "tenant_id"}, {"My.x$1", `Org "{x}"`, `"Org ""{x}"""`}, {"a.b", "größe", `"größe"`},
	} {
		pattern := policy.Config{Setting: c.setting, Column: c.column}.Pattern()
		for _, form := range []string{
			`(%s = current_setting('%s'::text))`, `(%s = current_setting('%s'::text, true))`, `(%s <> current_setting('%s'::text))`,
			`((%s)::text = (( SELECT (NULLIF(current_setting('%s'::text, true), ''::text))::uuid AS "nullif"))::text)`,
			`((%s = current_setting('%s'::text)) AND (a = '
'::text))`, `((%s = current_setting('%s'::text)) OR a)`, `(((%s = current_setting('%s'::text)) AND a) OR b)`,
			`(%s = (current_setting('%s'::text))::name)`, `(x.%s = current_setting('%s'::text))`, ` (%s = current_setting('%s'::text))`,
			`false%s%s`, `false`, ``, `true`,
		} {
			text := regexp.MustCompile(`%s`).ReplaceAllStringFunc(form, func() func(string) string {
				names := []string{c.written, c.setting}
				return func(string) (name string) { name, names = names[0], names[1:]; return name }
			}())
			var matches bool
			require.NoError(t, d.OwnerDB.Raw(`SELECT ?::text ~ ?::text`, text, pattern).Scan(&matches).Error)
			require.Equal(t, regexp.MustCompile(pattern).MatchString(text), matches, text)
		}
	}
}

// TestProofIgnoresFunctions: what db.Table names need not be a table.
func TestProofIgnoresFunctions(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	for _, table := range []string{"generate_series(1, 3) AS n", "(SELECT 1 AS n) AS x", "unnest(ARRAY[1]) n"} {
		var rows []map[string]any
		require.NoError(t, db.Table(table).Find(&rows).Error, table)
		require.NotEmpty(t, rows)
	}
}

// TestWarnOnlyWarnsAgain: at most once in the time that a proof is good for.
func TestWarnOnlyWarnsAgain(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, remarksSQL)
	var log bytes.Buffer
	db := d.Open(t, tenancy.Config{
		DangerouslyWarnOnly: true, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}).WithContext(as(acme))
	for range 3 {
		for range 3 {
			require.NoError(t, db.Find(&[]Remark{}).Error)
			require.NoError(t, db.Find(&[]Bare{}).Error)
		}
		require.Equal(t, 2, bytes.Count(log.Bytes(), []byte("level=WARN")), log.String())
		log.Reset()
		clock.Advance(time.Minute)
	}
}

// Report belongs to a Hooked, which hooks are of, and has one.
type Report struct {
	ID       int64
	TenantID string
	HookedID int64
	Hooked   *Hooked
}

func (*Report) BeforeCreate(tx *gorm.DB) error { return exchangeContext(tx) }

// TestHookCannotExchangeTenantOfAssociation: rows that are written first, and in their own statement, are of the same tenant.
func TestHookCannotExchangeTenantOfAssociation(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, remarksSQL, isolateSQL, `CREATE TABLE reports (LIKE remarks); ALTER TABLE reports ADD hooked_id bigint; GRANT ALL ON reports TO PUBLIC;
		ALTER TABLE reports ENABLE ROW LEVEL SECURITY; CREATE POLICY tenants ON reports USING (tenant_id = current_setting('app.tenant_id'))`)
	for _, skip := range []bool{false, true} {
		db := d.Open(t, tenancy.Config{}, testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = skip }))
		for name, to := range map[string]func(context.Context) context.Context{
			"derived": func(ctx context.Context) context.Context { return tenancy.WithTenant(ctx, globex) },
			"new":     func(context.Context) context.Context { return as(globex) },
		} {
			ctx := context.WithValue(as(acme), exchange{}, to)
			err := db.WithContext(ctx).Create(&Report{ID: 1, Hooked: &Hooked{ID: 9, Body: "smuggled"}}).Error
			require.ErrorIs(t, err, tenancy.ErrTenantMismatch, name)
		}
	}
	d.AsOwner(t, `ALTER TABLE remarks DISABLE ROW LEVEL SECURITY`)
	var n int64
	require.NoError(t, d.OwnerDB.Table("remarks").Where("body = 'smuggled'").Count(&n).Error)
	require.Zero(t, n)
}

// TestHookMayReplaceContext by one of the same tenant, and the statement goes on to be proved.
func TestHookMayReplaceContext(t *testing.T) {
	d := newDatabase(t)
	for _, skip := range []bool{false, true} {
		for name, to := range map[string]func(context.Context) context.Context{
			"derived": func(ctx context.Context) context.Context { return tenancy.WithTenant(ctx, acme) },
			"new":     func(context.Context) context.Context { return as(acme) },
			"value":   func(ctx context.Context) context.Context { return context.WithValue(ctx, clockKey{}, 1) },
		} {
			t.Run(name, func(t *testing.T) {
				d.AsOwner(t, `DROP TABLE IF EXISTS remarks`, remarksSQL, isolateSQL)
				db := d.Open(t, tenancy.Config{}, testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = skip }))
				db = db.WithContext(context.WithValue(as(acme), exchange{}, to))
				ways := []func() error{
					func() error { return db.Create(&Hooked{ID: 7, Body: "x"}).Error },
					func() error { return db.Model(&Hooked{}).Where("id = 7").Update("body", "y").Error },
					func() error { return db.Where("id = 7").Delete(&Hooked{}).Error },
				}
				for _, way := range ways {
					require.NoError(t, way())
				}
				d.AsOwner(t, `CREATE POLICY open ON remarks USING (true)`)
				clock.Advance(time.Minute)
				for _, way := range ways {
					require.ErrorIs(t, way(), tenancy.ErrNotIsolated)
				}
			})
		}
	}
}

type clockKey struct{}

// TestNestedStatementsGoOnToBeProved: what hooks and associations send has contexts of its own.
func TestNestedStatementsGoOnToBeProved(t *testing.T) {
	d := newDatabase(t)
	for _, prepare := range []bool{false, true} {
		db := d.Open(t, tenancy.Config{}, testdb.Prepared(prepare)).WithContext(as(acme))
		ways := map[string]func() error{
			"preload":     func() error { return db.Preload("Patients").Find(&[]Doctor{}).Error },
			"joins":       func() error { return db.Joins("Doctor").Find(&[]Patient{}).Error },
			"association": func() error { return db.Create(&Doctor{Name: "n", Patients: []Patient{{Name: "p"}}}).Error },
			"used twice": func() error {
				var n int64
				tx := db.Model(&Patient{}).Where("name <> ''")
				if err := tx.Count(&n).Error; err != nil {
					return err
				}
				return tx.Find(&[]Patient{}).Error
			},
			"batches": func() error {
				return db.FindInBatches(&[]Patient{}, 1, func(*gorm.DB, int) error { return nil }).Error
			},
			"rows": func() error {
				rows, err := db.Model(&Patient{}).Rows()
				if err != nil {
					return err
				}
				defer rows.Close()
				for rows.Next() {
				}
				return rows.Err()
			},
		}
		for name, way := range ways {
			require.NoError(t, way(), name)
		}
		for _, table := range []string{"patients", "doctors"} {
			d.AsOwner(t, `CREATE POLICY open ON `+table+` USING (true)`)
			for name, way := range ways {
				if table == "doctors" && (name == "used twice" || name == "batches" || name == "rows") {
					continue
				}
				clock.Advance(time.Minute)
				require.ErrorIs(t, way(), tenancy.ErrNotIsolated, "%s with %s", name, table)
			}
			d.AsOwner(t, `DROP POLICY open ON `+table)
		}
	}
}
