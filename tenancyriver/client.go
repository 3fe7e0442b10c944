package tenancyriver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/gormtenancy/tenancy"
)

// Client is River's client of workers: each job is worked for its tenant, and jobs that it inserts are those of Insert. With
// Isolation.Slots it also gives waiting jobs to workers, from Start until it has stopped. Any number of processes may do so: one at a time
// does, and another goes on where one is gone.
type Client[TTx any] struct {
	*river.Client[TTx]
	jobs *Jobs

	mu      sync.Mutex
	stopped <-chan struct{} // of River's client that was started last
	fed     <-chan struct{} // closed when its jobs are not given any more
}

// NewClient returns River's client with the middleware of workers, before that of the configuration. The driver has the workers' pool, as jobs
// has. River's tables are those of Isolation.Schema, and a configuration with another schema is an error, because New has not checked it.
//
// With Isolation.Slots, River looks for jobs every 100 milliseconds unless the configuration says otherwise, because it is not notified of jobs
// that get a slot.
func NewClient[TTx any](driver riverdriver.Driver[TTx], jobs *Jobs, config *river.Config) (*Client[TTx], error) {
	if config == nil {
		config = &river.Config{} // River's error says what is missing
	}
	own := *config
	if own.Schema != "" && own.Schema != jobs.isolation.Schema {
		return nil, fmt.Errorf("tenancy: Schema of River's configuration is %q, and that of Isolation %q", own.Schema, jobs.isolation.Schema)
	}
	own.Schema = jobs.isolation.Schema
	own.Middleware = append([]rivertype.Middleware{&worker{Jobs: jobs}}, config.Middleware...)
	if jobs.isolation.Slots > 0 && own.FetchPollInterval == 0 {
		own.FetchPollInterval = max(own.FetchCooldown, 100*time.Millisecond)
	}
	client, err := river.NewClient(driver, &own)
	if err != nil {
		return nil, err
	}
	return &Client[TTx]{Client: client, jobs: jobs}, nil
}

// Start starts River's client. Its periodic jobs are for no tenant, whatever ctx says; their kinds must be in Config.WithoutTenant.
func (c *Client[TTx]) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx = tenancy.WithoutTenant(ctx)
	if err := c.Client.Start(ctx); err != nil {
		return err
	}
	stopped := c.Stopped()
	if c.jobs.isolation.Slots == 0 || stopped == c.stopped { // it runs already
		return nil
	}
	fed := make(chan struct{})
	c.stopped, c.fed = stopped, fed
	go func() {
		defer close(fed)
		c.jobs.feed(context.WithoutCancel(ctx), stopped)
	}()
	return nil
}

// Stop stops River's client, and waits for the jobs that are running.
func (c *Client[TTx]) Stop(ctx context.Context) error {
	if err := c.Client.Stop(ctx); err != nil {
		return err
	}
	return c.waitFed(ctx)
}

// StopAndCancel stops River's client, and cancels the contexts of the jobs that are running.
func (c *Client[TTx]) StopAndCancel(ctx context.Context) error {
	if err := c.Client.StopAndCancel(ctx); err != nil {
		return err
	}
	return c.waitFed(ctx)
}

// waitFed waits until the pool is not used any more.
func (c *Client[TTx]) waitFed(ctx context.Context) error {
	c.mu.Lock()
	fed := c.fed
	c.mu.Unlock()
	if fed == nil {
		return nil
	}
	select {
	case <-fed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
