package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"gorm.io/gorm"
)

// Queue is the queue of the package's jobs: a slow endpoint holds up no other work.
const Queue = "webhooks"

// maxJobAttempts is for errors of our own, such as a database that is away, and for workers that are killed. The attempts of a delivery are
// counted in its row, and a job that waits for the next is snoozed.
const maxJobAttempts = 1000

func insertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: Queue, MaxAttempts: maxJobAttempts}
}

// fanOutArgs make the deliveries of an event.
type fanOutArgs struct {
	Event string `json:"event"`
}

// Kind implements river.JobArgs.
func (fanOutArgs) Kind() string { return "webhook_fan_out" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (fanOutArgs) InsertOpts() river.InsertOpts { return insertOpts() }

// deliverArgs send a delivery.
type deliverArgs struct {
	Delivery string `json:"delivery"`
	Round    int    `json:"round"`
}

// Kind implements river.JobArgs.
func (deliverArgs) Kind() string { return "webhook_deliver" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (deliverArgs) InsertOpts() river.InsertOpts { return insertOpts() }

// AddWorkers adds the workers of the package. The client is one of tenancyriver.NewClient, and works on Queue. Its JobTimeout is longer than Config.Timeout,
// and its RescueStuckJobsAfter says how soon the jobs of a worker that was killed are worked again.
func (s *Service) AddWorkers(workers *river.Workers) {
	river.AddWorker(workers, river.WorkFunc(s.fanOut))
	river.AddWorker(workers, river.WorkFunc(s.deliver))
}

// transaction runs f and completes the job in one transaction.
func (s *Service) transaction(ctx context.Context, f func(tx *gorm.DB) error) error {
	return s.db.WithContext(ctx).Transaction(f)
}

// complete ends a job in the transaction of what it has written.
func complete[T river.JobArgs](ctx context.Context, tx *gorm.DB, job *river.Job[T]) error {
	sqlTx, ok := pool(tx).(*sql.Tx)
	if !ok {
		return fmt.Errorf("webhooks: complete a job: %w", gorm.ErrInvalidTransaction)
	}
	_, err := river.JobCompleteTx[*riverdatabasesql.Driver](ctx, sqlTx, job)
	return err
}

func pool(tx *gorm.DB) gorm.ConnPool {
	if prepared, ok := tx.Statement.ConnPool.(*gorm.PreparedStmtTX); ok {
		return prepared.Tx
	}
	return tx.Statement.ConnPool
}

// noRow makes an error that ends a job of one that finds no row: it is another tenant's, or was deleted.
func noRow(err error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return river.JobCancel(errors.New("webhooks: the tenant of the job has no such row"))
	}
	return err
}

// later has a job worked again after a time.
func (s *Service) later(wait time.Duration) error { return river.JobSnooze(s.config.jittered(wait)) }
