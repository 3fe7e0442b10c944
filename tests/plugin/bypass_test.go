package plugin_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// admins are the two ways to an admin client.
func admins(t *testing.T, d database) map[string]tenancy.Config {
	t.Helper()
	pool, err := sql.Open("pgx", d.Admin.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return map[string]tenancy.Config{
		"AdminRole": {AdminRole: d.Admin.Role},
		"AdminDB":   {AdminDB: pool},
	}
}

// everything is what the admin client can read, in all the ways of GORM; it returns how many patients were seen.
var everything = map[string]func(db *gorm.DB) (int64, error){
	"find":  func(db *gorm.DB) (int64, error) { var p []Patient; tx := db.Find(&p); return tx.RowsAffected, tx.Error },
	"count": func(db *gorm.DB) (n int64, err error) { err = db.Model(&Patient{}).Count(&n).Error; return },
	"raw": func(db *gorm.DB) (n int64, err error) {
		err = db.Raw("SELECT count(*) FROM patients").Scan(&n).Error
		return
	},
	"row": func(db *gorm.DB) (n int64, err error) {
		err = db.Table("patients").Select("count(*)").Row().Scan(&n)
		return
	},
	"generics": func(db *gorm.DB) (int64, error) {
		p, err := gorm.G[Patient](db).Find(context.Background())
		return int64(len(p)), err
	},
	"preload": func(db *gorm.DB) (n int64, err error) {
		var doctors []Doctor
		err = db.Preload("Patients").Find(&doctors).Error
		for _, d := range doctors {
			n += int64(len(d.Patients))
		}
		return
	},
	"joins": func(db *gorm.DB) (n int64, err error) {
		var patients []Patient
		err = db.Joins("Doctor").Find(&patients).Error
		for _, p := range patients {
			if p.Doctor != nil {
				n++
			}
		}
		return
	},
	"transaction": func(db *gorm.DB) (n int64, err error) {
		err = db.Transaction(func(tx *gorm.DB) error {
			return tx.Transaction(func(tx *gorm.DB) error { return tx.Model(&Patient{}).Count(&n).Error })
		})
		return
	},
	"connection": func(db *gorm.DB) (n int64, err error) {
		err = db.Connection(func(tx *gorm.DB) error { return tx.Model(&Patient{}).Count(&n).Error })
		return
	},
	"prepared": func(db *gorm.DB) (n int64, err error) {
		err = db.Session(&gorm.Session{PrepareStmt: true}).Model(&Patient{}).Count(&n).Error
		return
	},
	"prepared transaction": func(db *gorm.DB) (n int64, err error) {
		err = db.Session(&gorm.Session{PrepareStmt: true}).Transaction(func(tx *gorm.DB) error {
			return tx.Model(&Patient{}).Count(&n).Error
		})
		return
	},
	"in batches": func(db *gorm.DB) (n int64, err error) {
		var batch []Patient
		err = db.FindInBatches(&batch, 1, func(tx *gorm.DB, _ int) error { n += tx.RowsAffected; return nil }).Error
		return
	},
}

func TestBypassSeesEverything(t *testing.T) {
	d := newDatabase(t)
	for how, cfg := range admins(t, d) {
		for _, prepare := range []bool{false, true} {
			db := d.Open(t, cfg, testdb.Prepared(prepare))
			for name, read := range everything {
				t.Run(how+"/"+name, func(t *testing.T) {
					for range 3 { // tenants and admin, statement after statement
						n, err := read(tenancy.Bypass(db, "test"))
						require.NoError(t, err)
						require.EqualValues(t, 2, n)
						n, err = read(tenancy.Bypass(db.WithContext(as(acme)), "test", tenancy.BypassReadOnly()))
						require.NoError(t, err)
						require.EqualValues(t, 2, n)
						if name == "generics" {
							continue // its context is its own
						}
						n, err = read(db.WithContext(as(acme)))
						require.NoError(t, err)
						require.EqualValues(t, 1, n, "a tenant must not get what the admin prepared")
						_, err = read(db)
						require.ErrorIs(t, err, tenancy.ErrNoTenant)
					}
				})
			}
		}
	}
}

func TestBypassWrites(t *testing.T) {
	d := newDatabase(t)
	for how, cfg := range admins(t, d) {
		t.Run(how, func(t *testing.T) {
			db := d.Open(t, cfg)
			admin := tenancy.Bypass(db, "test")

			rows := []Patient{{TenantID: acme, Name: "a"}, {TenantID: globex, Name: "b"}}
			require.NoError(t, admin.Create(&rows).Error, "explicit tenants")
			require.ErrorIs(t, admin.Create(&Patient{Name: "c"}).Error, tenancy.ErrNoTenant)
			p := Patient{Name: "d"}
			require.NoError(t, admin.WithContext(as(globex)).Create(&p).Error, "the context's tenant")
			require.Equal(t, globex, p.TenantID)

			require.NoError(t, admin.Model(&p).Update("tenant_id", acme).Error, "to another tenant")
			require.NoError(t, admin.Model(&p).Update("tenant_id", gorm.Expr("lower(?)", globex)).Error)
			require.NoError(t, admin.First(&p, p.ID).Error)
			require.Equal(t, globex, p.TenantID)
			require.NoError(t, admin.Save(&p).Error)
			require.NoError(t, admin.Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error)
			require.NoError(t, admin.Where("id IN ?", []int64{p.ID, rows[0].ID, rows[1].ID}).Delete(&Patient{}).Error)

			readOnly := tenancy.Bypass(db, "test", tenancy.BypassReadOnly())
			for _, write := range []func(*gorm.DB) error{
				func(db *gorm.DB) error { return db.Create(&Patient{TenantID: acme}).Error },
				func(db *gorm.DB) error { return db.Exec("DELETE FROM patients").Error },
				func(db *gorm.DB) error {
					return db.Transaction(func(tx *gorm.DB) error { return tx.Exec("DELETE FROM patients").Error })
				},
				func(db *gorm.DB) error {
					return db.Transaction(func(tx *gorm.DB) error {
						return tenancy.Bypass(tx, "another reason").Exec("DELETE FROM patients").Error
					})
				},
			} {
				var pgErr *pgconn.PgError
				require.ErrorAs(t, write(readOnly), &pgErr)
				require.Equal(t, "25006", pgErr.Code) // read_only_sql_transaction
			}
			require.NoError(t, admin.Transaction(func(tx *gorm.DB) error {
				require.ErrorContains(t, tenancy.Bypass(tx, "a look", tenancy.BypassReadOnly()).First(&Patient{}).Error,
					"begin one with the read-only client")
				return tx.Exec("UPDATE patients SET name = name").Error
			}))
		})
	}
}

func TestBypassRefused(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	for name, c := range map[string]struct {
		client func() *gorm.DB
		err    error
	}{
		"no admin":      {func() *gorm.DB { return tenancy.Bypass(db, "test") }, tenancy.ErrNoAdminRole},
		"not installed": {func() *gorm.DB { return tenancy.Bypass(d.OwnerDB, "test") }, tenancy.ErrNotInstalled},
		"no reason":     {func() *gorm.DB { return tenancy.Bypass(d.Open(t, tenancy.Config{AdminRole: d.Admin.Role}), " ") }, nil},
		"tenant's transaction": {func() *gorm.DB {
			tx := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role}).WithContext(as(acme)).Begin()
			t.Cleanup(func() { tx.Rollback() })
			return tenancy.Bypass(tx, "test")
		}, tenancy.ErrInTransaction},
	} {
		t.Run(name, func(t *testing.T) {
			admin := c.client()
			require.Equal(t, !errors.Is(c.err, tenancy.ErrNotInstalled), admin.Error != nil)
			for way, read := range everything {
				_, err := read(admin)
				require.Error(t, err, way)
				if c.err != nil {
					require.ErrorIs(t, err, c.err, way)
				}
			}
			_, err := admin.DB()
			require.Error(t, err)
			require.Error(t, admin.Exec("SELECT 1").Error)
			require.Error(t, admin.Begin().Error)
		})
	}
}

// An admin role that can't be taken any more, and one that Initialize was told not to look at.
func TestBypassWithoutTheRole(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{AdminRole: d.Owner.Role, DangerouslyAllowUnsafeRole: true})
	err := tenancy.Bypass(db, "test").Find(&[]Patient{}).Error
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, "GRANT")
}

func TestBypassDoesNotEscape(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role}, testdb.PrepareStmt)
	admin := tenancy.Bypass(db, "test")

	// Its context lets no other client bypass.
	tx := admin.Find(&[]Patient{})
	require.NoError(t, tx.Error)
	require.ErrorIs(t, db.WithContext(tx.Statement.Context).Find(&[]Patient{}).Error, tenancy.ErrNoTenant)
	// Its pool serves its own methods only.
	pool, err := admin.DB()
	require.NoError(t, err)
	for _, ctx := range []context.Context{context.Background(), as(acme), tenancy.WithoutTenant(context.Background())} {
		require.ErrorIs(t, pool.QueryRowContext(ctx, "SELECT 1").Err(), tenancy.ErrNoTenant)
		require.ErrorIs(t, admin.Statement.ConnPool.QueryRowContext(ctx, "SELECT 1").Err(), tenancy.ErrNoTenant)
	}
	// A transaction of a tenant is none of its own.
	tenants := db.WithContext(as(acme)).Begin()
	defer tenants.Rollback()
	stolen := admin.Session(&gorm.Session{Context: context.Background()})
	stolen.Statement.ConnPool = tenants.Statement.ConnPool
	require.ErrorIs(t, stolen.Find(&[]Patient{}).Error, tenancy.ErrTenantMismatch)
}

// bypassRecord keeps what OnBypass and the log are told.
type bypassRecord struct {
	mu     sync.Mutex
	events []tenancy.BypassEvent
	log    bytes.Buffer
}

func (r *bypassRecord) config(t *testing.T, d database) tenancy.Config {
	return tenancy.Config{
		AdminRole: d.Admin.Role,
		Logger:    slog.New(slog.NewTextHandler(&r.log, nil)),
		OnBypass: func(_ context.Context, e tenancy.BypassEvent) {
			r.mu.Lock()
			defer r.mu.Unlock()
			require.Equal(t, e.Phase == tenancy.BypassEnd, e.Duration > 0)
			e.Duration = 0
			r.events = append(r.events, e)
		},
	}
}

// require compares with the ends of statements, each after its begin, whose IDs must all be different.
func (r *bypassRecord) require(t *testing.T, want ...tenancy.BypassEvent) {
	t.Helper()
	ids := map[string]bool{}
	var all []tenancy.BypassEvent
	for n, e := range want {
		require.Greater(t, len(r.events), 2*n)
		e.ID = r.events[2*n].ID
		require.NotEmpty(t, e.ID)
		require.False(t, ids[e.ID])
		ids[e.ID] = true
		begin := tenancy.BypassEvent{ID: e.ID, Reason: e.Reason, ReadOnly: e.ReadOnly, Table: e.Table}
		e.Phase = tenancy.BypassEnd
		all = append(all, begin, e)
	}
	require.Equal(t, all, r.events)
	r.events = nil
}

func TestBypassReportsBeginAndEnd(t *testing.T) {
	d := newDatabase(t)
	var r bypassRecord
	d.eachMode(t, r.config(t, d), func(t *testing.T, db *gorm.DB) {
		r.log.Reset()
		admin := tenancy.Bypass(db, "nightly", tenancy.BypassReadOnly())
		require.NoError(t, admin.Find(&[]Patient{}).Error)
		require.Error(t, admin.Raw("SELECT 'secret'::int").Scan(new(int)).Error)
		require.Error(t, admin.Exec("CALL secret()").Error)
		require.NoError(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, "not an event")
		r.require(t,
			tenancy.BypassEvent{Reason: "nightly", ReadOnly: true, Kind: "SELECT", Tags: []string{"SELECT 2"}, Table: "patients", Rows: 2},
			tenancy.BypassEvent{Reason: "nightly", ReadOnly: true, Failed: true, SQLState: "22P02"},
			tenancy.BypassEvent{Reason: "nightly", ReadOnly: true, Failed: true},
		)
		require.Equal(t, 6, bytes.Count(r.log.Bytes(), []byte("nightly")))
		require.Equal(t, 3, bytes.Count(r.log.Bytes(), []byte("phase=begin")))
		require.NotContains(t, r.log.String(), "secret")

		require.NoError(t, tenancy.Bypass(db, "clean").Exec("DELETE FROM countries; SELECT 1").Error)
		r.require(t, tenancy.BypassEvent{Reason: "clean", Kind: "DELETE; SELECT", Tags: []string{"DELETE 0", "SELECT 1"}, Rows: 1})

		// Rows that are read to their end, and those that are not.
		rows, err := admin.Model(&Patient{}).Rows()
		require.NoError(t, err)
		for rows.Next() {
			require.Len(t, r.events, 1, "the begin, before the outcome is known")
		}
		r.require(t, tenancy.BypassEvent{Reason: "nightly", ReadOnly: true, Kind: "SELECT", Tags: []string{"SELECT 2"}, Table: "patients", Rows: 2})
		require.NoError(t, rows.Close())
		require.Empty(t, r.events, "once")
		require.Panics(t, func() {
			rows, err = admin.Model(&Patient{}).Rows()
			require.NoError(t, err)
			require.True(t, rows.Next())
			panic("with the rows open")
		})
		require.Len(t, r.events, 1, "the begin stands")
		require.Equal(t, tenancy.BypassBegin, r.events[0].Phase)
		require.NoError(t, rows.Close())
		r.events = nil
	})
}

// A statement that cannot be put on record is not sent.
func TestBypassSendsNothingIfBeginPanics(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role, OnBypass: func(context.Context, tenancy.BypassEvent) { panic("full") }})
	var panicked *tenancy.PanicError
	require.ErrorAs(t, tenancy.Bypass(db, "test").Exec("DELETE FROM patients").Error, &panicked)
	require.ErrorAs(t, tenancy.Bypass(db, "test").Where("true").Delete(&Patient{}).Error, &panicked)
	require.ErrorAs(t, tenancy.Bypass(db, "test").Find(&[]Patient{}).Error, &panicked)
	var n int64
	require.NoError(t, db.WithContext(as(acme)).Model(&Patient{}).Count(&n).Error)
	require.EqualValues(t, 1, n)
}

// One pool serves all admin clients: each has a goroutine, and connections.
func TestBypassSharesOnePool(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role})
	first, err := tenancy.Bypass(db, "one").DB()
	require.NoError(t, err)
	second, err := tenancy.Bypass(db.Session(&gorm.Session{PrepareStmt: true}), "two").DB()
	require.NoError(t, err)
	require.Same(t, first, second)
	below, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	ofAdmin, err := tenancy.UnguardedPool(tenancy.Bypass(db, "three"))
	require.NoError(t, err)
	require.Same(t, below, ofAdmin)
}

func TestOpenDB(t *testing.T) {
	d := newDatabase(t)
	config, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	cfg := tenancy.Config{AdminRole: d.Admin.Role, Logger: testdb.Quiet}
	pool := tenancy.OpenDB(stdlib.GetConnector(*config), cfg)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	require.ErrorContains(t, db.Use(tenancy.New(tenancy.Config{Setting: "app.other"})), "guarded already")
	require.NoError(t, db.Use(tenancy.New(cfg)))
	same, err := db.DB()
	require.NoError(t, err)
	require.Same(t, pool, same, "not wrapped twice")
	var patients []Patient
	require.NoError(t, db.WithContext(as(acme)).Find(&patients).Error)
	require.Len(t, patients, 1)
	require.NoError(t, tenancy.Bypass(db, "test").Find(&patients).Error)
	require.Len(t, patients, 2, "the admin client borrows from the same pool")
}
