package plugin_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// record keeps what GORM logs, each record on one line.
type record struct{ bytes.Buffer }

func (r *record) Printf(format string, args ...any) {
	fmt.Fprintln(r, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

// What the guard refuses below the callbacks is a refusal of the statement that GORM knows, and is seen once.
func TestRefusalOfGuardIsSeen(t *testing.T) {
	d := newDatabase(t)
	for name, c := range map[string]struct {
		statement func(tx *gorm.DB) error
		text      string
	}{
		"another tenant": {
			func(tx *gorm.DB) error {
				return tx.WithContext(as(globex)).Find(&[]Patient{}, "name = ?", "secret").Error
			},
			"(query on patients)",
		},
		"another tenant's raw SQL": {
			func(tx *gorm.DB) error { return tx.WithContext(as(globex)).Exec("SELECT ?", "secret").Error }, "(raw)",
		},
		"no tenant, in a hook": {
			func(tx *gorm.DB) error {
				pool := tx.Session(&gorm.Session{NewDB: true})
				return pool.Create(&asking{Name: "secret"}).Error
			}, "(create on countries)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var (
				refusals []tenancy.Refusal
				log      record
			)
			db := d.Open(t, tenancy.Config{
				OnRefuse: func(_ context.Context, r tenancy.Refusal) { refusals = append(refusals, r) },
			})
			db.Logger = logger.New(&log, logger.Config{LogLevel: logger.Error})
			err := db.WithContext(as(acme)).Transaction(c.statement)
			var refused *tenancy.Error
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, c.text)
			require.Len(t, refusals, 1)
			require.Equal(t, refused.Op, refusals[0].Operation)
			require.Equal(t, refused.Table, refusals[0].Table)
			require.Regexp(t, `/tests/plugin/onrefuse_test\.go:\d+$`, refusals[0].Caller)
			require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
			require.True(t, strings.HasPrefix(log.String(), refusals[0].Caller+" "), log.String())
			require.Contains(t, log.String(), c.text)
			require.NotContains(t, log.String(), "secret")
			require.NotContains(t, log.String(), globex)
		})
	}
}

// asking is a country whose hook uses another tenant's context below GORM.
type asking struct {
	ID   int64
	Name string
}

func (asking) TableName() string { return "countries" }

func (*asking) BeforeCreate(tx *gorm.DB) error {
	_, err := tx.Statement.ConnPool.ExecContext(as(globex), "SELECT 1")
	return err
}

// A panic of OnRefuse must not end GORM's default transaction without a rollback.
func TestPanicInOnRefuseCostsNoConnection(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{OnRefuse: func(context.Context, tenancy.Refusal) { panic("secret") }})
	err := db.WithContext(as(acme)).Create(&Doctor{Name: "a", Patients: []Patient{{TenantID: globex}}}).Error
	require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
	require.ErrorAs(t, err, new(*tenancy.PanicError))
	for _, pool := range []func(*gorm.DB) int{inUse, inUseBelow} {
		require.Zero(t, pool(db))
	}
	var doctors []Doctor
	require.NoError(t, db.WithContext(as(acme)).Find(&doctors, "name = ?", "a").Error)
	require.Empty(t, doctors, "rolled back")
}

func inUse(db *gorm.DB) int {
	pool, err := db.DB()
	if err != nil {
		return -1
	}
	return pool.Stats().InUse
}

func inUseBelow(db *gorm.DB) int {
	pool, err := tenancy.UnguardedPool(db)
	if err != nil {
		return -1
	}
	return pool.Stats().InUse
}

// The first statement of a transaction brings what is wrong with its BEGIN.
func TestRefusedFirstStatementNamesItself(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{AppRole: d.Owner.Role, DangerouslyAllowUnsafeRole: true})
	err := db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Country{}).Error })
	require.ErrorIs(t, err, tenancy.ErrSetRole)
	var refused *tenancy.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "query", refused.Op)
	require.Equal(t, "countries", refused.Table)
}

// Each of pgx's modes sends the question about the roles in its own way.
func TestRolesAreAskedForInEveryMode(t *testing.T) {
	d := newDatabase(t)
	login, fill := d.lasting(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			dsn, err := url.Parse(d.login(login))
			require.NoError(t, err)
			dsn.RawQuery += "&default_query_exec_mode=" + mode
			cfg := tenancy.Config{AppRole: d.App.Role, AdminRole: d.Admin.Role}
			d.AsSuperuser(t, fill("ALTER ROLE {login} SET row_security = off"))
			_, err = testdb.OpenGuarded(t, dsn.String(), cfg)
			require.ErrorIs(t, err, tenancy.ErrUnsafeSettings)
			d.AsSuperuser(t, undo(err))
			_, err = testdb.OpenGuarded(t, dsn.String(), cfg)
			require.NoError(t, err)
		})
	}
}

// A question that PostgreSQL has not answered fails the statement as it would fail without the plugin, and is no refusal.
func TestUnansweredQuestionIsNoRefusal(t *testing.T) {
	for name, fail := range map[string]func(tx *gorm.DB) (*gorm.DB, string){
		"cancelled": func(tx *gorm.DB) (*gorm.DB, string) {
			ctx, cancel := context.WithCancel(tx.Statement.Context)
			cancel()
			return tx.WithContext(ctx), "context canceled"
		},
		"aborted transaction": func(tx *gorm.DB) (*gorm.DB, string) {
			tx = tx.Begin()
			_ = tx.Exec("SELECT 1/0")
			return tx, "ERROR: current transaction is aborted, commands ignored until end of transaction block (SQLSTATE 25P02)"
		},
		"lost connection": func(tx *gorm.DB) (*gorm.DB, string) {
			tx = tx.Begin()
			_ = tx.Exec("SELECT pg_terminate_backend(pg_backend_pid())")
			return tx, "conn closed"
		},
		"ended transaction": func(tx *gorm.DB) (*gorm.DB, string) {
			tx = tx.Begin()
			_ = tx.Rollback()
			return tx, "sql: transaction has already been committed or rolled back"
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			var refusals []tenancy.Refusal
			var log record
			db := d.Open(t, tenancy.Config{
				OnRefuse: func(_ context.Context, r tenancy.Refusal) { refusals = append(refusals, r) },
			}, testdb.Breaks)
			db.Logger = logger.New(&log, logger.Config{LogLevel: logger.Error})
			tx, text := fail(db.WithContext(as(acme)))
			log.Reset()
			var n int
			for _, err := range []error{
				tx.Create(&Patient{Name: "secret"}).Error, tx.Find(&[]Patient{}).Error, tx.Model(&Patient{}).Select("1").Row().Scan(&n),
				tx.Model(&Patient{}).Where("name = ?", "secret").Update("name", "x").Error,
			} {
				require.EqualError(t, err, text)
			}
			require.Equal(t, 4, strings.Count(log.String(), text), log.String())
			require.NotContains(t, log.String(), "refused")
			require.Empty(t, refusals)
			_ = tx.Rollback()
		})
	}
}
