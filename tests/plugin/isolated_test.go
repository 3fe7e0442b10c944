package plugin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// Remark is a tenant model.
type Remark struct {
	ID       int64
	TenantID string
	Body     string
}

// Bare is the same table in the eyes of a team that relies on the column's default.
type Bare struct {
	ID   int64
	Body string
}

func (Bare) TableName() string { return "remarks" }

const (
	remarksSQL = `CREATE TABLE remarks (id bigint, tenant_id text DEFAULT NULLIF(current_setting('app.tenant_id', true), ''), body text);
		INSERT INTO remarks VALUES (1, 'acme', 'of acme'), (2, 'globex', 'of globex'); GRANT ALL ON remarks TO PUBLIC`
	isolateSQL = `ALTER TABLE remarks ENABLE ROW LEVEL SECURITY; ALTER TABLE remarks FORCE ROW LEVEL SECURITY;
		CREATE POLICY tenants ON remarks USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')))`
)

func TestProofReadsPolicies(t *testing.T) {
	d := newDatabase(t)
	other := d.App.Role + "_other"
	d.AsSuperuser(t, `CREATE ROLE `+other)
	t.Cleanup(func() { d.AsSuperuser(t, `DROP OWNED BY `+other, `DROP ROLE `+other) })
	const canonical = `tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), ''))`
	for _, c := range []struct {
		policies string // after CREATE POLICY a ON remarks
		binds    bool
	}{
		{`USING (` + canonical + `)`, true},
		{`USING (tenant_id = current_setting('app.tenant_id', true))`, true},
		{`USING (current_setting('app.tenant_id') = tenant_id)`, true},
		{`USING (` + canonical + `) WITH CHECK (false)`, true},
		{`FOR SELECT USING (` + canonical + `)`, true},
		{`FOR INSERT WITH CHECK (` + canonical + `)`, true},
		{`AS RESTRICTIVE USING (` + canonical + `)`, true},
		{`AS RESTRICTIVE USING (` + canonical + `); CREATE POLICY b ON remarks USING (true)`, true},
		{`TO ` + other + ` USING (true)`, true},
		{`USING (` + canonical + `); CREATE POLICY b ON remarks TO ` + other + ` USING (true)`, true},

		{`USING (true)`, false},
		{`USING (tenant_id = current_setting('app.other', true))`, false},
		{`USING (body = current_setting('app.tenant_id', true))`, false},
		{`USING (tenant_id <> current_setting('app.tenant_id', true))`, false},
		{`USING (lower(tenant_id) = current_setting('app.tenant_id', true))`, false},
		{`USING (` + canonical + ` OR id > 0)`, false},
		{`USING (` + canonical + `) WITH CHECK (true)`, false},
		{`FOR INSERT WITH CHECK (true)`, false},
		{`USING (` + canonical + `); CREATE POLICY b ON remarks FOR SELECT USING (true)`, false},
		{`USING (` + canonical + `); CREATE POLICY b ON remarks FOR DELETE TO ` + d.App.Role + ` USING (id > 0)`, false},
		{`USING (true); CREATE POLICY b ON remarks AS RESTRICTIVE FOR SELECT USING (` + canonical + `)`, false},
		{`USING (true); CREATE POLICY b ON remarks AS RESTRICTIVE USING (id > 0)`, false},
		{`USING (tenant_id = current_setting('app.tenant_id', true)::name)`, false},
	} {
		t.Run(c.policies, func(t *testing.T) {
			d.AsOwner(t, `DROP TABLE IF EXISTS remarks`, remarksSQL,
				`ALTER TABLE remarks ENABLE ROW LEVEL SECURITY; ALTER TABLE remarks FORCE ROW LEVEL SECURITY; CREATE POLICY a ON remarks `+c.policies)
			check := func(err error) {
				t.Helper()
				if c.binds {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, tenancy.ErrNotIsolated)
				require.NotContains(t, err.Error(), acme)
			}
			db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
			check(db.Find(&[]Remark{}).Error)
			check(db.Table("remarks").Find(&[]map[string]any{}).Error)
			check(d.Open(t, tenancy.Config{}).WithContext(as(acme)).Find(&[]Bare{}).Error)
			trusting := d.Open(t, tenancy.Config{DangerouslyTrustPolicies: []string{`"public"."remarks"`, "nowhere"}})
			require.NoError(t, trusting.WithContext(as(acme)).Find(&[]Remark{}).Error)
		})
	}
	d.AsOwner(t, `ALTER TABLE remarks DISABLE ROW LEVEL SECURITY`)
	trusting := d.Open(t, tenancy.Config{DangerouslyTrustPolicies: []string{"remarks"}})
	require.ErrorIs(t, trusting.WithContext(as(acme)).Find(&[]Remark{}).Error, tenancy.ErrNotIsolated, "policies that are off bind nothing")
}

// TestProofOfTableWithoutColumn: a tenant model whose table lacks the column is refused, and what is found is not remembered.
func TestProofOfTableWithoutColumn(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, `DROP TABLE IF EXISTS remarks`, `CREATE TABLE remarks (id bigint, body text)`, `GRANT ALL ON remarks TO PUBLIC`)
		db = db.WithContext(as(acme))
		for range 2 {
			err := db.Select("id", "body").Find(&[]Remark{}).Error
			require.ErrorIs(t, err, tenancy.ErrNotIsolated)
			require.ErrorContains(t, err, "has no column")
		}
		d.AsOwner(t, `ALTER TABLE remarks ADD tenant_id text`)
		require.ErrorIs(t, db.Find(&[]Remark{}).Error, tenancy.ErrNotIsolated, "the column has come, without a policy")
		d.AsOwner(t, isolateSQL)
		require.NoError(t, db.Find(&[]Remark{}).Error)
	})
}

// TestProofOfModelWithoutColumn: the table decides, not the model.
func TestProofOfModelWithoutColumn(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, `DROP TABLE IF EXISTS remarks`, remarksSQL)
		for _, ctx := range []context.Context{as(acme), tenancy.WithoutTenant(t.Context())} {
			db := db.WithContext(ctx)
			for range 2 {
				var all []Bare
				require.ErrorIs(t, db.Find(&all).Error, tenancy.ErrNotIsolated)
				require.Empty(t, all)
			}
			require.ErrorIs(t, db.Model(&Bare{}).Where("1 = 1").Update("body", "x").Error, tenancy.ErrNotIsolated)
			require.ErrorIs(t, db.Where("1 = 1").Delete(&Bare{}).Error, tenancy.ErrNotIsolated)
			require.ErrorIs(t, db.Create(&Bare{Body: "x"}).Error, tenancy.ErrNotIsolated)
		}
		var n int64
		require.NoError(t, d.OwnerDB.Table("remarks").Where("body <> 'x'").Count(&n).Error)
		require.EqualValues(t, 2, n, "nothing was written")
		d.AsOwner(t, isolateSQL)
		var all []Bare
		require.NoError(t, db.WithContext(as(acme)).Find(&all).Error)
		require.Len(t, all, 1)
	})
}

// TestProofGrowsOld: what was proved is asked again, in the statement's own round trip.
func TestProofGrowsOld(t *testing.T) {
	d := newDatabase(t)
	for _, model := range []struct {
		name string
		find func(db *gorm.DB) (int64, error)
	}{
		{"tenant model", func(db *gorm.DB) (int64, error) { tx := db.Find(&[]Remark{}); return tx.RowsAffected, tx.Error }},
		{"model without the column", func(db *gorm.DB) (int64, error) { tx := db.Find(&[]Bare{}); return tx.RowsAffected, tx.Error }},
		{"table without a model", func(db *gorm.DB) (int64, error) {
			tx := db.Table("remarks").Find(&[]map[string]any{})
			return tx.RowsAffected, tx.Error
		}},
	} {
		for _, change := range []string{
			`ALTER TABLE remarks DISABLE ROW LEVEL SECURITY`,
			`DROP POLICY tenants ON remarks; CREATE POLICY tenants ON remarks USING (true)`,
			`CREATE POLICY all_of_them ON remarks FOR SELECT USING (true)`,
			`ALTER TABLE remarks RENAME TO old; CREATE TABLE remarks (LIKE old); INSERT INTO remarks SELECT 3, 'globex', 'x'; GRANT ALL ON remarks TO PUBLIC`,
		} {
			t.Run(model.name+"/"+change, func(t *testing.T) {
				d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
					d.AsOwner(t, `DROP TABLE IF EXISTS remarks, old`, remarksSQL, isolateSQL)
					db = db.WithContext(as(acme))
					for range 2 {
						n, err := model.find(db)
						require.NoError(t, err)
						require.EqualValues(t, 1, n)
					}
					clock.Advance(time.Minute)
					_, err := model.find(db)
					require.NoError(t, err, "isolated still")
					d.AsOwner(t, change)
					clock.Advance(time.Minute)
					for range 2 {
						n, err := model.find(db)
						require.ErrorIs(t, err, tenancy.ErrNotIsolated)
						require.Zero(t, n)
					}
				})
			})
		}
	}
}

// TestProofCostsNoRoundTrip counts on the socket.
func TestProofCostsNoRoundTrip(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, remarksSQL, isolateSQL)
	proxy, dsn := wire.Start(t, d.App.DSN)
	db, err := testdb.OpenGuarded(t, dsn, tenancy.Config{})
	require.NoError(t, err)
	pool, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	db = db.WithContext(as(acme))
	find := func() { require.NoError(t, db.Find(&[]Remark{}).Error) }
	find()
	for range 3 {
		clock.Advance(time.Minute)
		before := proxy.RoundTrips()
		find()
		require.EqualValues(t, 1, proxy.RoundTrips()-before)
	}
}

// TestProofBindsRelation: a name that means another relation within a transaction is another relation.
func TestProofBindsRelation(t *testing.T) { proofBindsRelation(t, tenancy.Config{}) }

// TestProofBindsRelationInCleanSessions: that sessions are cleaned each time says nothing of the middle of a transaction.
func TestProofBindsRelationInCleanSessions(t *testing.T) {
	proofBindsRelation(t, tenancy.Config{CleanAlways: true})
}

func proofBindsRelation(t *testing.T, cfg tenancy.Config) {
	t.Helper()
	d := newDatabase(t)
	d.eachMode(t, cfg, func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, `DROP TABLE IF EXISTS remarks; DROP SCHEMA IF EXISTS archive CASCADE`, remarksSQL, isolateSQL,
			`CREATE SCHEMA archive; CREATE TABLE archive.remarks AS SELECT * FROM remarks; GRANT USAGE ON SCHEMA archive TO PUBLIC; GRANT ALL ON archive.remarks TO PUBLIC;
			INSERT INTO archive.remarks VALUES (9, 'globex', 'of globex')`)
		db = db.WithContext(as(acme))
		require.NoError(t, db.Find(&[]Remark{}).Error)
		for _, sql := range []string{`SET LOCAL search_path = archive`, `SET search_path = archive`, `SELECT set_config('search_path', 'archive', true)`} {
			err := db.Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Exec(sql).Error)
				var all []Remark
				err := tx.Find(&all).Error
				require.Empty(t, all)
				return err
			})
			require.ErrorIs(t, err, tenancy.ErrNotIsolated)
		}
		var all []Remark
		require.NoError(t, db.Find(&all).Error)
		require.Len(t, all, 1)
	})
}

// TestProofAllowsOwnTemporaryTables: the usual bulk upsert.
func TestProofAllowsOwnTemporaryTables(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, `DROP TABLE IF EXISTS remarks`, remarksSQL, isolateSQL, `ALTER TABLE remarks ADD PRIMARY KEY (id)`)
		for _, tenant := range []string{acme, globex, acme} {
			db := db.WithContext(as(tenant))
			err := db.Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Exec(`CREATE TEMP TABLE staging (LIKE remarks) ON COMMIT DROP`).Error)
				own := map[string]int64{acme: 1, globex: 2}[tenant]
				require.NoError(t, tx.Table("staging").Create(&[]Remark{{ID: own, Body: "bulk"}}).Error)
				require.NoError(t, tx.Table("staging").Create(map[string]any{"id": own + 100, "body": "bulk"}).Error)
				var staged []Remark
				require.NoError(t, tx.Table("staging").Find(&staged).Error)
				require.Len(t, staged, 2)
				require.NoError(t, tx.Exec(`INSERT INTO remarks SELECT * FROM staging ON CONFLICT (id) DO UPDATE SET body = excluded.body`).Error)
				return tx.Clauses(clause.OnConflict{UpdateAll: true, Columns: []clause.Column{{Name: "id"}}}).Create(&Remark{ID: own + 200, Body: "one"}).Error
			})
			require.NoError(t, err)
			err = db.Table("staging").Find(&[]Remark{}).Error
			require.ErrorContains(t, err, "42P01", "it is gone, and was not remembered")

			// One of the table's own name hides it, from its transaction alone; a statement that was prepared before may go on
			// reading the table, as PostgreSQL has it.
			require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Exec(`CREATE TEMP TABLE remarks (LIKE public.remarks) ON COMMIT DROP`).Error)
				var all []Remark
				require.NoError(t, tx.Find(&all).Error)
				for _, r := range all {
					require.Equal(t, tenant, r.TenantID)
				}
				return nil
			}))
			var all []Remark
			require.NoError(t, db.Find(&all).Error)
			require.Len(t, all, 3)
		}
		d.AsOwner(t, `TRUNCATE remarks`)
	})
}

// Hooked has hooks that exchange the statement's context.
type Hooked struct {
	ID       int64
	TenantID string
	Body     string
}

func (Hooked) TableName() string { return "remarks" }

type exchange struct{}

func exchangeContext(tx *gorm.DB) error {
	if to, ok := tx.Statement.Context.Value(exchange{}).(func(context.Context) context.Context); ok {
		tx.Statement.Context = to(tx.Statement.Context)
	}
	return nil
}

func (*Hooked) BeforeCreate(tx *gorm.DB) error { return exchangeContext(tx) }
func (*Hooked) BeforeUpdate(tx *gorm.DB) error { return exchangeContext(tx) }
func (*Hooked) BeforeDelete(tx *gorm.DB) error { return exchangeContext(tx) }

// TestHookCannotExchangeTenant: a statement is sent for the tenant that it was let pass for.
func TestHookCannotExchangeTenant(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, remarksSQL, isolateSQL)
	exchanges := map[string]func(context.Context) context.Context{
		"derived":      func(ctx context.Context) context.Context { return tenancy.WithTenant(ctx, globex) },
		"new":          func(context.Context) context.Context { return as(globex) },
		"without":      tenancy.WithoutTenant,
		"no one's":     func(context.Context) context.Context { return context.Background() },
		"an empty one": func(ctx context.Context) context.Context { return tenancy.WithTenant(ctx, "") },
	}
	for _, skip := range []bool{false, true} {
		for name, to := range exchanges {
			t.Run(name, func(t *testing.T) {
				db := d.Open(t, tenancy.Config{}, testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = skip }))
				db = db.WithContext(context.WithValue(as(acme), exchange{}, to))
				for way, run := range map[string]func() error{
					"create": func() error { return db.Create(&Hooked{ID: 7, Body: "x"}).Error },
					"update": func() error { return db.Model(&Hooked{}).Where("1 = 1").Update("body", "x").Error },
					"save":   func() error { return db.Save(&Hooked{ID: 2, TenantID: globex, Body: "x"}).Error },
					"delete": func() error { return db.Where("1 = 1").Delete(&Hooked{}).Error },
				} {
					err := run()
					if name == "no one's" && !skip {
						continue // it inherits from GORM's transaction, which is acme's
					}
					require.Error(t, err, way)
				}
			})
		}
	}
	var bodies []string
	d.AsSuperuser(t, `ALTER TABLE remarks DISABLE ROW LEVEL SECURITY`)
	require.NoError(t, d.OwnerDB.Table("remarks").Where("tenant_id = ?", globex).Pluck("body", &bodies).Error)
	require.Equal(t, []string{"of globex"}, bodies)

	// What stays with its tenant goes on.
	d.AsSuperuser(t, `ALTER TABLE remarks ENABLE ROW LEVEL SECURITY`)
	same := func(ctx context.Context) context.Context {
		return context.WithValue(tenancy.WithTenant(ctx, acme), pgserver.Login{}, 1)
	}
	db := d.Open(t, tenancy.Config{}).WithContext(context.WithValue(as(acme), exchange{}, same))
	require.NoError(t, db.Model(&Hooked{}).Where("1 = 1").Update("body", "mine").Error)
}

// TestPluginCannotExchangeTenant: a callback that comes after ours, and puts another tenant into the statement's context, gets no row
// of that one.
func TestPluginCannotExchangeTenant(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}, testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = true }))
	exchange := func(db *gorm.DB) { db.Statement.Context = tenancy.WithTenant(db.Statement.Context, globex) }
	c := db.Callback()
	for name, err := range map[string]error{
		"query":  c.Query().Before("gorm:query").Register("exchange", exchange),
		"row":    c.Row().Before("gorm:row").Register("exchange", exchange),
		"update": c.Update().Before("gorm:update").Register("exchange", exchange),
		"delete": c.Delete().Before("gorm:delete").Register("exchange", exchange),
	} {
		require.NoError(t, err, name)
	}
	mine := db.WithContext(as(acme))
	var rows []Patient
	require.ErrorIs(t, mine.Find(&rows).Error, tenancy.ErrTenantMismatch)
	require.Empty(t, rows)
	var name string
	require.ErrorIs(t, mine.Model(&Patient{}).Select("name").Row().Scan(&name), tenancy.ErrTenantMismatch)
	require.Empty(t, name)
	require.ErrorIs(t, mine.Model(&Patient{}).Where("name <> ''").Update("name", "changed").Error, tenancy.ErrTenantMismatch)
	require.ErrorIs(t, mine.Where("name <> ''").Delete(&Patient{}).Error, tenancy.ErrTenantMismatch)
	require.NoError(t, d.Open(t, tenancy.Config{}).WithContext(as(globex)).Where("name = ?", "globex's patient").First(&Patient{}).Error)
}
