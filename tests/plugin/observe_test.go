package plugin_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// observed is a database in the first stage of a rollout: the tenant column is there, and no policy. The application's login owns
// nothing and is bound by nothing.
type observed struct {
	database
	mu   sync.Mutex
	seen []tenancy.Refusal
}

func newObserved(t *testing.T) *observed {
	t.Helper()
	d := &observed{database: database{testdb.New(t)}}
	require.NoError(t, d.OwnerDB.AutoMigrate(&Doctor{}, &Patient{}, &Country{}, &Membership{}))
	d.AsOwner(t,
		"ALTER TABLE doctors ALTER tenant_id SET DEFAULT NULLIF(current_setting('app.tenant_id', true), '')",
		"ALTER TABLE patients ALTER tenant_id SET DEFAULT NULLIF(current_setting('app.tenant_id', true), '')",
		"CREATE UNIQUE INDEX ON doctors (name)",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+d.App.Role,
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+d.App.Role)
	return d
}

func (d *observed) config() tenancy.Config {
	return tenancy.Config{AdminRole: d.Admin.Role, DangerouslyObserve: func(_ context.Context, r tenancy.Refusal) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.seen = append(d.seen, r)
	}}
}

// take returns what was reported, except for tables without policies, and forgets it.
func (d *observed) take() (statements []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.seen {
		if r.Table == "" || !isolationError(r.Err) {
			statements = append(statements, strings.TrimSpace(r.Operation+" "+r.Table))
		}
	}
	d.seen = nil
	return statements
}

func isolationError(err error) bool {
	return strings.Contains(err.Error(), tenancy.ErrNotIsolated.Error())
}

// tenants returns the tenant of each row, NULL as "-".
func (d *observed) tenants(t *testing.T, table string) (tenants []string) {
	t.Helper()
	require.NoError(t, d.OwnerDB.Raw("SELECT coalesce(tenant_id, '-') FROM "+table+" ORDER BY id").Scan(&tenants).Error)
	return tenants
}

func TestObserveLetsStatementsWithoutTenantPass(t *testing.T) {
	d := newObserved(t)
	d.eachMode(t, d.config(), func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, "TRUNCATE doctors, patients, countries RESTART IDENTITY")
		d.take()

		doctor := Doctor{Name: "a", Patients: []Patient{{Name: "p"}}}
		require.NoError(t, db.Create(&doctor).Error)
		require.Equal(t, []string{"create doctors", "create patients"}, d.take())
		require.Equal(t, []string{"-"}, d.tenants(t, "doctors"), "the empty text is no tenant")
		require.Equal(t, []string{"-"}, d.tenants(t, "patients"))

		var found Doctor
		require.NoError(t, db.Preload("Patients").First(&found, doctor.ID).Error)
		require.Len(t, found.Patients, 1)
		require.Equal(t, []string{"query doctors", "query patients"}, d.take())
		found.Name = "b"
		require.NoError(t, db.Save(&found).Error)
		require.Equal(t, []string{"-"}, d.tenants(t, "doctors"), "Save leaves the column alone")
		d.take()
		require.NoError(t, db.Model(&Doctor{}).Create(map[string]any{"Name": "m", "TenantID": ""}).Error)
		require.Equal(t, []string{"-", "-"}, d.tenants(t, "doctors"))
		require.NoError(t, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, UpdateAll: true}).
			Create(&[]Doctor{{Name: "m"}, {Name: "n", TenantID: acme}}).Error)
		require.Equal(t, []string{"-", "-", acme}, d.tenants(t, "doctors"))
		d.take()

		var n int64
		require.NoError(t, db.Raw("SELECT count(*) FROM doctors").Row().Scan(&n))
		require.EqualValues(t, 3, n)
		require.NoError(t, db.Exec("UPDATE doctors SET name = name").Error)
		require.NoError(t, db.Delete(&Patient{}, "name = ?", "p").Error)
		require.Equal(t, []string{"row", "raw", "delete patients"}, d.take())

		pool, err := db.DB()
		require.NoError(t, err)
		_, err = pool.ExecContext(t.Context(), "UPDATE doctors SET name = name")
		require.NoError(t, err)
		require.Equal(t, []string{"raw"}, d.take(), "what does not pass GORM is reported by the guard")
	})
}

func TestObserveRunsStatementsWithTenantForIt(t *testing.T) {
	d := newObserved(t)
	db := d.Open(t, d.config())
	require.NoError(t, db.Create(&Doctor{Name: "old"}).Error)
	require.NoError(t, db.WithContext(as(acme)).Create(&Doctor{Name: "new"}).Error)
	require.NoError(t, db.WithContext(as(acme)).Exec("INSERT INTO doctors (name) VALUES ('raw')").Error)
	require.Equal(t, []string{"-", acme, acme}, d.tenants(t, "doctors"))
	d.take()
	var doctors []Doctor
	require.NoError(t, db.WithContext(as(acme)).Find(&doctors).Error)
	require.Len(t, doctors, 3, "no condition hides the rows that have no tenant yet")
	require.Empty(t, d.take())

	err := db.WithContext(as(acme)).Create(&Doctor{Name: "x", TenantID: globex}).Error
	require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
	require.ErrorIs(t, db.WithContext(as("")).Find(&doctors).Error, tenancy.ErrNoTenant, "an id that cannot be used is refused")
	pool, err := db.DB()
	require.NoError(t, err)
	conn, err := pool.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.ErrorIs(t, tenancy.WithPgxConn(t.Context(), conn, nil), tenancy.ErrNoTenant)
	require.Empty(t, d.take())
}

// A table without policies is reported once, although the statement has a tenant.
func TestObserveReportsTablesWithoutPolicies(t *testing.T) {
	d := newObserved(t)
	db := d.Open(t, d.config())
	for range 3 {
		require.NoError(t, db.WithContext(as(acme)).Find(&[]Doctor{}).Error)
	}
	require.Len(t, d.seen, 1)
	require.ErrorIs(t, d.seen[0].Err, tenancy.ErrNotIsolated)
	require.Equal(t, "doctors", d.seen[0].Table)
}

// A transaction without a tenant takes that of its first statement that has one, as always; what comes before is observed.
func TestObserveInTransaction(t *testing.T) {
	d := newObserved(t)
	d.eachMode(t, d.config(), func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, "TRUNCATE doctors, patients")
		d.take()
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Create(&Doctor{Name: "before"}).Error)
			require.NoError(t, tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&Doctor{Name: "nested"}).Error }))
			require.Error(t, tx.Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Create(&Doctor{Name: "undone"}).Error)
				return sql.ErrNoRows
			}))
			require.NoError(t, tx.WithContext(as(acme)).Create(&Doctor{Name: "tenant"}).Error)
			require.NoError(t, tx.Create(&Doctor{Name: "inherits"}).Error)
			require.ErrorIs(t, tx.WithContext(as(globex)).Create(&Doctor{Name: "other"}).Error, tenancy.ErrTenantMismatch)
			return nil
		}))
		require.Equal(t, []string{"-", "-", acme, acme}, d.tenants(t, "doctors"))
		require.NotContains(t, strings.Join(d.take(), ";"), "begin")
	})
}

// The next user of the connection finds nothing of a statement that was observed, and the other way round.
func TestObserveLeavesNothing(t *testing.T) {
	d := newObserved(t)
	login := d.newLogin(t, "NOINHERIT")
	d.AsOwner(t, "GRANT SELECT ON doctors TO "+login)
	t.Cleanup(func() { d.AsOwner(t, "REVOKE SELECT ON doctors FROM "+login) })
	cfg := d.config()
	cfg.AppRole, cfg.AdminRole = d.App.Role, ""
	for _, prepared := range []bool{false, true} {
		db, err := testdb.OpenGuarded(t, d.login(login), cfg, testdb.Prepared(prepared))
		require.NoError(t, err)
		pool, err := db.DB()
		require.NoError(t, err)
		pool.SetMaxOpenConns(1)
		state := func(ctx context.Context) (s string) {
			require.NoError(t, db.WithContext(ctx).Raw("SELECT current_user || ':' || coalesce(current_setting('app.tenant_id', true), '')").Scan(&s).Error)
			return s
		}
		for range 2 {
			require.Equal(t, d.App.Role+":"+acme, state(as(acme)))
			require.Equal(t, login+":", state(t.Context()), "the login's own role")
			require.Equal(t, d.App.Role+":"+globex, state(as(globex)))
			require.Equal(t, d.App.Role+":", state(tenancy.WithoutTenant(t.Context())), "WithoutTenant is as ever")
			require.NoError(t, db.Exec("SET app.tenant_id = 'acme'").Error)
			require.NoError(t, db.Exec("CREATE TEMPORARY TABLE doctors (id int)").Error)
			require.Equal(t, login+":", state(t.Context()))
			require.NoError(t, db.WithContext(as(globex)).Find(&[]Doctor{}).Error)
			require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Exec("SELECT count(*) FROM doctors").Error; err != nil {
					return err
				}
				return tx.WithContext(as(acme)).Exec("DELETE FROM doctors").Error // which the login may not
			}))
		}
	}
}

// Once policies apply to the login, a statement without a tenant finds no row. It is refused again, table by table.
func TestObserveEndsWhereTheLoginIsBound(t *testing.T) {
	d := newObserved(t)
	policy := "CREATE POLICY p ON doctors USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::text))"
	d.AsOwner(t, policy, "ALTER TABLE doctors ENABLE ROW LEVEL SECURITY")
	db := d.Open(t, d.config())
	require.ErrorIs(t, db.Find(&[]Doctor{}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, db.Create(&Doctor{}).Error, tenancy.ErrNoTenant)
	require.NoError(t, db.Find(&[]Patient{}).Error)
	require.Equal(t, []string{"query patients"}, d.take())

	d.AsOwner(t, "CREATE POLICY q ON doctors TO "+d.App.Role+" USING (true)")
	db = d.Open(t, d.config())
	require.NoError(t, db.Find(&[]Doctor{}).Error, "a policy of its own lets the login see all")
	require.Equal(t, []string{"query doctors"}, d.take())
}

func TestObservationsAreCountedByLine(t *testing.T) {
	d := newObserved(t)
	cfg := d.config()
	plugin := tenancy.New(withLog(cfg))
	db := testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(plugin))
	for range 40 {
		require.NoError(t, db.Find(&[]Doctor{}, "name = ?", "secret").Error)
	}
	require.NoError(t, db.Exec("SELECT 1").Error)
	seen := plugin.Observations()
	require.Len(t, seen, 2)
	require.Equal(t, uint64(40), seen[0].Count)
	require.Equal(t, "query", seen[0].Operation)
	require.Equal(t, "doctors", seen[0].Table)
	require.Regexp(t, `/tests/plugin/observe_test\.go:\d+$`, seen[0].Caller)
	require.NotContains(t, fmt.Sprint(seen), "secret")

	var profile bytes.Buffer
	require.NoError(t, pprof.Lookup("tenancy_without_tenant").WriteTo(&profile, 1))
	require.Contains(t, profile.String(), "32 @", "samples of a line are bounded")
	require.Regexp(t, `(?m)^#\s+\S+\s+github\.com/gormtenancy/tenancy/tests/plugin_test\.TestObservationsAreCountedByLine`, profile.String())
}

func withLog(cfg tenancy.Config) tenancy.Config {
	cfg.Logger = testdb.Quiet
	return cfg
}

// What made-up table names add is counted together, so that neither memory nor a metric's labels grow without end.
func TestObservationsAreBounded(t *testing.T) {
	d := newObserved(t)
	plugin := tenancy.New(withLog(d.config()))
	db := testdb.OpenPlain(t, d.App.DSN, testdb.GORM(func(c *gorm.Config) { c.DryRun = true }))
	require.NoError(t, db.Use(plugin))
	for i := range 1100 {
		require.NoError(t, db.Table(fmt.Sprintf("t%d", i)).Create(map[string]any{"a": 1}).Error)
	}
	seen := plugin.Observations()
	require.Len(t, seen, 1001)
	require.Equal(t, tenancy.Observation{Count: 100}, seen[0])
}

func TestObserveIsLoud(t *testing.T) {
	d := newObserved(t)
	var log bytes.Buffer
	cfg := d.config()
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	d.Open(t, cfg)
	require.Contains(t, log.String(), "DangerouslyObserve is set")

	cfg.Check = tenancy.CheckRefuse
	_, err := testdb.OpenGuarded(t, d.App.DSN, cfg)
	require.ErrorContains(t, err, "CheckRefuse and DangerouslyObserve")
}

// A panic in the application's function costs neither the statement nor its connection.
func TestObserveSurvivesPanic(t *testing.T) {
	d := newObserved(t)
	db := d.Open(t, tenancy.Config{DangerouslyObserve: func(context.Context, tenancy.Refusal) { panic("secret") }})
	require.NoError(t, db.Create(&Doctor{Name: "a", Patients: []Patient{{Name: "p"}}}).Error)
	for _, pool := range []func(*gorm.DB) int{inUse, inUseBelow} {
		require.Zero(t, pool(db))
	}
}

// Bypass is no statement without a tenant.
func TestObserveDoesNotSeeBypass(t *testing.T) {
	d := newObserved(t)
	d.AsOwner(t, "GRANT SELECT ON doctors TO "+d.Admin.Role)
	db := d.Open(t, d.config())
	require.NoError(t, tenancy.Bypass(db, "count").Find(&[]Doctor{}).Error)
	require.NoError(t, db.WithContext(tenancy.WithoutTenant(t.Context())).Find(&[]Country{}).Error)
	require.Empty(t, d.take())
}

// A guarded pool that observes must not stand below a plugin that does not.
func TestObservingPoolNeedsObservingPlugin(t *testing.T) {
	d := newObserved(t)
	config, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	cfg := withLog(d.config())
	pool := tenancy.OpenDB(stdlib.GetConnector(*config), cfg)
	db := testdb.OpenPlain(t, "", testdb.Pool(pool))
	require.ErrorContains(t, db.Use(tenancy.New(withLog(d.database.Config()))), "DangerouslyObserve")
	require.NoError(t, db.Use(tenancy.New(cfg)))
}
