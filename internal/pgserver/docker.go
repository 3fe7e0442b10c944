package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

const (
	// dockerPing is how long a Docker daemon may take to answer. One that is there does so in milliseconds.
	dockerPing = 2 * time.Second
	// dockerLifetime is how long a container lives if its process was killed and cannot remove it.
	dockerLifetime = 2 * time.Hour
)

// container is a server in a Docker container.
type container struct {
	image    string
	host     string
	port     int
	password string
	pool     *dockertest.Pool
	resource *dockertest.Resource
}

// startDocker runs the official image, pulling it if need be.
func startDocker(ctx context.Context, cfg config) (instance, error) {
	pool, err := dockerPool(ctx)
	if err != nil {
		return nil, err
	}
	c := &container{image: "postgres:" + fetchedMajor() + "-alpine", pool: pool, host: dockerHost(), password: random(16)}
	if err := c.pull(ctx); err != nil {
		return nil, err
	}
	if err := c.start(cfg); err != nil {
		return nil, err
	}
	if err := c.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func dockerPool(ctx context.Context) (*dockertest.Pool, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dockerPing)
	defer cancel()
	if err := pool.Client.PingWithContext(ctx); err != nil {
		return nil, fmt.Errorf("no daemon answers at %s: %w", pool.Client.Endpoint(), err)
	}
	return pool, nil
}

// dockerHost is where the ports of containers are published: here, unless the daemon runs on another machine.
func dockerHost() string {
	u, err := url.Parse(os.Getenv("DOCKER_HOST"))
	if err != nil || u.Hostname() == "" {
		return loopback
	}
	return u.Hostname()
}

func (c *container) pull(ctx context.Context) error {
	if _, err := c.pool.Client.InspectImage(c.image); err == nil {
		return nil
	}
	progress("pulling %s", c.image)
	repository, tag, _ := strings.Cut(c.image, ":")
	err := c.pool.Client.PullImage(docker.PullImageOptions{
		Context:           ctx,
		Repository:        repository,
		Tag:               tag,
		OutputStream:      os.Stderr,
		InactivityTimeout: time.Minute,
	}, docker.AuthConfiguration{})
	if err != nil {
		return fmt.Errorf("pull %s: %w", c.image, err)
	}
	return nil
}

// start makes and starts the container. The port is chosen here, because one that Docker chooses changes with a restart.
func (c *container) start(cfg config) (err error) {
	if c.port, err = freePort(); err != nil {
		return err
	}
	bind := loopback
	if c.host != loopback {
		bind = "0.0.0.0"
	}
	args := []string{"postgres"}
	for _, setting := range cfg.settings {
		args = append(args, "-c", setting)
	}
	name := "tenancy-pg-" + random(4)
	repository, tag, _ := strings.Cut(c.image, ":")
	c.resource, err = c.pool.RunWithOptions(&dockertest.RunOptions{
		Name:         name,
		Repository:   repository,
		Tag:          tag,
		Cmd:          args,
		Env:          []string{"POSTGRES_PASSWORD=" + c.password, "POSTGRES_INITDB_ARGS=--no-locale --encoding=UTF8"},
		PortBindings: map[docker.Port][]docker.PortBinding{"5432/tcp": {{HostIP: bind, HostPort: strconv.Itoa(c.port)}}},
	}, func(host *docker.HostConfig) {
		host.AutoRemove = true
		host.PublishAllPorts = false
		host.ShmSize = 256 << 20 // parallel queries need more than the 64 MB of a container
	})
	if err != nil {
		_ = c.pool.RemoveContainerByName(name) // it may have been made and not started
		return fmt.Errorf("run %s: %w", c.image, err)
	}
	return c.expire()
}

func (c *container) expire() error { return c.resource.Expire(uint(dockerLifetime / time.Second)) }

// awaitReady waits until the server accepts connections. The port is open earlier: the image first makes the data
// directory, with a server that does not listen outside of the container.
func (c *container) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if err := c.stillRunning(ctx); err != nil {
			return false, err
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(attempt, c.dsn().String())
		if err != nil {
			last = err
			return false, nil
		}
		return true, conn.Close(attempt)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(err, last)
	}
	return err
}

func (c *container) stillRunning(ctx context.Context) error {
	state, err := c.pool.Client.InspectContainerWithContext(c.resource.Container.ID, ctx)
	if err != nil {
		return fmt.Errorf("%s is gone: %w", c.image, err)
	}
	if !state.State.Running {
		said, _ := c.logs(ctx)
		return fmt.Errorf("%s ended at once: %s", c.image, strings.TrimSpace(said))
	}
	return nil
}

func (c *container) describe(string) string { return "docker " + c.image }
func (c *container) dsn() *url.URL          { return serverURL(c.host, c.port, c.password) }
func (c *container) owned() bool            { return true }
func (c *container) logPath() string        { return "" }

func (c *container) logs(ctx context.Context) (string, error) {
	var out bytes.Buffer
	err := c.pool.Client.Logs(docker.LogsOptions{
		Context:      ctx,
		Container:    c.resource.Container.ID,
		OutputStream: &out,
		ErrorStream:  &out,
		Stdout:       true,
		Stderr:       true,
	})
	return out.String(), err
}

func (c *container) restart(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.dsn().String())
	if err != nil {
		return err
	}
	err = run(ctx, conn, "CHECKPOINT")
	conn.Close(ctx)
	if err != nil {
		return err
	}
	// A container that removes itself survives no other way of stopping it than this, which kills it: dockertest has
	// replaced the signal that PostgreSQL would understand. After a checkpoint there is nothing to recover from.
	if err := c.pool.Client.RestartContainer(c.resource.Container.ID, 0); err != nil {
		return err
	}
	if err := c.expire(); err != nil {
		return err
	}
	return c.awaitReady(ctx)
}

func (c *container) stop() error {
	err := c.pool.Purge(c.resource)
	if gone := new(docker.NoSuchContainer); errors.As(err, &gone) {
		return nil // it has expired
	}
	return err
}
