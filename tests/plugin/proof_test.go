package plugin_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// ways are statements on a tenant's table, each of which must be refused if the table is not isolated.
var ways = map[string]func(db *gorm.DB) error{
	"find":   func(db *gorm.DB) error { return db.Find(&[]Patient{}).Error },
	"count":  func(db *gorm.DB) error { var n int64; return db.Model(&Patient{}).Count(&n).Error },
	"create": func(db *gorm.DB) error { return db.Create(&Patient{Name: "new"}).Error },
	"update": func(db *gorm.DB) error { return db.Model(&Patient{}).Where("1 = 1").Update("name", "x").Error },
	"delete": func(db *gorm.DB) error { return db.Where("1 = 1").Delete(&Patient{}).Error },
	"rows": func(db *gorm.DB) error {
		rows, err := db.Model(&Patient{}).Rows()
		if err == nil {
			_ = rows.Close()
		}
		return err
	},
	"row":        func(db *gorm.DB) error { var id int64; return db.Model(&Patient{}).Select("id").Row().Scan(&id) },
	"scan":       func(db *gorm.DB) error { return db.Model(&Patient{}).Scan(&[]Patient{}).Error },
	"joins":      func(db *gorm.DB) error { return db.Joins("Doctor").Find(&[]Visitor{}).Error },
	"preload":    func(db *gorm.DB) error { return db.Preload("Patients").Find(&[]Doctor{}).Error },
	"table":      func(db *gorm.DB) error { return db.Table("patients").Find(&[]map[string]any{}).Error },
	"alias":      func(db *gorm.DB) error { return db.Table(`"public"."patients" AS p`).Find(&[]map[string]any{}).Error },
	"only":       func(db *gorm.DB) error { return db.Table("ONLY public.patients").Find(&[]map[string]any{}).Error },
	"only alias": func(db *gorm.DB) error { return db.Table("only (patients) AS p").Find(&[]map[string]any{}).Error },
	"list":       func(db *gorm.DB) error { return db.Table("pg_am a, patients p").Find(&[]map[string]any{}).Error },
	"list only":  func(db *gorm.DB) error { return db.Table("pg_am a,ONLY(patients)").Find(&[]map[string]any{}).Error },
	"join": func(db *gorm.DB) error {
		return db.Table("pg_am a LEFT JOIN\tpatients p ON true").Find(&[]map[string]any{}).Error
	},
	"subselect": func(db *gorm.DB) error {
		return db.Table("(SELECT id FROM public.patients) AS p").Find(&[]map[string]any{}).Error
	},
	"comment": func(db *gorm.DB) error { return db.Table("/* all */ patients").Find(&[]map[string]any{}).Error },
	"line":    func(db *gorm.DB) error { return db.Table("-- all\n patients").Find(&[]map[string]any{}).Error },
	"beside": func(db *gorm.DB) error {
		return db.Table("(?) AS v, patients", db.Model(&Visitor{})).Find(&[]map[string]any{}).Error
	},
	"table scan": func(db *gorm.DB) error { return db.Table("patients").Scan(&[]map[string]any{}).Error },
	"table row":  func(db *gorm.DB) error { var id int64; return db.Table("patients").Select("id").Row().Scan(&id) },
	"generics":   func(db *gorm.DB) error { _, err := gorm.G[Patient](db).Find(as(acme)); return err },
	"raw find":   func(db *gorm.DB) error { return db.Raw("SELECT * FROM patients").Find(&[]Patient{}).Error },
}

// Visitor is shared, and joins a tenant's table.
type Visitor struct {
	ID       int64
	DoctorID *int64
	Doctor   *Doctor
}

func TestProofRefusesTablesNotIsolated(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&Visitor{}))
	d.AsOwner(t,
		"GRANT SELECT ON visitors TO PUBLIC",
		"ALTER TABLE patients DISABLE ROW LEVEL SECURITY",
		"ALTER TABLE doctors DISABLE ROW LEVEL SECURITY")
	for _, prepare := range []bool{false, true} {
		for _, inTx := range []bool{false, true} {
			for name, way := range ways {
				t.Run(name, func(t *testing.T) {
					db := d.Open(t, tenancy.Config{}, testdb.Prepared(prepare)).WithContext(as(acme))
					run := way
					if inTx {
						run = func(db *gorm.DB) error { return db.Transaction(way) }
					}
					err := run(db)
					require.ErrorIs(t, err, tenancy.ErrNotIsolated)
					var refused *tenancy.Error
					require.ErrorAs(t, err, &refused)
					require.Contains(t, err.Error(), "row-level security is off on")
				})
			}
		}
	}
}

// TestProofLetsOtherTablesPass: what is given to db.Table names more than tables.
func TestProofLetsOtherTablesPass(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	require.NoError(t, db.Create(&Patient{Name: "Ann"}).Error)
	for _, table := range []string{
		"patients p, doctors d", "patients AS p, generate_series(1, 1) AS g (n)", "(SELECT id, name FROM patients) AS p (id, name)",
		"patients LEFT JOIN public.doctors ON (public.doctors.id = public.patients.id)", "ONLY (patients) AS p CROSS JOIN LATERAL (SELECT p.name) AS n (again)",
		"jsonb_to_recordset('[{\"a\": 1}, {\"b.c.d\": 2}]') AS r (a int)", "(SELECT extract(year FROM now()) AS y, substring('x' FROM 1)) AS s",
		"/* doctors */ patients -- of all\n", "(VALUES (1, 'a'), (2, 'b')) AS v (n, s)",
	} {
		t.Run(table, func(t *testing.T) {
			for range 2 {
				require.NoError(t, db.Table(table).Find(&[]map[string]any{}).Error)
				require.NoError(t, db.Transaction(func(tx *gorm.DB) error { return tx.Table(table).Limit(1).Scan(&[]map[string]any{}).Error }))
			}
		})
	}
}

// proofCase is a table, and whether it is isolated for a login.
type proofCase struct {
	name    string
	prepare []string
	dsn     string
	table   string
	remedy  string // empty: isolated
	since   int    // server_version_num that knows the syntax
	trusted string // in Config.DangerouslyTrustPolicies
}

// proofCases are in the order in which they are prepared.
func proofCases(d database) []proofCase {
	return []proofCase{
		{name: "isolated", dsn: d.App.DSN, table: "patients"},
		{name: "owner with FORCE", dsn: d.Owner.DSN, table: "patients"},
		{
			name: "owner without FORCE", dsn: d.Owner.DSN, table: "patients",
			prepare: []string{"ALTER TABLE patients NO FORCE ROW LEVEL SECURITY"},
			remedy:  "FORCE ROW LEVEL SECURITY, or use a role that does not own it",
		},
		{name: "superuser", dsn: "super", table: "patients", remedy: "a superuser or one with BYPASSRLS"},
		{
			name: "view of its owner", dsn: d.App.DSN, table: "seen",
			prepare: []string{"CREATE VIEW seen AS SELECT * FROM patients", "GRANT SELECT ON seen TO PUBLIC"},
			remedy:  "security_invoker",
		},
		{
			name: "view of who asks", dsn: d.App.DSN, table: "invoked", since: 150000,
			prepare: []string{
				"CREATE VIEW invoked WITH (security_invoker = on) AS SELECT p.*, d.name AS doctor FROM patients p LEFT JOIN doctors d ON d.id = doctor_id",
				"GRANT SELECT ON invoked TO PUBLIC",
			},
		},
		{
			name: "view of who asks, of a table that is not isolated", dsn: d.App.DSN, table: "invoked", since: 150000,
			prepare: []string{"ALTER TABLE doctors DISABLE ROW LEVEL SECURITY"},
			remedy:  "row-level security is off on doctors",
		},
		{
			name: "view of who asks, with a column of its own", dsn: d.App.DSN, table: "renamed", since: 150000,
			prepare: []string{
				"CREATE TABLE visits (id bigint, clinic text)", "ALTER TABLE visits ENABLE ROW LEVEL SECURITY",
				"CREATE POLICY everyone ON visits USING (true)",
				"CREATE VIEW renamed WITH (security_invoker = on) AS SELECT id, clinic AS tenant_id FROM visits", "GRANT SELECT ON visits, renamed TO PUBLIC",
			},
			remedy: "no table beneath it has",
		},
		{name: "the same, trusted", dsn: d.App.DSN, table: "renamed", since: 150000, trusted: "renamed"},
		{
			name: "the same, trusted, without row-level security", dsn: d.App.DSN, table: "renamed", since: 150000, trusted: "renamed",
			prepare: []string{"ALTER TABLE visits DISABLE ROW LEVEL SECURITY"},
			remedy:  "no table beneath it has",
		},
		{
			name: "view of who asks, with a column of its own, of a view of its owner", dsn: d.App.DSN, table: "twice", since: 150000,
			prepare: []string{
				"CREATE VIEW owned AS SELECT id, tenant_id AS clinic FROM patients",
				"CREATE VIEW twice WITH (security_invoker = on) AS SELECT id, clinic AS tenant_id FROM owned", "GRANT SELECT ON owned, twice TO PUBLIC",
			},
			remedy: "no table beneath it has",
		},
		{
			name: "materialized view", dsn: d.App.DSN, table: "kept",
			prepare: []string{"CREATE MATERIALIZED VIEW kept AS SELECT * FROM patients", "GRANT SELECT ON kept TO PUBLIC"},
			remedy:  "kept is not a table",
		},
		{name: "no tenant column", dsn: d.App.DSN, table: "countries"},
	}
}

func TestProofSaysWhyNotIsolated(t *testing.T) {
	d := newDatabase(t)
	for _, c := range proofCases(d) {
		if pgserver.Shared(t).Version() < c.since {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			d.AsOwner(t, c.prepare...)
			dsn := c.dsn
			if dsn == "super" {
				dsn = d.SuperuserDSN(t)
			}
			cfg := tenancy.Config{DangerouslyAllowUnsafeRole: true}
			if c.trusted != "" {
				cfg.DangerouslyTrustPolicies = []string{c.trusted}
			}
			db, err := testdb.OpenGuarded(t, dsn, cfg)
			require.NoError(t, err)
			err = db.WithContext(as(acme)).Table(c.table).Find(&[]map[string]any{}).Error
			if c.remedy == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tenancy.ErrNotIsolated)
			require.Contains(t, err.Error(), c.remedy)
		})
	}
}

func TestProofIsRemembered(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	require.NoError(t, db.Find(&[]Patient{}).Error)
	d.AsOwner(t, "ALTER TABLE patients DISABLE ROW LEVEL SECURITY")
	require.NoError(t, db.Find(&[]Patient{}).Error, "a yes is remembered")

	db = d.Open(t, tenancy.Config{}).WithContext(as(acme))
	require.ErrorIs(t, db.Find(&[]Patient{}).Error, tenancy.ErrNotIsolated)
	d.AsOwner(t, "ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
	require.NoError(t, db.Find(&[]Patient{}).Error, "a no is not")
}

func TestProofOfMissingTable(t *testing.T) {
	type Absent struct {
		ID       int64
		TenantID string
	}
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	err := db.Find(&[]Absent{}).Error
	require.ErrorContains(t, err, "42P01") // PostgreSQL's own
	d.AsOwner(t, "CREATE TABLE absents (id bigint, tenant_id text)", "GRANT SELECT ON absents TO PUBLIC")
	require.ErrorIs(t, db.Find(&[]Absent{}).Error, tenancy.ErrNotIsolated)
}

func TestProofSwitches(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "ALTER TABLE patients DISABLE ROW LEVEL SECURITY")
	require.NoError(t, d.Open(t, tenancy.Config{DangerouslySkipProof: true}).WithContext(as(acme)).Find(&[]Patient{}).Error)

	var log bytes.Buffer
	db := d.Open(t, tenancy.Config{
		DangerouslyWarnOnly: true, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}).WithContext(as(acme))
	require.NoError(t, db.Find(&[]Patient{}).Error)
	require.NoError(t, db.Find(&[]Patient{}).Error)
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("level=WARN")), log.String())
	require.NotContains(t, log.String(), acme)
}

func TestProofSparesSharedModels(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	d.AsOwner(t, "GRANT ALL ON memberships, countries TO PUBLIC", "GRANT ALL ON SEQUENCE memberships_id_seq TO PUBLIC")
	require.NoError(t, db.WithContext(as(acme)).Create(&Membership{TenantID: globex}).Error)
	ctx := tenancy.WithoutTenant(context.Background())
	var all []Membership
	require.NoError(t, db.WithContext(ctx).Find(&all).Error)
	require.Len(t, all, 1)
	require.NoError(t, db.WithContext(ctx).Table("memberships AS m").Find(&all).Error)
	require.NoError(t, db.WithContext(ctx).Find(&[]Country{}).Error)

	// Of tenants' tables there is nothing to see.
	var patients []Patient
	require.NoError(t, db.WithContext(ctx).Find(&patients).Error)
	require.Empty(t, patients)
}

func TestProofUnderConcurrency(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}, testdb.PrepareStmt)
	var all sync.WaitGroup
	for i := range 32 {
		all.Add(1)
		go func() {
			defer all.Done()
			tenant := []string{acme, globex}[i%2]
			var doctors []Doctor
			if err := db.WithContext(as(tenant)).Preload("Patients").Find(&doctors).Error; err != nil || len(doctors) != 1 {
				t.Errorf("%v, %d doctors", err, len(doctors))
			}
		}()
	}
	all.Wait()
}

// AutoMigrate works on a guarded connection, also on a table that has no policy yet.
func TestAutoMigrateBeforeIsolation(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE notes (id bigint, tenant_id text)", "INSERT INTO notes VALUES (1, 'acme')")
	type Note struct {
		ID       int64
		TenantID string
		Body     string
	}
	db, err := testdb.OpenGuarded(t, d.Owner.DSN, tenancy.Config{})
	require.NoError(t, err)
	ctx := tenancy.WithoutTenant(t.Context())
	require.NoError(t, db.WithContext(ctx).AutoMigrate(&Note{}))
	require.True(t, db.WithContext(ctx).Migrator().HasColumn(&Note{}, "Body"))
	require.ErrorIs(t, db.WithContext(as(acme)).Find(&[]Note{}).Error, tenancy.ErrNotIsolated)
}
