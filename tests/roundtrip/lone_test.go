package roundtrip

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/optimisticlock"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Models of statements that may be the only one of GORM's default transaction.
type (
	// Slot has a constraint that fails at commit, and triggers: see slotsSQL.
	Slot struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Number   int64
	}

	// Ward has every kind of association.
	Ward struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Name     string
		DoctorID *int64
		Doctor   *Doctor
		Head     Head
		Beds     []Bed
		Nurses   []*Nurse `gorm:"many2many:ward_nurses"`
	}
	Head struct {
		ID       int64
		TenantID string `gorm:"not null"`
		WardID   int64
	}
	Bed struct {
		ID       int64
		TenantID string `gorm:"not null"`
		WardID   int64
	}
	Nurse struct {
		ID       int64
		TenantID string `gorm:"not null"`
	}
	// WardNurse is the join table, by SetupJoinTable.
	WardNurse struct {
		TenantID string `gorm:"not null;primaryKey"`
		WardID   int64  `gorm:"primaryKey"`
		NurseID  int64  `gorm:"primaryKey"`
	}

	// Soft is deleted by an UPDATE.
	Soft struct {
		gorm.Model
		TenantID string `gorm:"not null"`
		Name     string
	}

	// Versioned is updated where its version is still the same.
	Versioned struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Name     string
		Version  optimisticlock.Version
	}

	// Before and After have hooks, which send nothing.
	Before struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Name     string
	}
	After struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Name     string
	}

	// Scanned, Serialized and Small have a column that PostgreSQL returns, and that cannot always be read.
	Scanned struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Code     code   `gorm:"type:text;default:lower('WRONG')"`
	}
	Serialized struct {
		ID       int64
		TenantID string         `gorm:"not null"`
		Code     map[string]int `gorm:"type:text;serializer:json;default:lower('WRONG')"`
	}
	Small struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Code     int8   `gorm:"type:integer;default:abs(1000)"`
	}
	// Given has such a column, too, but the client says what it holds.
	Given struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Code     code   `gorm:"type:text"`
	}
)

var loneModels = []any{
	&Slot{}, &Head{}, &Bed{}, &Nurse{}, &Ward{}, &WardNurse{}, &Soft{}, &Versioned{}, &Before{}, &After{}, &Scanned{}, &Serialized{},
	&Small{}, &Given{},
}

const slotsSQL = `
	ALTER TABLE slots ADD CONSTRAINT one_number UNIQUE (tenant_id, number) DEFERRABLE INITIALLY DEFERRED;
	CREATE FUNCTION check_slot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.number < 0 THEN
			RAISE 'negative' USING ERRCODE = 'TN001';
		END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION note_slot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO beds (tenant_id, ward_id) VALUES (NEW.tenant_id, 1000);
		RETURN NULL;
	END $$;
	CREATE TRIGGER check_slot BEFORE INSERT OR UPDATE ON slots FOR EACH ROW EXECUTE FUNCTION check_slot();
	CREATE TRIGGER note_slot AFTER INSERT ON slots FOR EACH ROW EXECUTE FUNCTION note_slot()`

func (*Before) BeforeSave(*gorm.DB) error   { return nil }
func (*Before) BeforeDelete(*gorm.DB) error { return nil }
func (*After) AfterSave(*gorm.DB) error     { return nil }
func (*After) AfterDelete(*gorm.DB) error   { return nil }

// code can be read unless it is wrong.
type code string

var errWrong = errors.New("wrong code")

func (c *code) Scan(v any) error {
	if v == "wrong" {
		return errWrong
	}
	*c = code(fmt.Sprint(v))
	return nil
}

func (c code) Value() (driver.Value, error) { return string(c), nil }

const oldWard = 1000 // that is there

func named(i int64) Doctor { return Doctor{ID: i, TenantID: tenant, Name: "Ann"} }

// lone is the table of statements in GORM's default transaction: how many are sent, and whether BEGIN and COMMIT are.
var lone = []struct {
	name       string
	do         operation
	statements int
	begin      bool
}{
	{"Create", create, 1, false},
	{"Create, slice", func(db *gorm.DB) error {
		return rows(db.Create(&[]Patient{{TenantID: tenant, DoctorID: 1}, {TenantID: tenant, DoctorID: 1}}), 2)
	}, 1, false},
	{"Create, slice by value", func(db *gorm.DB) error {
		return rows(db.Create([]*Patient{{TenantID: tenant, DoctorID: 1}, {TenantID: tenant, DoctorID: 1}}), 2)
	}, 1, false},
	{"Create, map", func(db *gorm.DB) error {
		return rows(db.Model(&Patient{}).Create(map[string]any{"tenant_id": tenant, "name": "New", "doctor_id": 1}), 1)
	}, 1, false},
	{"Create, custom type that is given", func(db *gorm.DB) error {
		return rows(db.Create(&Given{TenantID: tenant, Code: "x"}), 1)
	}, 1, false},
	{"CreateInBatches, one", func(db *gorm.DB) error {
		return rows(db.CreateInBatches([]Patient{{TenantID: tenant, DoctorID: 1}}, 10), 1)
	}, 1, false},
	{"Upsert, do nothing", func(db *gorm.DB) error {
		return rows(db.Clauses(clause.OnConflict{DoNothing: true}).Create(&Patient{ID: 1, TenantID: tenant}), 0)
	}, 1, false},
	{"Upsert, update all", func(db *gorm.DB) error {
		return rows(db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Patient{ID: 1, TenantID: tenant, Name: "Eve", DoctorID: 1}), 1)
	}, 1, false},
	{"Update", update, 1, false},
	{"Updates, map", func(db *gorm.DB) error {
		return rows(db.Model(&Patient{ID: 1}).Updates(map[string]any{"name": "Eve"}), 1)
	}, 1, false},
	{"Updates, struct", func(db *gorm.DB) error {
		return rows(db.Model(&Patient{ID: 1}).Updates(Patient{Name: "Eve"}), 1)
	}, 1, false},
	{"Updates, returning", func(db *gorm.DB) error {
		return rows(db.Model(&Patient{ID: 1}).Clauses(clause.Returning{}).Updates(Patient{Name: "Eve"}), 1)
	}, 1, false},
	{"UpdateColumn", func(db *gorm.DB) error {
		return rows(db.Model(&Patient{ID: 1}).UpdateColumn("name", "Eve"), 1)
	}, 1, false},
	{"Save", func(db *gorm.DB) error {
		return rows(db.Save(&Patient{ID: 1, TenantID: tenant, Name: "Eve", DoctorID: 1}), 1)
	}, 1, false},
	{"Delete", deleteOne, 1, false},
	{"Delete, with Select of none", func(db *gorm.DB) error {
		return rows(db.Select("Name").Where("id = ?", -1).Delete(&Ward{}), 0)
	}, 1, false},
	{"Soft delete", func(db *gorm.DB) error {
		return rows(db.Where("name = ?", "none").Delete(&Soft{}), 0)
	}, 1, false},
	{"Soft delete, unscoped", func(db *gorm.DB) error {
		return rows(db.Unscoped().Where("name = ?", "none").Delete(&Soft{}), 0)
	}, 1, false},
	{"gorm.Model", func(db *gorm.DB) error { return rows(db.Create(&Soft{TenantID: tenant}), 1) }, 1, false},
	{"Optimistic lock", func(db *gorm.DB) error {
		return rows(db.Model(&Versioned{ID: -1}).Update("name", "Eve"), 0)
	}, 1, false},
	{"Associations without values", func(db *gorm.DB) error {
		return rows(db.Create(&Ward{TenantID: tenant, Beds: []Bed{}, Nurses: []*Nurse{}}), 1)
	}, 1, false},
	{"Associations, omitted", func(db *gorm.DB) error {
		d := named(1)
		return rows(db.Omit(clause.Associations).Create(&Ward{
			TenantID: tenant, Doctor: &d, Head: Head{TenantID: tenant}, Beds: []Bed{{}}, Nurses: []*Nurse{{}},
		}), 1)
	}, 1, false},
	{"Associations, not selected", func(db *gorm.DB) error {
		return rows(db.Select("TenantID", "Name").Create(&Ward{TenantID: tenant, Beds: []Bed{{}}}), 1)
	}, 1, false},
	{"Hooks, skipped", func(db *gorm.DB) error {
		db = db.Session(&gorm.Session{SkipHooks: true})
		return errors.Join(rows(db.Create(&Before{TenantID: tenant}), 1), rows(db.Create(&After{TenantID: tenant}), 1))
	}, 2, false},
	{"Condition with a subquery", func(db *gorm.DB) error {
		sub := db.Session(&gorm.Session{NewDB: true}).Model(&Doctor{}).Select("id").Where("name = ?", "none")
		return rows(db.Where("doctor_id IN (?)", sub).Delete(&Patient{}), 0)
	}, 1, false},
	{"Two with one chain", func(db *gorm.DB) error {
		db = db.Where("name = ?", "none")
		return errors.Join(rows(db.Delete(&Patient{}), 0), rows(db.Delete(&Patient{}), 0))
	}, 2, false},
	{"Connection", func(db *gorm.DB) error { return db.Connection(create) }, 1, false},

	{"Hook before Create", func(db *gorm.DB) error { return rows(db.Create(&Before{TenantID: tenant}), 1) }, 1, true},
	{"Hook after Create", func(db *gorm.DB) error { return rows(db.Create(&After{TenantID: tenant}), 1) }, 1, true},
	{"Hook before Update", func(db *gorm.DB) error {
		return rows(db.Model(&Before{ID: -1}).Update("name", "Eve"), 0)
	}, 1, true},
	{"Hook after Update", func(db *gorm.DB) error {
		return rows(db.Model(&After{ID: -1}).Update("name", "Eve"), 0)
	}, 1, true},
	{"Hook before Delete", func(db *gorm.DB) error { return rows(db.Delete(&Before{ID: -1}), 0) }, 1, true},
	{"Hook after Delete", func(db *gorm.DB) error { return rows(db.Delete(&After{ID: -1}), 0) }, 1, true},
	{"Belongs to", func(db *gorm.DB) error {
		d := named(1)
		return rows(db.Create(&Ward{TenantID: tenant, Doctor: &d}), 1)
	}, 2, true},
	{"Has one", func(db *gorm.DB) error {
		return rows(db.Create(&Ward{TenantID: tenant, Head: Head{TenantID: tenant}}), 1)
	}, 2, true},
	{"Has many", func(db *gorm.DB) error {
		return rows(db.Create(&[]Ward{{TenantID: tenant}, {TenantID: tenant, Beds: []Bed{{TenantID: tenant}}}}), 2)
	}, 2, true},
	{"Has many, selected", func(db *gorm.DB) error {
		return rows(db.Select("TenantID", "Beds").Create(&Ward{TenantID: tenant, Beds: []Bed{{TenantID: tenant}}}), 1)
	}, 2, true},
	{"Many to many", func(db *gorm.DB) error {
		return rows(db.Create(&Ward{TenantID: tenant, Nurses: []*Nurse{{TenantID: tenant}}}), 1)
	}, 3, true},
	{"Has many, of an update", func(db *gorm.DB) error {
		return rows(db.Select("Name", "Beds").Updates(&Ward{ID: oldWard, Name: "Eve", Beds: []Bed{{TenantID: tenant}}}), 1)
	}, 2, true},
	{"Delete with Select", func(db *gorm.DB) error { return rows(db.Select("Beds").Delete(&Ward{ID: -1}), 0) }, 2, true},
	{"Returning into a small number", func(db *gorm.DB) error {
		return rows(db.Create(&Small{TenantID: tenant, Code: 1}), 1)
	}, 1, true},
	{"Returning into a custom type", func(db *gorm.DB) error {
		return rows(db.Create(&Scanned{TenantID: tenant, Code: "x"}), 1)
	}, 1, true},
	{"Returning by a serializer", func(db *gorm.DB) error {
		return rows(db.Create(&Serialized{TenantID: tenant, Code: map[string]int{"x": 1}}), 1)
	}, 1, true},
	{"Returning all into a custom type", func(db *gorm.DB) error {
		return rows(db.Clauses(clause.Returning{}).Create(&Given{TenantID: tenant, Code: "x"}), 1)
	}, 1, true},
	{"Returning an expression", func(db *gorm.DB) error {
		return rows(db.Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "1 / 1", Raw: true}}}).
			Create(&Patient{TenantID: tenant, DoctorID: 1}), 1)
	}, 1, true},
	{"Transaction", func(db *gorm.DB) error { return db.Transaction(create) }, 1, true},
	{"Transaction under a statement's context", func(db *gorm.DB) error {
		return db.Transaction(func(tx *gorm.DB) error { return errors.Join(create(tx), create(tx)) })
	}, 2, true},
	{"Condition with a function", func(db *gorm.DB) error {
		return rows(db.Where("txid_current() = ?", 0).Delete(&Patient{}), 0)
	}, 1, true},
	{"Condition that sends a statement", func(db *gorm.DB) error {
		return rows(db.Where("name = ?", asking{}).Delete(&Patient{}), 0)
	}, 2, true},
}

// asking is a value that GORM asks the database for.
type asking struct{}

func (asking) GormValue(_ context.Context, db *gorm.DB) clause.Expr {
	var d Doctor
	if err := db.Session(&gorm.Session{NewDB: true}).First(&d).Error; err != nil {
		_ = db.AddError(err)
	}
	return clause.Expr{SQL: "?", Vars: []any{"none"}}
}

// statementsOf is how many round trips one warm statement takes in a mode.
func statementsOf(mode pgx.QueryExecMode) int {
	if mode == pgx.QueryExecModeDescribeExec {
		return 2
	}
	return 1
}

func newLoneDatabase(t testing.TB) *database {
	t.Helper()
	return withSlots(t, newDatabase(t))
}

func withSlots(t testing.TB, d *database) *database {
	t.Helper()
	for stmt := range strings.SplitSeq(slotsSQL, ";\n\tCREATE") {
		if !strings.HasPrefix(strings.TrimSpace(stmt), "ALTER") {
			stmt = "CREATE" + stmt
		}
		d.AsOwner(t, stmt)
	}
	require.NoError(t, d.AdminDB.Create(&Ward{ID: oldWard, TenantID: tenant}).Error)
	return d
}

// TestLoneStatementIsOneFlight counts what GORM's default transaction costs where nothing can stand between its begin and its
// commit, and where something may.
func TestLoneStatementIsOneFlight(t *testing.T) {
	loneIsOneFlight(t, newLoneDatabase(t))
}

func loneIsOneFlight(t *testing.T, d *database) {
	for _, m := range modes {
		if d.Signed() && m.mode == pgx.QueryExecModeSimpleProtocol {
			continue
		}
		for _, c := range guarded {
			t.Run(testdb.ModeName(m.mode)+"/"+c.name, func(t *testing.T) {
				db := c.open(t, d, m.mode, begin)
				require.NoError(t, db.SetupJoinTable(&Ward{}, "Nurses", &WardNurse{}))
				db = db.WithContext(forTenant())
				for _, tt := range lone {
					t.Run(tt.name, func(t *testing.T) {
						want := tt.statements * statementsOf(m.mode)
						if tt.begin {
							want++
						}
						require.NoError(t, tt.do(db), "the first time, which is not warm")
						for range 2 {
							require.Equal(t, want, d.counted(t, func() error { return tt.do(db) }))
						}
					})
				}
			})
		}
	}
}

// foreign are the ways in which a callback of another plugin comes in: what stands between begin and commit, and what does not.
// GORM puts a callback that is to come after another one behind all that are there.
var foreign = []struct {
	name     string
	register func(db *gorm.DB, fn func(*gorm.DB)) error
	between  bool
}{
	{"before the statement", func(db *gorm.DB, fn func(*gorm.DB)) error {
		return db.Callback().Create().Before("gorm:create").Register("foreign", fn)
	}, true},
	{"before the commit", func(db *gorm.DB, fn func(*gorm.DB)) error {
		return db.Callback().Create().Before("gorm:commit_or_rollback_transaction").Register("foreign", fn)
	}, true},
	{"in place of another", func(db *gorm.DB, fn func(*gorm.DB)) error {
		old := db.Callback().Create().Get("gorm:after_create")
		return db.Callback().Create().Replace("gorm:after_create", func(db *gorm.DB) { old(db); fn(db) })
	}, true},
	{"in place of the statement", func(db *gorm.DB, fn func(*gorm.DB)) error {
		old := db.Callback().Create().Get("gorm:create")
		return db.Callback().Create().Replace("gorm:create", func(db *gorm.DB) { old(db); fn(db) })
	}, true},
	{"in place of the begin", func(db *gorm.DB, fn func(*gorm.DB)) error {
		old := db.Callback().Create().Get("gorm:begin_transaction")
		return db.Callback().Create().Replace("gorm:begin_transaction", func(db *gorm.DB) { old(db); fn(db) })
	}, true},
	{"before all", func(db *gorm.DB, fn func(*gorm.DB)) error {
		return db.Callback().Create().Before("*").Register("foreign", fn)
	}, false},
	{"after the statement", func(db *gorm.DB, fn func(*gorm.DB)) error {
		return db.Callback().Create().After("gorm:create").Register("foreign", fn)
	}, false},
	{"after all", func(db *gorm.DB, fn func(*gorm.DB)) error {
		return db.Callback().Create().After("*").Register("foreign", fn)
	}, false},
}

// install installs the plugin on a client of one connection, and does something before, and after it.
func (d *database) install(t testing.TB, mode pgx.QueryExecMode, before, after func(*gorm.DB) error) *gorm.DB {
	t.Helper()
	db := testdb.OpenPlain(t, "", testdb.Pool(d.pool(t, d.App.DSN, mode)), testdb.GORM(begin.gorm))
	require.NoError(t, before(db))
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	require.NoError(t, after(db))
	return db.WithContext(forTenant())
}

// TestForeignCallbackKeepsTransaction: what another plugin does between begin and commit belongs to the transaction, whichever
// was installed first; and its error undoes the statement.
func TestForeignCallbackKeepsTransaction(t *testing.T) {
	d := newLoneDatabase(t)
	none := func(*gorm.DB) error { return nil }
	for _, f := range foreign {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first %v", f.name, first), func(t *testing.T) {
				var fail error
				before, after := func(db *gorm.DB) error {
					return f.register(db, func(db *gorm.DB) { _ = db.AddError(fail) })
				}, none
				if !first {
					before, after = after, before
				}
				db := d.install(t, pgx.QueryExecModeCacheStatement, before, after)
				want := 1
				if f.between {
					want = 2
				}
				require.NoError(t, create(db))
				require.Equal(t, want, d.counted(t, func() error { return create(db) }))
				require.NoError(t, update(db))
				require.Equal(t, 1, d.counted(t, func() error { return update(db) }), "an update has no such callback")
				if !f.between {
					return
				}
				fail = errors.New("foreign")
				p := Patient{TenantID: tenant, Name: "foreign", DoctorID: 1}
				require.ErrorIs(t, db.Create(&p).Error, fail)
				fail = nil
				var n int64
				require.NoError(t, db.Model(&Patient{}).Where("name = ?", "foreign").Count(&n).Error)
				require.Zero(t, n)
			})
		}
	}
	t.Run("added and removed while in use", func(t *testing.T) {
		db := d.install(t, pgx.QueryExecModeCacheStatement, none, none)
		trips := func() int {
			require.NoError(t, create(db))
			return d.counted(t, func() error { return create(db) })
		}
		require.Equal(t, 1, trips())
		require.NoError(t, foreign[0].register(db, func(*gorm.DB) {}))
		require.Equal(t, 2, trips())
		require.NoError(t, db.Callback().Create().Remove("foreign"))
		require.Equal(t, 1, trips())
	})
}

// outcomes are statements whose result or error must be that of plain GORM, and what they leave in the table.
var outcomes = []struct {
	name string
	do   func(db *gorm.DB, cancel context.CancelFunc) *gorm.DB
	err  string // SQLSTATE, or a part of the text
}{
	{"created, with what its trigger does", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&Slot{TenantID: tenant, Number: 1})
	}, ""},
	{"updated", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Model(&Slot{ID: -1}).Update("number", 100)
	}, ""},
	{"deleted", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB { return db.Delete(&Slot{ID: -2}) }, ""},
	{"fails at commit", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&Slot{TenantID: tenant, Number: 3})
	}, "23505"},
	{"fails at commit, without rows", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Model(&Slot{ID: -4}).Update("number", 3)
	}, "23505"},
	{"fails in a trigger", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&[]Slot{{TenantID: tenant, Number: 50}, {TenantID: tenant, Number: -1}})
	}, "TN001"},
	{"fails in a trigger, without rows", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Model(&Slot{}).Where("id < 0").Update("number", gorm.Expr("-number"))
	}, "TN001"},
	{"fails by its key", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&Slot{ID: -1, TenantID: tenant, Number: 51})
	}, "23505"},
	{"no condition", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB { return db.Delete(&Slot{}) }, gorm.ErrMissingWhereClause.Error()},
	{"context cancelled before", func(db *gorm.DB, cancel context.CancelFunc) *gorm.DB {
		cancel()
		return db.Create(&Slot{TenantID: tenant, Number: 52})
	}, context.Canceled.Error()},
	{"cannot be read: custom type", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&Scanned{TenantID: tenant})
	}, errWrong.Error()},
	{"cannot be read: serializer", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&Serialized{TenantID: tenant})
	}, "invalid character"},
	{"cannot be read: small number", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Create(&Small{TenantID: tenant})
	}, "value out of range"},
	{"cannot be read: custom type of an update", func(db *gorm.DB, _ context.CancelFunc) *gorm.DB {
		return db.Model(&Given{ID: 1}).Clauses(clause.Returning{}).Update("code", "wrong")
	}, errWrong.Error()},
}

// TestLoneStatementEndsAsInPlainGORM compares errors, results, and what is in the tables afterwards.
func TestLoneStatementEndsAsInPlainGORM(t *testing.T) {
	d := newLoneDatabase(t)
	admin := d.AdminDB
	reset := func() {
		require.NoError(t, admin.Exec(`DELETE FROM slots; DELETE FROM beds; DELETE FROM scanneds; DELETE FROM serializeds;
			DELETE FROM smalls; DELETE FROM givens;
			INSERT INTO slots (id, tenant_id, number) SELECT -n, 'acme', n + 1 FROM generate_series(1, 5) n;
			INSERT INTO givens (id, tenant_id, code) VALUES (1, 'acme', 'x')`).Error)
	}
	tables := func() (all []string) {
		require.NoError(t, admin.Raw(`SELECT concat_ws(' ', 'slot', tenant_id, number) FROM slots UNION ALL
			SELECT concat_ws(' ', 'bed', tenant_id, ward_id) FROM beds UNION ALL
			SELECT concat_ws(' ', 'code', code) FROM scanneds UNION ALL SELECT concat_ws(' ', 'code', code) FROM serializeds UNION ALL
			SELECT concat_ws(' ', 'code', code) FROM smalls UNION ALL SELECT concat_ws(' ', 'code', code) FROM givens
			ORDER BY 1`).Scan(&all).Error)
		return all
	}
	for _, m := range modes {
		for _, tt := range outcomes {
			t.Run(testdb.ModeName(m.mode)+"/"+tt.name, func(t *testing.T) {
				var want []string
				for _, c := range append([]opener{plain}, guarded...) {
					reset()
					ctx, cancel := context.WithCancel(forTenant())
					tx := tt.do(c.open(t, d, m.mode, begin).WithContext(ctx), cancel)
					cancel()
					if tt.err == "" {
						require.NoError(t, tx.Error, c.name)
					} else {
						var pgErr *pgconn.PgError
						if errors.As(tx.Error, &pgErr) {
							require.Equal(t, tt.err, pgErr.Code, c.name)
						}
						require.ErrorContains(t, tx.Error, tt.err, c.name)
					}
					got := tables()
					if tx.Error == nil { // of what failed at commit, plain GORM says how many rows it would have been
						got = append(got, fmt.Sprint(tx.RowsAffected))
					}
					if want == nil {
						want = got
					}
					require.Equal(t, want, got, c.name)
				}
			})
		}
	}
}

// ending ends a context when a statement has ended, before the client goes on.
type ending struct {
	sql    string
	cancel context.CancelFunc
}

type sentKey struct{}

func (*ending) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, sentKey{}, data.SQL)
}

func (e *ending) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(sentKey{}).(string); strings.HasPrefix(sql, e.sql) {
		e.cancel()
	}
}

// TestLoneStatementIsKeptWithoutError: a context that ends after PostgreSQL has committed does not fail the statement.
func TestLoneStatementIsKeptWithoutError(t *testing.T) {
	d := newLoneDatabase(t)
	for _, m := range modes {
		t.Run(testdb.ModeName(m.mode), func(t *testing.T) {
			cfg, quiet := d.connector(t, d.App.DSN, m.mode)
			e := &ending{sql: "UPDATE"}
			cfg.Tracer = e
			pool := stdlib.OpenDB(*cfg, quiet)
			t.Cleanup(func() { require.NoError(t, pool.Close()) })
			db := d.Open(t, tenancy.Config{}, testdb.Pool(pool), testdb.GORM(begin.gorm))

			name := testdb.ModeName(m.mode)
			for range 3 {
				ctx, cancel := context.WithCancel(forTenant())
				e.cancel = cancel
				require.NoError(t, rows(db.WithContext(ctx).Model(&Patient{ID: 1}).Update("name", name), 1))
				require.Error(t, ctx.Err())
			}
			var p Patient
			require.NoError(t, db.WithContext(forTenant()).First(&p, 1).Error)
			require.Equal(t, name, p.Name)
		})
	}
}
