package compat

import (
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// cache is a plugin that answers reads from memory, by SQL and arguments, and joins equal reads that run at the same time. It does
// it at the place and with the key that github.com/go-gorm/caches/v4 has.
type cache struct {
	read func(*gorm.DB)

	mu      sync.Mutex
	known   map[string]cached
	running map[string]*sync.WaitGroup
	hits    int
}

type cached struct {
	dest     reflect.Value
	affected int64
}

func (*cache) Name() string { return "cache" }

func (c *cache) Initialize(db *gorm.DB) error {
	c.known, c.running = map[string]cached{}, map[string]*sync.WaitGroup{}
	c.read = db.Callback().Query().Get("gorm:query")
	return db.Callback().Query().Replace("gorm:query", c.query)
}

func (c *cache) query(db *gorm.DB) {
	callbacks.BuildQuerySQL(db)
	key := fmt.Sprintf("%s-%v", db.Statement.SQL.String(), db.Statement.Vars)
	c.mu.Lock()
	wait := c.running[key]
	c.mu.Unlock()
	if wait != nil {
		wait.Wait()
	}
	c.mu.Lock()
	have, ok := c.known[key]
	if ok {
		c.hits++
		c.mu.Unlock()
		reflect.ValueOf(db.Statement.Dest).Elem().Set(have.dest)
		db.RowsAffected = have.affected
		return
	}
	done := &sync.WaitGroup{}
	done.Add(1)
	c.running[key] = done
	c.mu.Unlock()
	defer done.Done()
	c.read(db)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, key)
	if db.Error == nil {
		c.known[key] = cached{reflect.ValueOf(reflect.ValueOf(db.Statement.Dest).Elem().Interface()), db.RowsAffected}
	}
}

// TestCacheOfQueries: a cache of queries keeps tenants apart, whichever plugin was installed first; what it could not keep apart
// is refused.
func TestCacheOfQueries(t *testing.T) { testdb.InBothForms(t, testCacheOfQueries) }

func testCacheOfQueries(t *testing.T) {
	for _, order := range []string{"cache first", "cache last"} {
		t.Run(order, func(t *testing.T) {
			d := newDatabase(t)
			two := d.newPair(t)
			c := &cache{}
			db := testdb.OpenPlain(t, d.App.DSN)
			if order == "cache first" {
				require.NoError(t, db.Use(c))
			}
			require.NoError(t, db.Use(tenancy.New(d.Config())))
			if order == "cache last" {
				require.NoError(t, db.Use(c))
			}

			var wg sync.WaitGroup
			room := make(chan struct{}, 16)
			for i := range 400 {
				room <- struct{}{}
				wg.Go(func() {
					defer func() { <-room }()
					tenant := []string{two.me, two.other}[i%2]
					var notes []Note
					tx := db.WithContext(tenancy.WithTenant(t.Context(), tenant)).Find(&notes)
					if tx.Error != nil || len(notes) != 3 || notes[0].TenantID != tenant {
						t.Errorf("%s: %v %v", tenant, notes, tx.Error)
					}
				})
			}
			wg.Wait()
			require.Positive(t, c.hits)

			var notes []Note
			require.ErrorIs(t, db.Find(&notes).Error, tenancy.ErrNoTenant)
			require.Empty(t, notes)
			require.ErrorIs(t, db.WithContext(tenancy.WithoutTenant(t.Context())).Find(&notes).Error, tenancy.ErrForeignCallback)
			require.Empty(t, notes)
			require.ErrorIs(t, tenancy.Bypass(db, "test").Find(&notes).Error, tenancy.ErrForeignCallback)
			require.Empty(t, notes)
			require.ErrorIs(t, db.WithContext(two.ctx()).Raw(`SELECT * FROM notes`).Find(&notes).Error, tenancy.ErrForeignCallback)
			require.Empty(t, notes)
			require.ErrorContains(t, db.WithContext(two.ctx()).Table("notes").Raw(`SELECT * FROM notes`).Find(&notes).Error, "tests/compat")

			for _, tenant := range []string{two.me, two.other, two.me} {
				var read []Note
				require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), tenant)).
					Raw(`SELECT * FROM notes WHERE ?`, tenancy.Condition("notes")).Find(&read).Error)
				require.Len(t, read, 3)
				require.Equal(t, tenant, read[0].TenantID)
			}
			notes = nil
			err := db.WithContext(two.ctx()).Transaction(func(tx *gorm.DB) error {
				return tx.WithContext(tenancy.WithTenant(t.Context(), two.other)).Find(&notes).Error
			})
			require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
			require.Empty(t, notes)
		})
	}
}

// TestCacheOfQueriesThatIsTrusted sends what it would refuse.
func TestCacheOfQueriesThatIsTrusted(t *testing.T) {
	testdb.InBothForms(t, testCacheOfQueriesThatIsTrusted)
}

func testCacheOfQueriesThatIsTrusted(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	db := testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(&cache{}))
	cfg := d.Config()
	cfg.DangerouslyTrustCallbacks = []string{"github.com/gormtenancy/tenancy/tests/compat"}
	require.NoError(t, db.Use(tenancy.New(cfg)))
	var notes []Note
	require.NoError(t, db.WithContext(two.ctx()).Raw(`SELECT * FROM notes`).Find(&notes).Error)
	require.Len(t, notes, 3)
}

// sharding has the name and the means of gorm.io/sharding: a pool of its own in front of each statement's.
type sharding struct{}

func (sharding) Name() string { return "gorm:sharding" }

func (sharding) Initialize(db *gorm.DB) error {
	return db.Callback().Query().Before("*").Register("gorm:sharding", func(db *gorm.DB) {
		db.Statement.ConnPool = struct{ gorm.ConnPool }{db.Statement.ConnPool}
	})
}

// TestSharding: the plugin says that it cannot guard it, in either order.
func TestSharding(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	db := testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(sharding{}))
	require.ErrorIs(t, db.Use(tenancy.New(tenancy.Config{})), tenancy.ErrForeignCallback)

	db = testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	require.NoError(t, db.Use(sharding{}))
	require.ErrorIs(t, db.WithContext(two.ctx()).Find(&[]Note{}).Error, tenancy.ErrForeignCallback)
}
