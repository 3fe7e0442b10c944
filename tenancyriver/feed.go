package tenancyriver

import (
	"context"
	"time"
)

// feedPause is how long feed waits after an error, so that a database that is away does not fill the log.
const feedPause = time.Second

// feed gives waiting jobs to workers until stopped is closed. An error of PostgreSQL is logged, and feed goes on.
func (j *Jobs) feed(ctx context.Context, stopped <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-stopped
		cancel()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pause := j.interval
		if _, err := j.Release(ctx); err != nil {
			select {
			case <-stopped: // and the pool may be closed
				return
			default:
			}
			j.logger.ErrorContext(ctx, "tenancy: cannot give jobs to workers", "error", err)
			pause = max(pause, feedPause)
		}
		timer.Reset(pause)
	}
}
