package tenancy_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
)

// seen is what a test saw of refusals.
type seen struct {
	refusals []tenancy.Refusal
	log      bytes.Buffer // GORM's
}

func (s *seen) config() tenancy.Config {
	return tenancy.Config{OnRefuse: func(_ context.Context, r tenancy.Refusal) { s.refusals = append(s.refusals, r) }}
}

// logTo makes GORM log to s, each record on one line.
func (s *seen) logTo(level logger.LogLevel) func(*gorm.Config) {
	return func(c *gorm.Config) { c.Logger = logger.New(s, logger.Config{LogLevel: level}) }
}

func (s *seen) Printf(format string, args ...any) {
	fmt.Fprintln(&s.log, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

func TestRefusalIsSeen(t *testing.T) {
	operations := map[string]string{
		"create": "create on patients", "query": "query on patients", "shared": "query on countries",
		"table": "query on patients", "preload": "query on patients", "update": "update on patients",
		"save": "update on patients", "delete": "delete on patients", "row": "row", "rows": "row on patients", "scan": "row",
		"raw": "raw", "association": "update on patients", "generics": "query on patients", "prepared": "row",
	}
	for _, level := range []logger.LogLevel{logger.Silent, logger.Error, logger.Info} {
		for name, statement := range statements {
			t.Run(fmt.Sprint(level, "/", name), func(t *testing.T) {
				var s seen
				db := open(t, s.config(), s.logTo(level))
				err := statement(db)
				require.Len(t, s.refusals, 1)
				r := s.refusals[0]
				named := r.Operation
				if r.Table != "" {
					named += " on " + r.Table
				}
				require.Equal(t, operations[name], named)
				require.ErrorIs(t, r.Err, tenancy.ErrNoTenant)
				require.Equal(t, err.Error(), r.Err.Error())
				require.Regexp(t, `/refuse_test\.go:\d+$`, r.Caller)

				if level == logger.Silent {
					require.Empty(t, s.log.String())
					return
				}
				require.Equal(t, 1, strings.Count(s.log.String(), "\n"), s.log.String())
				require.True(t, strings.HasPrefix(s.log.String(), r.Caller+" "+err.Error()+" "), s.log.String())
			})
		}
	}
}

// GORM's loggers write values unless they are told not to; those of refused statements may be of another tenant.
func TestRefusalIsLoggedWithoutValues(t *testing.T) {
	const secret = "secret"
	for name, statement := range map[string]func(db *gorm.DB) error{
		"raw":    func(db *gorm.DB) error { return db.Exec("SELECT ?", secret).Error },
		"row":    func(db *gorm.DB) error { return db.Raw("SELECT @v", sql.Named("v", secret)).Row().Err() },
		"create": func(db *gorm.DB) error { return db.Create(&Patient{TenantID: secret, Name: secret}).Error },
		"query":  func(db *gorm.DB) error { return db.First(&Patient{}, "name = ?", secret).Error },
		"tenant": func(db *gorm.DB) error {
			dry := db.Session(&gorm.Session{DryRun: true}) // or it would ask PostgreSQL first, and there is none
			return dry.WithContext(as(acme)).Create(&Patient{TenantID: secret, Name: secret}).Error
		},
		"begin": func(db *gorm.DB) error { return db.WithContext(as(secret + "\x00")).Begin().Error },
	} {
		t.Run(name, func(t *testing.T) {
			var s seen
			require.Error(t, statement(open(t, s.config(), s.logTo(logger.Info))))
			require.Len(t, s.refusals, 1)
			require.Equal(t, 1, strings.Count(s.log.String(), "\n"), s.log.String())
			require.NotContains(t, s.log.String(), secret)
			require.NotContains(t, fmt.Sprintf("%+v", s.refusals[0]), secret)
		})
	}
}

// A statement for an association or a preload is refused by itself, and its error is that of the one that wanted it.
func TestRefusalIsSeenOnce(t *testing.T) {
	for name, statement := range map[string]func(db *gorm.DB) error{
		"has many": func(db *gorm.DB) error { return db.Create(&Patient{Notes: []Note{{TenantID: other}}}).Error },
		"later":    func(db *gorm.DB) error { return db.Create(&Patient{TenantID: other}).Error },
		"hook": func(db *gorm.DB) error {
			require.NoError(t, db.Callback().Query().Before("tenancy:query").Register("test:hook", func(tx *gorm.DB) {
				if tx.Statement.Table == "countries" {
					row := tx.Session(&gorm.Session{NewDB: true, Context: context.Background()}).Raw("SELECT 1").Row()
					_ = tx.AddError(fmt.Errorf("hook: %w", row.Err()))
				}
			}))
			return db.First(&Country{}).Error
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s seen
			db := open(t, s.config(), dryRun).WithContext(as(acme))
			db.DryRun = name != "hook"
			if name == "later" {
				fail := func(tx *gorm.DB) { _ = tx.AddError(context.Canceled) }
				require.NoError(t, db.Callback().Create().After("gorm:create").Register("test:fail", fail))
			}
			err := statement(db)
			require.Error(t, err)
			require.Len(t, s.refusals, 1)
			var refused *tenancy.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, refused.Op, s.refusals[0].Operation)
		})
	}
}

func TestRefusedBeginNamesItself(t *testing.T) {
	begins := map[string]func(db *gorm.DB) error{
		"begin": func(db *gorm.DB) error { return db.WithContext(as("")).Begin().Error },
		"transaction": func(db *gorm.DB) error {
			return db.WithContext(as("")).Transaction(func(*gorm.DB) error { return nil })
		},
		"prepared": func(db *gorm.DB) error {
			return db.Session(&gorm.Session{PrepareStmt: true, Context: as("")}).Begin().Error
		},
		"database/sql": func(db *gorm.DB) error {
			pool, err := db.DB()
			require.NoError(t, err)
			_, err = pool.BeginTx(as(""), nil)
			return err
		},
	}
	for name, begin := range begins {
		t.Run(name, func(t *testing.T) {
			var s seen
			err := begin(open(t, s.config(), s.logTo(logger.Error)))
			require.ErrorIs(t, err, tenancy.ErrNoTenant)
			var refused *tenancy.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "begin", refused.Op)
			require.Empty(t, refused.Table)
			require.EqualError(t, err, "tenancy: no tenant in context: the tenant's id is empty (begin)")

			require.Len(t, s.refusals, 1)
			r := s.refusals[0]
			require.Equal(t, "begin", r.Operation)
			require.Empty(t, r.Table)
			require.Regexp(t, `/onrefuse_test\.go:\d+$`, r.Caller)
			require.Equal(t, 1, strings.Count(s.log.String(), "\n"), s.log.String())
			require.Contains(t, s.log.String(), "tenancy: no tenant in context: the tenant's id is empty (begin), called at "+r.Caller)
		})
	}
}

func TestRefusedBypassIsSeen(t *testing.T) {
	var s seen
	admin := tenancy.Bypass(open(t, s.config(), s.logTo(logger.Error)), "")
	require.Empty(t, s.refusals, "nothing is sent yet")
	require.Error(t, admin.Find(&[]Patient{}).Error)
	require.Error(t, admin.Raw("SELECT 1").Row().Err())
	require.Error(t, admin.Begin().Error)
	require.Len(t, s.refusals, 3)
	for _, r := range s.refusals {
		require.Equal(t, "bypass", r.Operation)
	}
	require.Equal(t, 3, strings.Count(s.log.String(), "\n"), s.log.String())
}

// What GORM does not pass on is not seen by its logger, nor by the hook.
func TestRefusalBelowGORM(t *testing.T) {
	var s seen
	pool, err := open(t, s.config(), s.logTo(logger.Error)).DB()
	require.NoError(t, err)
	_, err = pool.Exec("SELECT 1")
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	require.Empty(t, s.refusals)
	require.Empty(t, s.log.String())
}

// The error that GORM logs for a refused Row does not stick to the statement.
func TestRefusedRowLetsOthersGoOn(t *testing.T) {
	db := open(t, tenancy.Config{})
	tx := db.Model(&Patient{})
	require.ErrorIs(t, tx.Row().Err(), tenancy.ErrNoTenant)
	tx = tx.Session(&gorm.Session{DryRun: true, Context: as(acme)})
	tx = tx.Find(&[]Patient{})
	require.NoError(t, tx.Error)
	require.Contains(t, sqlOf(tx), `FROM "patients"`)
}

func TestPanicInOnRefuse(t *testing.T) {
	for name, statement := range map[string]func(db *gorm.DB) error{
		"query": func(db *gorm.DB) error { return db.First(&Patient{}).Error },
		"row":   func(db *gorm.DB) error { return db.Raw("SELECT 1").Row().Err() },
		"begin": func(db *gorm.DB) error { return db.WithContext(as("")).Begin().Error },
	} {
		t.Run(name, func(t *testing.T) {
			var records bytes.Buffer
			db := open(t, tenancy.Config{
				Logger:   slog.New(slog.NewTextHandler(&records, nil)),
				OnRefuse: func(context.Context, tenancy.Refusal) { panic("secret") },
			})
			err := statement(db)
			require.ErrorIs(t, err, tenancy.ErrNoTenant)
			var panicked *tenancy.PanicError
			require.ErrorAs(t, err, &panicked)
			require.Equal(t, "secret", panicked.Value)
			require.NotContains(t, err.Error(), "secret")
			require.Contains(t, records.String(), "panic in Config.OnRefuse")
			require.NotContains(t, records.String(), "secret")
			pool, err := db.DB()
			require.NoError(t, err)
			require.Zero(t, pool.Stats().InUse)
		})
	}
}

type panickingLogger struct{ logger.Interface }

func (panickingLogger) Error(context.Context, string, ...any) { panic("secret") }

func TestPanicInLoggerOfBegin(t *testing.T) {
	db := open(t, tenancy.Config{}, func(c *gorm.Config) {
		c.Logger = panickingLogger{logger.New(log.Default(), logger.Config{})}
	})
	err := db.WithContext(as("")).Begin().Error
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	require.ErrorAs(t, err, new(*tenancy.PanicError))
	pool, err := db.DB()
	require.NoError(t, err)
	require.Zero(t, pool.Stats().InUse)
}

// GORM's logger for slog does not format messages.
func TestRefusedBeginIsReadableInSlog(t *testing.T) {
	var records bytes.Buffer
	db := open(t, tenancy.Config{}, func(c *gorm.Config) {
		c.Logger = logger.NewSlogLogger(slog.New(slog.NewTextHandler(&records, nil)), logger.Config{LogLevel: logger.Error})
	})
	require.Error(t, db.WithContext(as("")).Begin().Error)
	require.Regexp(t, `msg="tenancy: no tenant in context: the tenant's id is empty \(begin\), called at .*/onrefuse_test\.go:\d+"`, records.String())
}
