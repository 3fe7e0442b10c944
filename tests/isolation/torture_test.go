package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Note is a tenant's.
type Note struct {
	ID       int64
	TenantID string
	Text     string
}

const (
	goroutines    = 50
	rounds        = 50
	tenantCount   = 7
	notesEach     = 40
	killEveryNth  = 40 // rounds, over all goroutines
	shortDeadline = 3 * time.Millisecond
)

// TestPoolUnderTorture runs random work for random tenantCount on one or two connections, while contexts are cancelled, goroutines
// panic, rows are left unread, settings are changed by hand and backends are killed. No tenant may see another's row, and
// nothing may be left behind.
func TestPoolUnderTorture(t *testing.T) {
	for _, maxOpen := range []int{1, 2} {
		t.Run(fmt.Sprintf("MaxOpenConns=%d", maxOpen), func(t *testing.T) {
			c := newChamber(t, maxOpen)
			var wg sync.WaitGroup
			for range goroutines {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range rounds {
						c.round(t)
					}
				}()
			}
			wg.Wait()

			require.Zero(t, c.crossed.Load(), "rows that crossed")
			require.Positive(t, c.survived.Load())
			t.Logf("%d rounds went well, %d failed as they were made to", c.survived.Load(), c.failed.Load())
			// database/sql rolls back a cancelled transaction on a goroutine of its own.
			require.Eventually(t, func() bool { return c.inner.Stats().InUse == 0 }, 10*time.Second, time.Millisecond,
				"connections in use")

			for tenant := range tenantCount { // and the pool still serves all tenants
				ctx := testdb.As(tenantName(tenant))
				var n int64
				require.NoError(t, c.db.WithContext(ctx).Model(&Note{}).Where("text = ?", "seed").Count(&n).Error)
				require.EqualValues(t, notesEach, n)
			}
		})
	}
}

type chamber struct {
	t       testing.TB
	db      *gorm.DB
	inner   *sql.DB
	killer  *sql.DB
	appRole string

	turn, crossed, survived, failed atomic.Int64
}

func tenantName(tenant int) string { return fmt.Sprintf("tenant-%d", tenant) }

func newChamber(t *testing.T, maxOpen int) *chamber {
	d := testdb.New(t, &Note{})
	for tenant := range tenantCount {
		notes := make([]Note, notesEach)
		for i := range notes {
			notes[i] = Note{TenantID: tenantName(tenant), Text: "seed"}
		}
		require.NoError(t, d.AdminDB.Create(&notes).Error)
	}

	killer := testdb.OpenSQL(t, pgserver.Shared(t).DSN())
	c := &chamber{t: t, db: d.Open(t, d.Config()), killer: killer, appRole: d.App.Role}
	var err error
	c.inner, err = tenancy.UnguardedPool(c.db)
	require.NoError(t, err)
	c.inner.SetMaxOpenConns(maxOpen)
	return c
}

// round does one thing for one tenant.
func (c *chamber) round(t *testing.T) {
	tenant := tenantName(rand.IntN(tenantCount))
	ctx := testdb.As(tenant)
	if c.turn.Add(1)%killEveryNth == 0 {
		c.kill(t)
	}
	torture := tortures[rand.IntN(len(tortures))]
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				if p != any(errPanic) {
					panic(p)
				}
				err = errPanic
			}
		}()
		return torture(ctx, c, tenant)
	}()
	switch {
	case err == nil:
		c.survived.Add(1)
	case expected(err):
		c.failed.Add(1)
	default:
		t.Errorf("unexpected: %v (%T)", err, err)
	}
}

// kill ends every backend of the application, whatever it does.
func (c *chamber) kill(t *testing.T) {
	_, err := c.killer.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", c.appRole)
	if err != nil {
		t.Error(err)
	}
}

var errPanic = errors.New("on purpose")

// expected tells the errors that the tortures cause.
func expected(err error) bool {
	var (
		pgErr  *pgconn.PgError
		netErr net.Error
	)
	switch {
	case errors.As(err, &pgErr):
		return pgErr.Code == "57P01" || // admin_shutdown: the backend was killed
			pgErr.Code == "57014" || // query_canceled
			pgErr.Code == "22012" || // division_by_zero
			pgErr.Code == "40P01" // deadlock_detected
	case errors.As(err, &netErr), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return true
	}
	for _, target := range []error{
		errPanic, context.Canceled, context.DeadlineExceeded, sql.ErrTxDone, sql.ErrConnDone, driver.ErrBadConn,
		pgconn.ErrConnClosed, // the transaction's connection was lost by the statement before
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// check counts the rows that are not the tenant's. Where a context ends in the middle of a row, GORM adds an empty one.
func (c *chamber) check(tenant string, notes ...Note) {
	for _, n := range notes {
		if n != (Note{}) && n.TenantID != tenant {
			c.crossed.Add(1)
			c.t.Errorf("a note of %q crossed to %q: %+v", n.TenantID, tenant, n)
		}
	}
}

var tortures = []func(ctx context.Context, c *chamber, tenant string) error{
	// read all
	func(ctx context.Context, c *chamber, tenant string) error {
		var notes []Note
		err := c.db.WithContext(ctx).Find(&notes).Error
		c.check(tenant, notes...)
		if err == nil && len(notes) < notesEach {
			return fmt.Errorf("%d notes are too few", len(notes))
		}
		return err
	},
	// write
	func(ctx context.Context, c *chamber, tenant string) error {
		n := Note{Text: "new"}
		if err := c.db.WithContext(ctx).Create(&n).Error; err != nil {
			return err // perhaps before the tenant was filled in
		}
		c.check(tenant, n)
		return nil
	},
	// leave rows unread
	func(ctx context.Context, c *chamber, tenant string) error {
		rows, err := c.db.WithContext(ctx).Model(&Note{}).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		if !rows.Next() {
			return rows.Err()
		}
		var n Note
		if err := c.db.ScanRows(rows, &n); err != nil {
			return err
		}
		c.check(tenant, n)
		return rows.Close()
	},
	// a deadline that may end anywhere
	func(ctx context.Context, c *chamber, tenant string) error {
		ctx, cancel := context.WithTimeout(ctx, rand.N(shortDeadline))
		defer cancel()
		var notes []Note
		err := c.db.WithContext(ctx).Find(&notes).Error
		c.check(tenant, notes...)
		return err
	},
	// cancelled while the server works
	func(ctx context.Context, c *chamber, _ string) error {
		ctx, cancel := context.WithTimeout(ctx, rand.N(shortDeadline))
		defer cancel()
		return c.db.WithContext(ctx).Exec("SELECT pg_sleep(1)").Error
	},
	// cancelled in a transaction
	func(ctx context.Context, c *chamber, tenant string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return c.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			var n Note
			if err := tx.First(&n).Error; err != nil {
				return err
			}
			c.check(tenant, n)
			cancel()
			return tx.Create(&Note{Text: "never"}).Error
		})
	},
	// panic in a transaction
	func(ctx context.Context, c *chamber, _ string) error {
		return c.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Model(&Note{}).Where("id < 0").Update("text", "x").Error; err != nil {
				return err
			}
			panic(errPanic)
		})
	},
	// panic while rows are open
	func(ctx context.Context, c *chamber, _ string) error {
		rows, err := c.db.WithContext(ctx).Model(&Note{}).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		rows.Next()
		panic(errPanic)
	},
	// fail in a transaction, go back, go on
	func(ctx context.Context, c *chamber, tenant string) error {
		return c.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			err := tx.Transaction(func(tx *gorm.DB) error { return tx.Exec("SELECT 1/0").Error })
			if err == nil || !expected(err) {
				return fmt.Errorf("a division by zero gave: %w", err)
			}
			var notes []Note
			if err := tx.Limit(3).Find(&notes).Error; err != nil {
				return err
			}
			c.check(tenant, notes...)
			return nil
		})
	},
	// leave settings behind on the connection
	func(ctx context.Context, c *chamber, _ string) error {
		return c.db.WithContext(ctx).Exec("SET app.tenant_id = '" + tenantName(rand.IntN(tenantCount)) + "'").Error
	},
	// leave a transaction behind on the connection
	func(ctx context.Context, c *chamber, _ string) error {
		return c.db.WithContext(ctx).Exec("BEGIN").Error
	},
	// forget what is prepared
	func(ctx context.Context, c *chamber, _ string) error {
		return c.db.WithContext(ctx).Exec("DEALLOCATE ALL").Error
	},
	// everything, for good reason
	func(ctx context.Context, c *chamber, _ string) error {
		var n int64
		err := tenancy.Bypass(c.db, "torture").WithContext(ctx).Model(&Note{}).Where("text = ?", "seed").Count(&n).Error
		if err == nil && n != tenantCount*notesEach {
			return fmt.Errorf("the bypass client counts %d notes", n)
		}
		return err
	},
	// no tenant
	func(ctx context.Context, c *chamber, _ string) error {
		var notes []Note
		err := c.db.WithContext(tenancy.WithoutTenant(ctx)).Find(&notes).Error
		c.crossed.Add(int64(len(notes)))
		return err
	},
}
