package plugin_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// libraries send statements as those do that know no context but context.Background().
var libraries = map[string]func(db *gorm.DB) (int64, error){
	"pool of a statement": func(db *gorm.DB) (n int64, err error) {
		err = db.Statement.ConnPool.QueryRowContext(context.Background(), "SELECT count(*) FROM patients").Scan(&n)
		return
	},
	"rows of that pool": func(db *gorm.DB) (n int64, err error) {
		rows, err := db.Statement.ConnPool.QueryContext(context.Background(), "SELECT name FROM patients")
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		for rows.Next() {
			n++
		}
		return n, rows.Err()
	},
	"exec": func(db *gorm.DB) (int64, error) {
		tx := db.Exec("UPDATE patients SET name = name")
		return tx.RowsAffected, tx.Error
	},
	"rows": func(db *gorm.DB) (n int64, err error) {
		rows, err := db.Model(&Patient{}).Rows()
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		for rows.Next() {
			n++
		}
		return n, rows.Err()
	},
	"new session": func(db *gorm.DB) (n int64, err error) {
		err = db.Session(&gorm.Session{NewDB: true, Context: context.Background()}).Model(&Patient{}).Count(&n).Error
		return
	},
	"begin": func(db *gorm.DB) (n int64, err error) {
		tx := db.Begin(&sql.TxOptions{Isolation: sql.LevelSerializable})
		if tx.Error != nil {
			return 0, tx.Error
		}
		err = tx.WithContext(context.Background()).Model(&Patient{}).Count(&n).Error
		return n, errors.Join(err, tx.Commit().Error)
	},
	"pool of a transaction": func(db *gorm.DB) (n int64, err error) {
		tx := db.Begin()
		if tx.Error != nil {
			return 0, tx.Error
		}
		err = tx.Statement.ConnPool.QueryRowContext(context.Background(), "SELECT count(*) FROM patients").Scan(&n)
		return n, errors.Join(err, tx.Rollback().Error)
	},
	"subquery": func(db *gorm.DB) (n int64, err error) {
		err = db.Table("patients").Where("id IN (?)", db.Model(&Patient{}).Select("id")).Count(&n).Error
		return
	},
	"association": func(db *gorm.DB) (int64, error) {
		var doctor Doctor
		if err := db.First(&doctor).Error; err != nil {
			return 0, err
		}
		association := db.Model(&doctor).Association("Patients")
		return association.Count(), association.Error
	},
	"transaction on a connection": func(db *gorm.DB) (n int64, err error) {
		err = db.Connection(func(conn *gorm.DB) error {
			return conn.Transaction(func(tx *gorm.DB) error { return tx.Model(&Patient{}).Count(&n).Error })
		})
		return
	},
	"prepared in a transaction": func(db *gorm.DB) (n int64, err error) {
		err = db.Transaction(func(tx *gorm.DB) error {
			return tx.Session(&gorm.Session{PrepareStmt: true}).Model(&Patient{}).Count(&n).Error
		})
		return
	},
}

// TestBindServesItsTenant: what a library sends under context.Background() is for the tenant that its client is bound to.
func TestBindServesItsTenant(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.Open(t, tenancy.Config{}).WithContext(as(globex)).Create(&Patient{Name: "another", DoctorID: ptr(int64(2))}).Error)
	for name, db := range map[string]*gorm.DB{
		"plain":                d.Open(t, tenancy.Config{}),
		"prepared":             d.Open(t, tenancy.Config{}, testdb.PrepareStmt),
		"dbresolver":           d.resolved(t, false),
		"dbresolver, prepared": d.resolved(t, true),
	} {
		for _, ways := range []map[string]func(*gorm.DB) (int64, error){everything, libraries} {
			for way, read := range ways {
				t.Run(name+"/"+way, func(t *testing.T) {
					for range 2 {
						for tenant, want := range map[string]int64{acme: 1, globex: 2} {
							bound := tenancy.DangerouslyBind(as(tenant), db)
							for _, client := range []*gorm.DB{bound, bound.WithContext(context.Background()), bound.WithContext(as(tenant))} {
								n, err := read(client)
								require.NoError(t, err)
								require.Equal(t, want, n)
							}
						}
						n, err := read(tenancy.DangerouslyBind(tenancy.WithoutTenant(t.Context()), db))
						if way == "association" {
							require.ErrorIs(t, err, gorm.ErrRecordNotFound)
						} else {
							require.NoError(t, err)
						}
						require.Zero(t, n)
						_, err = read(db)
						require.ErrorIs(t, err, tenancy.ErrNoTenant, "the client below is as it was")
					}
				})
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

// resolved has dbresolver, whose replica is the same database.
func (d database) resolved(t *testing.T, prepare bool) *gorm.DB {
	t.Helper()
	db := testdb.OpenPlain(t, d.App.DSN, testdb.Prepared(prepare))
	resolver := dbresolver.Register(dbresolver.Config{
		Sources: []gorm.Dialector{postgres.Open(d.App.DSN)}, Replicas: []gorm.Dialector{postgres.Open(d.App.DSN)},
	})
	require.NoError(t, db.Use(resolver))
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	t.Cleanup(func() {
		require.NoError(t, resolver.Call(func(pool gorm.ConnPool) error { return pool.(*sql.DB).Close() }))
	})
	return db
}

// TestBindWithResolver: also a transaction for which dbresolver chooses the pool belongs to the tenant from its beginning.
func TestBindWithResolver(t *testing.T) {
	d := newDatabase(t)
	for _, prepare := range []bool{false, true} {
		bound := tenancy.DangerouslyBind(as(acme), d.resolved(t, prepare))
		for range 2 {
			tx := bound.Clauses(dbresolver.Write).Begin()
			require.NoError(t, tx.Error)
			var n int64
			require.NoError(t, tx.Statement.ConnPool.QueryRowContext(t.Context(), "SELECT count(*) FROM patients").Scan(&n))
			require.EqualValues(t, 1, n)
			require.NoError(t, tx.Model(&Patient{}).Count(&n).Error)
			require.NoError(t, tx.Commit().Error)
			require.ErrorIs(t, bound.WithContext(as(globex)).Clauses(dbresolver.Write).Begin().Error, tenancy.ErrTenantMismatch)
		}
	}
}

func TestBindWrites(t *testing.T) {
	d := newDatabase(t)
	for name, opts := range map[string][]testdb.Option{
		"plain": nil, "prepared": {testdb.PrepareStmt}, "no default transaction": {testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = true })},
	} {
		t.Run(name, func(t *testing.T) {
			db := d.Open(t, tenancy.Config{}, opts...)
			bound := tenancy.DangerouslyBind(as(acme), db)
			doctor := Doctor{Name: "new", Patients: []Patient{{Name: "one"}, {Name: "two"}}}
			require.NoError(t, bound.Create(&doctor).Error)
			require.Equal(t, acme, doctor.TenantID)
			require.Equal(t, acme, doctor.Patients[1].TenantID)
			require.ErrorIs(t, bound.Create(&Patient{TenantID: globex, Name: "theirs"}).Error, tenancy.ErrTenantMismatch)

			tx := bound.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Patient{}).Update("name", "changed")
			require.NoError(t, tx.Error)
			require.EqualValues(t, 3, tx.RowsAffected)
			tx = bound.Exec("DELETE FROM patients WHERE doctor_id = ?", doctor.ID)
			require.NoError(t, tx.Error)
			require.EqualValues(t, 2, tx.RowsAffected)
			require.NoError(t, bound.Delete(&doctor).Error)
			var names []string
			require.NoError(t, db.WithContext(as(globex)).Model(&Patient{}).Pluck("name", &names).Error)
			require.Equal(t, []string{"globex's patient"}, names)
			require.NoError(t, bound.AutoMigrate(&Doctor{}, &Patient{}))
		})
	}
}

// TestBindTakesTheDecisionOnly: a bound client outlives the request that it was made in, and has none of its values.
func TestBindTakesTheDecisionOnly(t *testing.T) {
	d := newDatabase(t)
	type key struct{}
	ctx, cancel := context.WithTimeout(context.WithValue(as(acme), key{}, "value"), time.Hour)
	db := d.Open(t, tenancy.Config{})
	bound := tenancy.DangerouslyBind(ctx, db)
	cancel()
	require.Nil(t, bound.Statement.Context.Value(key{}))
	tx := bound.Find(&[]Patient{})
	require.NoError(t, tx.Error)
	require.EqualValues(t, 1, tx.RowsAffected)
	require.Nil(t, tx.Statement.Context.Value(key{}))
	_, has := tx.Statement.Context.Deadline()
	require.False(t, has)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, bound.WithContext(ended).Find(&[]Patient{}).Error, context.Canceled, "that of the statement counts")
}

// TestBoundClientCannotServeAnotherTenant: wherever it gets, also to the code of another tenant's request.
func TestBoundClientCannotServeAnotherTenant(t *testing.T) {
	d := newDatabase(t)
	for name, opts := range map[string][]testdb.Option{"plain": nil, "prepared": {testdb.PrepareStmt}} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			refusals := map[string]int{}
			db := d.Open(t, tenancy.Config{OnRefuse: func(_ context.Context, r tenancy.Refusal) {
				mu.Lock()
				defer mu.Unlock()
				refusals[r.Operation]++
			}}, opts...)
			bound := tenancy.DangerouslyBind(as(acme), db)
			for _, ctx := range []context.Context{as(globex), tenancy.WithoutTenant(t.Context())} {
				for _, ways := range []map[string]func(*gorm.DB) (int64, error){everything, libraries} {
					for way, read := range ways {
						if way == "generics" || way == "new session" || way == "pool of a statement" || way == "rows of that pool" {
							continue // their context is their own
						}
						n, err := read(bound.WithContext(ctx))
						require.ErrorIs(t, err, tenancy.ErrTenantMismatch, way)
						require.Zero(t, n, way)
					}
				}
				_, err := gorm.G[Patient](bound).Find(ctx)
				require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
				pool := bound.Statement.ConnPool
				require.ErrorIs(t, pool.QueryRowContext(ctx, "SELECT 1").Scan(new(int)), tenancy.ErrTenantMismatch)
				_, err = pool.ExecContext(ctx, "SELECT 1")
				require.ErrorIs(t, err, tenancy.ErrTenantMismatch)

				err = bound.Transaction(func(tx *gorm.DB) error { return tx.WithContext(ctx).Create(&Patient{Name: "theirs"}).Error })
				require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
				require.ErrorIs(t, tenancy.DangerouslyBind(ctx, bound).Find(&[]Patient{}).Error, tenancy.ErrTenantMismatch, "bound again")
			}
			for _, op := range []string{"query", "row", "raw", "begin", "bind", "create"} {
				require.Positive(t, refusals[op], op)
			}
			require.NoError(t, tenancy.DangerouslyBind(as(acme), bound).First(&Patient{}).Error)
			require.ErrorIs(t, bound.WithContext(as("")).First(&Patient{}).Error, tenancy.ErrNoTenant)

			none := tenancy.DangerouslyBind(tenancy.WithoutTenant(t.Context()), db)
			require.ErrorIs(t, none.WithContext(as(globex)).First(&Patient{}).Error, tenancy.ErrTenantMismatch)
			require.NoError(t, none.Find(&[]Country{}).Error)

			pool, err := bound.DB()
			require.NoError(t, err)
			_, err = pool.ExecContext(t.Context(), "SELECT 1")
			require.ErrorIs(t, err, tenancy.ErrNoTenant, "the pool below is bound to nothing")
		})
	}
}

// TestBindInTransaction: a transaction keeps its tenant.
func TestBindInTransaction(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	for _, prepare := range []bool{false, true} {
		session := func(tx *gorm.DB) *gorm.DB { return tx.Session(&gorm.Session{PrepareStmt: prepare}) }
		require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			bound := tenancy.DangerouslyBind(as(acme), session(tx))
			require.NoError(t, bound.WithContext(context.Background()).Create(&Patient{Name: "rolled back"}).Error)
			bound = tenancy.DangerouslyBind(as(globex), session(tx)).WithContext(context.Background())
			require.ErrorIs(t, bound.First(&Patient{}).Error, tenancy.ErrTenantMismatch)
			return nil
		}))
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error { // has no tenant yet
			require.NoError(t, tenancy.DangerouslyBind(as(acme), session(tx)).First(&Patient{}).Error)
			return tx.Delete(&Patient{}, "name = 'rolled back'").Error
		}))
	}
}

func TestBindWithoutDecision(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	for _, ctx := range []context.Context{context.Background(), as(""), as("a\x00b")} {
		bound := tenancy.DangerouslyBind(ctx, db)
		for _, ways := range []map[string]func(*gorm.DB) (int64, error){everything, libraries} {
			for way, read := range ways {
				_, err := read(bound)
				require.ErrorIs(t, err, tenancy.ErrNoTenant, way)
				_, err = read(bound.WithContext(as(acme)))
				require.ErrorIs(t, err, tenancy.ErrNoTenant, way)
			}
		}
	}
	require.ErrorIs(t, tenancy.DangerouslyBind(as(acme), d.OwnerDB).Find(&[]Patient{}).Error, tenancy.ErrNotInstalled)
}

func TestBindAndBypass(t *testing.T) {
	d := newDatabase(t)
	for _, cfg := range admins(t, d) {
		cfg.Logger = slog.New(slog.DiscardHandler)
		cfg.OnBypass = func(context.Context, tenancy.BypassEvent) {}
		db := d.Open(t, cfg)
		bypass := tenancy.DangerouslyBind(as(acme), tenancy.Bypass(db, "test"))
		require.ErrorContains(t, bypass.Find(&[]Patient{}).Error, "a client of Bypass cannot be bound")
		require.ErrorContains(t, bypass.Begin().Error, "a client of Bypass cannot be bound")

		bound := tenancy.DangerouslyBind(as(acme), db)
		for way, read := range everything {
			n, err := read(tenancy.Bypass(bound, "test"))
			require.NoError(t, err, way)
			require.EqualValues(t, 2, n, way)
			n, err = read(bound)
			require.NoError(t, err, way)
			require.EqualValues(t, 1, n, way)
		}
		require.ErrorIs(t, tenancy.Bypass(bound, "test").Create(&Patient{Name: "whose?"}).Error, tenancy.ErrNoTenant)
		err := bound.Transaction(func(tx *gorm.DB) error { return tenancy.Bypass(tx, "test").Find(&[]Patient{}).Error })
		require.ErrorIs(t, err, tenancy.ErrInTransaction)
	}
}

// TestBindThenInitialize: GORM keeps a store of prepared statements for all clients, and may make it for a bound one.
func TestBindThenInitialize(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	prepared := &gorm.Session{PrepareStmt: true}
	bound := tenancy.DangerouslyBind(as(acme), db).Session(prepared)
	require.NoError(t, bound.First(&Patient{}).Error)
	require.NoError(t, db.Plugins["tenancy"].Initialize(db))

	require.ErrorIs(t, db.Session(prepared).First(&Patient{}).Error, tenancy.ErrNoTenant)
	for way, read := range everything {
		if way == "generics" {
			continue // its context is its own
		}
		_, err := read(db.Session(prepared))
		require.ErrorIs(t, err, tenancy.ErrNoTenant, way)
		n, err := read(db.Session(prepared).WithContext(as(globex)))
		require.NoError(t, err, way)
		require.EqualValues(t, 1, n, way)
	}
	var patients []Patient
	require.NoError(t, db.WithContext(as(globex)).Transaction(func(tx *gorm.DB) error {
		return tx.Session(prepared).Find(&patients).Error
	}))
	require.Len(t, patients, 1)
	require.Equal(t, globex, patients[0].TenantID)
}

// TestBindConcurrently: clients of two tenants and the client below, on few connections.
func TestBindConcurrently(t *testing.T) {
	d := newDatabase(t)
	for _, prepare := range []bool{false, true} {
		db := d.Open(t, tenancy.Config{}, testdb.Prepared(prepare))
		pool, err := db.DB()
		require.NoError(t, err)
		pool.SetMaxOpenConns(4)
		clients := map[string]*gorm.DB{}
		for _, tenant := range []string{acme, globex} {
			clients[tenant] = tenancy.DangerouslyBind(as(tenant), db)
		}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				tenant := []string{acme, globex}[i%2]
				for j := range 30 {
					client := clients[tenant]
					if j%3 == 2 {
						client = db.WithContext(as(tenant))
					}
					var patients []Patient
					err := client.Transaction(func(tx *gorm.DB) error { return tx.Find(&patients).Error })
					if j%2 == 0 {
						err = client.Find(&patients).Error
					}
					if err != nil || len(patients) != 1 || patients[0].TenantID != tenant {
						t.Errorf("%s: %v %v", tenant, patients, err)
					}
					if err := db.Find(&patients).Error; !errors.Is(err, tenancy.ErrNoTenant) {
						t.Errorf("below: %v", err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// hookedPatient forgets the context of its statement.
type hookedPatient struct{ Patient }

func (hookedPatient) TableName() string { return "patients" }

func (*hookedPatient) BeforeCreate(tx *gorm.DB) error {
	var n int64
	if err := tx.WithContext(context.Background()).Model(&Patient{}).Count(&n).Error; err != nil || n != 1 {
		return errors.Join(err, errors.New("the hook sees other rows"))
	}
	return tx.Session(&gorm.Session{NewDB: true, Logger: logger.Discard}).First(&Doctor{}).Error
}

func TestBindInHook(t *testing.T) {
	d := newDatabase(t)
	for _, skip := range []bool{false, true} {
		db := d.Open(t, tenancy.Config{}, testdb.GORM(func(c *gorm.Config) { c.SkipDefaultTransaction = skip }))
		bound := tenancy.DangerouslyBind(as(acme), db)
		p := hookedPatient{Patient{Name: "hooked"}}
		require.NoError(t, bound.Create(&p).Error)
		require.Equal(t, acme, p.TenantID)
		require.NoError(t, bound.Delete(&p).Error)
	}
}
