package placement

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// writer is one that works for a tenant while it is moved. What the database has acknowledged is counted.
type writer struct {
	tenant string
	name   string
	words  []string         // that were acknowledged
	sure   map[string]int64 // acknowledged changes of a word, each of which raises its count by one
	maybe  map[string]int64 // changes that failed, and may have happened
	failed int
}

// work writes until the context ends: new words, each with another one in a transaction, and changes of them.
func (w *writer) work(ctx context.Context, db *gorm.DB) error {
	for n := 0; ctx.Err() == nil; n++ {
		if len(w.words) < 300 && n%2 == 0 {
			word := fmt.Sprintf("%s %d", w.name, n)
			err := db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&Word{Word: word, Count: 1}).Error; err != nil {
					return err
				}
				return tx.Create(&Word{Word: word + "'", Count: 1}).Error
			})
			if w.acknowledged(err, word, word+"'") {
				w.words = append(w.words, word, word+"'")
			} else if err := w.expected(err); err != nil {
				return err
			}
		}
		if len(w.words) == 0 {
			continue
		}
		word := w.words[n%len(w.words)]
		result := db.Model(&Word{}).Where("word = ?", word).Update("count", gorm.Expr("count + 1"))
		if w.acknowledged(result.Error, word) {
			if result.RowsAffected != 1 {
				return fmt.Errorf("an acknowledged row is not there: %d", result.RowsAffected)
			}
		} else if err := w.expected(result.Error); err != nil {
			return err
		}
		var back []Word
		if err := db.Where("word = ?", word).Find(&back).Error; err == nil && (len(back) != 1 || back[0].TenantID != w.tenant) {
			return fmt.Errorf("%d rows were read for one that was written", len(back))
		}
	}
	return nil
}

// acknowledged counts a change of each word.
func (w *writer) acknowledged(err error, words ...string) bool {
	counts := w.sure
	if err != nil {
		counts = w.maybe
		w.failed++
	}
	for _, word := range words {
		counts[word]++
	}
	return err == nil
}

// expected returns errors that a move does not cause, and waits a moment after others.
func (w *writer) expected(err error) error {
	if errors.Is(err, placement.ErrMoving) || errors.Is(err, placement.ErrCatalog) || errors.Is(err, tenancy.ErrTenantMismatch) {
		<-time.After(pollEvery) // as a client that tries again
		return nil
	}
	if strings.Contains(err.Error(), "was moved to another server before the statement was sent") {
		return nil
	}
	return err
}

// patient moves with a margin for statements that a busy machine sends late.
func (f *fixture) patient() placement.Mover {
	m := f.mover()
	m.TTL = 3 * ttl
	return m
}

// TestMovesUnderLoad: several tenants are moved between three servers while all of them write. No row is at a wrong server, none is lost, and none
// is there twice.
func TestMovesUnderLoad(t *testing.T) {
	f := newFixture(t)
	tenants := []string{acme, globex, "initech", "umbrella"}
	for _, tenant := range tenants {
		f.signUp(t, tenant, 3)
	}
	quiet, quietSums := f.rows(t, "umbrella") // which writes nothing, and is not moved
	const moves = 7
	ctx, stop := context.WithCancel(t.Context())
	var (
		all     sync.WaitGroup
		writers []*writer
		errs    = make(chan error, 16)
	)
	for n := range 6 {
		w := &writer{tenant: tenants[n%3], name: fmt.Sprint("writer ", n), sure: map[string]int64{}, maybe: map[string]int64{}}
		writers = append(writers, w)
		all.Go(func() {
			if err := w.work(ctx, f.as(w.tenant)); err != nil {
				errs <- fmt.Errorf("%s: %w", w.name, err)
			}
		})
	}
	random := rand.New(rand.NewPCG(18, 1))
	at := map[string]string{acme: "first", globex: "first", "initech": "first"}
	for n := range moves {
		tenant := tenants[n%3]
		to := names[random.IntN(3)]
		for to == at[tenant] {
			to = names[random.IntN(3)]
		}
		if n%3 == 1 { // one that fails first, while the tenant is locked out
			m := f.patient()
			m.OnStep = func(s placement.Step) error {
				if s == placement.StepSwitch {
					return errors.New("made to fail")
				}
				return nil
			}
			_, err := m.Move(ctx, tenant, to)
			require.ErrorContains(t, err, "made to fail")
		}
		report := retried(t, func() (placement.Report, error) { return f.patient().Move(ctx, tenant, to) })
		require.Equal(t, at[tenant], report.From)
		at[tenant] = to
		retried(t, func() (lifecycle.Report, error) { return f.mover().EraseOld(ctx, tenant) })
	}
	stop()
	all.Wait()
	close(errs)
	for err := range errs {
		if !errors.Is(err, context.Canceled) {
			require.NoError(t, err)
		}
	}

	for tenant, server := range at {
		for n, name := range names {
			var words []Word
			require.NoError(t, f.databases[n].AdminDB.Where("tenant_id = ? AND word LIKE 'writer%'", tenant).Find(&words).Error)
			if name != server {
				require.Empty(t, words, "%s has rows at %s, and lives at %s", tenant, name, server)
				continue
			}
			found := map[string]int64{}
			for _, w := range words {
				found[w.Word] = w.Count
			}
			for _, w := range writers {
				if w.tenant != tenant {
					continue
				}
				changes := int64(0)
				for word, count := range w.sure {
					got, ok := found[word]
					require.True(t, ok, "%s lost an acknowledged row", w.name)
					require.True(t, got >= count && got <= count+w.maybe[word], "%s: a row has %d, after %d acknowledged changes", w.name, got, count)
					delete(found, word)
					changes += count
				}
				for word := range w.maybe {
					delete(found, word)
				}
				require.Positive(t, changes)
				t.Logf("%s: %d acknowledged changes, %d statements refused or failed", w.name, changes, w.failed)
			}
			require.Empty(t, found, "rows that were not written by the tenant")
		}
	}
	after, afterSums := f.rows(t, "umbrella")
	require.Equal(t, quiet, after)
	require.Equal(t, quietSums, afterSums)
}
