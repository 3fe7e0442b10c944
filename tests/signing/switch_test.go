package signing_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// switching is an application that changes over to keys.
type switching struct {
	*testdb.Database
	key tenancy.SigningKey
}

func newSwitching(t *testing.T) *switching {
	t.Helper()
	d := &switching{Database: testdb.NewSigned(t)}
	d.AsSuperuser(t, `DROP SCHEMA tenancy_signed CASCADE`)
	d.policies(t, "unsigned")
	return d
}

// policies migrates, as the steps of the page say it.
func (d *switching) policies(t *testing.T, form string) {
	t.Helper()
	isolation := d.Isolation()
	isolation.Signed, isolation.DangerouslyAcceptUnsigned = form != "unsigned", form == "either"
	d.Migrate(t, isolation, models...)
}

// deploy opens an instance of the application.
func (d *switching) deploy(t *testing.T, kind string) (*gorm.DB, error) {
	t.Helper()
	cfg := tenancy.Config{Logger: testdb.Quiet}
	if kind != "without a key" {
		cfg.SigningKeys = tenancy.FixedSigningKeys(d.key)
		cfg.DangerouslyAcceptUnsigned = kind == "accepting"
	}
	return testdb.OpenGuarded(t, d.App.DSN, cfg)
}

// TestSwitchLosesNoStatement: two instances read and write throughout, and each of the page's steps is taken, taken back, and taken again.
func TestSwitchLosesNoStatement(t *testing.T) {
	t.Parallel()
	d := newSwitching(t)
	var instances [2]atomic.Pointer[gorm.DB]
	deploy := func(kind string) {
		for n := range instances { // one after the other, so that old and new run beside each other
			db, err := d.deploy(t, kind)
			require.NoError(t, err, kind)
			instances[n].Store(db)
		}
	}
	deploy("without a key")

	var wait sync.WaitGroup
	var sent [2]atomic.Int64
	stop := make(chan struct{})
	for n := range instances {
		wait.Go(func() {
			ctx := testdb.As([]string{"a", "b"}[n])
			for written := int64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				db := instances[n].Load().WithContext(ctx)
				page := Page{Text: "x", Marks: []Mark{{Text: "y"}}}
				if !assert.NoError(t, db.Create(&page).Error) {
					return
				}
				written++
				var found, marks int64
				assert.NoError(t, db.Model(&Page{}).Count(&found).Error)
				assert.Equal(t, written, found, "its own rows, all of them")
				assert.NoError(t, db.Transaction(func(tx *gorm.DB) error {
					if err := tx.Model(&Mark{}).Count(&marks).Error; err != nil {
						return err
					}
					return tx.Model(&page).Update("text", "z").Error
				}))
				assert.Equal(t, written, marks)
				sent[n].Add(1)
			}
		})
	}
	writes := func() {
		t.Helper()
		for n := range sent {
			from := sent[n].Load()
			require.Eventually(t, func() bool { return sent[n].Load() >= from+3 }, time.Minute, time.Millisecond)
		}
	}
	writes()
	for _, step := range []struct{ do, undo func() }{
		{func() { d.policies(t, "either") }, func() { d.policies(t, "unsigned") }},
		{func() { deploy("accepting") }, func() { deploy("without a key") }},
		{func() { d.policies(t, "signed") }, func() { d.policies(t, "either") }},
		{func() { deploy("strict") }, func() { deploy("accepting") }},
	} {
		for _, do := range []func(){step.do, step.undo, step.do} {
			do()
			if d.key.ID() == "" {
				d.key = d.AddKey(t, "first", 'f')
			}
			writes()
			clock.Advance(time.Minute) // what PostgreSQL has said of the policies is too old
			writes()
		}
	}
	close(stop)
	wait.Wait()
}

// TestSwitchInTheWrongOrder is refused, and the error says what to do.
func TestSwitchInTheWrongOrder(t *testing.T) {
	t.Parallel()
	d := newSwitching(t)
	var err error
	d.key, err = tenancy.NewSigningKey("first", secretOf('f'), time.Time{})
	require.NoError(t, err)
	refused := func(kind, words string) {
		t.Helper()
		db, err := d.deploy(t, kind)
		if err == nil {
			err = db.WithContext(testdb.As("a")).Find(&[]Page{}).Error
			require.ErrorIs(t, err, tenancy.ErrNotIsolated)
			require.Error(t, db.WithContext(testdb.As("a")).Create(&Page{Text: "x"}).Error)
		}
		require.ErrorContains(t, err, words)
	}
	refused("accepting", "the schema tenancy_signed is missing: migrate with rls.Isolation{Signed: true}")
	refused("strict", "the schema tenancy_signed is missing")
	d.policies(t, "either")
	refused("accepting", "it is not in tenancy_signed.keys")
	d.key = d.AddKey(t, "first", 'f')
	refused("strict", "set Config.DangerouslyAcceptUnsigned")
	d.policies(t, "unsigned")
	refused("strict", "migrate with rls.Isolation{Signed: true}")
	d.policies(t, "either")

	// Policies that demand the proof come too early: an instance without a key runs.
	early, err := d.deploy(t, "without a key")
	require.NoError(t, err)
	tenant := early.WithContext(testdb.As("a"))
	require.NoError(t, tenant.Create(&Page{Text: "x"}).Error)
	d.policies(t, "signed")
	require.Error(t, tenant.Create(&Page{Text: "x"}).Error)
	clock.Advance(time.Minute)
	require.ErrorIs(t, tenant.Find(&[]Page{}).Error, tenancy.ErrNotIsolated)
	require.ErrorContains(t, tenant.Find(&[]Page{}).Error, "set Config.SigningKeys")
	refused("without a key", "DangerouslyAcceptUnsigned: true} until all instances")
	isolation := d.Isolation()
	isolation.DangerouslyAcceptUnsigned = true
	d.Migrate(t, isolation, models...)
	var found []Page
	require.NoError(t, tenant.Find(&found).Error)
	require.Len(t, found, 1)
}
