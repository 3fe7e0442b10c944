package webhooks

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"
)

// Config says how events are delivered. What is zero has a default, except for Keys.
type Config struct {
	// Keys seal the secrets of endpoints: 32 random bytes each. The first seals, and all open, so that a new key is put in front.
	Keys [][]byte

	// Schedule are the pauses after each failed attempt. After one failure more the delivery is dead. Empty means 30 seconds, 2 and 10
	// minutes, 1, 3, 6, 12 and 24 hours.
	Schedule []time.Duration

	// Jitter is the part of each pause by which it is made longer at random, so that what failed together does not come again together:
	// 0.2 if zero; none if negative.
	Jitter float64

	// Timeout is the time of an attempt, from the lookup of the name to the end of the answer: 15 seconds if zero.
	Timeout time.Duration

	// BreakAfter opens the breaker of an endpoint after that many failures in a row, for the time of BreakFor. Then one attempt decides.
	// Meanwhile deliveries wait, and no attempt is counted. If zero: 5 failures, 1 minute.
	BreakAfter int
	BreakFor   time.Duration

	// DisableAfter disables an endpoint that has failed for that long without a success: 5 days if zero.
	DisableAfter time.Duration

	// MaxEndpoints is the most endpoints of a tenant: 20 if zero.
	MaxEndpoints int

	// MaxBody is the largest body of an event in bytes: 256 KiB if zero.
	MaxBody int

	// Ports are those that requests may go to: 443 alone if empty.
	Ports []uint16

	// DangerouslyAllowLoopback allows addresses of this machine, plain http, and every port. A tenant can then send requests to everything
	// that listens here, and read the beginning of the answers. It is for tests and demonstrations.
	DangerouslyAllowLoopback bool

	// Resolver looks up names; net.DefaultResolver if nil.
	Resolver *net.Resolver

	// Logger gets what goes wrong, without values of tenants; slog.Default() if nil.
	Logger *slog.Logger
}

// defaultSchedule is what Config.Schedule is if it is empty.
var defaultSchedule = []time.Duration{
	30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Schedule) == 0 {
		c.Schedule = defaultSchedule
	}
	for _, pause := range c.Schedule {
		if pause <= 0 {
			return c, errors.New("webhooks: each pause of Config.Schedule must be positive")
		}
	}
	setDefault(&c.Jitter, 0.2)
	c.Jitter = max(c.Jitter, 0)
	setDefault(&c.Timeout, 15*time.Second)
	setDefault(&c.BreakAfter, 5)
	setDefault(&c.BreakFor, time.Minute)
	setDefault(&c.DisableAfter, 5*24*time.Hour)
	setDefault(&c.MaxEndpoints, 20)
	setDefault(&c.MaxBody, 256<<10)
	if min(c.Timeout, c.BreakFor, c.DisableAfter) < 0 || min(c.BreakAfter, c.MaxEndpoints, c.MaxBody) < 0 {
		return c, errors.New("webhooks: times and limits of Config cannot be negative")
	}
	if len(c.Ports) == 0 {
		c.Ports = []uint16{443}
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// Service keeps endpoints, publishes events and delivers them. It is safe for concurrent use.
type Service struct {
	config Config
	db     *gorm.DB
	jobs   *river.Client[*sql.Tx]
	keys   keyring
	target target
	http   *http.Client
}

// New returns a Service on a client of GORM that has the plugin tenancy. The client of River inserts jobs, with the middleware
// tenancyriver.Insert; it needs no workers. New returns an error for a configuration that is not valid.
func New(db *gorm.DB, jobs *river.Client[*sql.Tx], config Config) (*Service, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	keys, err := newKeyring(config.Keys)
	if err != nil {
		return nil, fmt.Errorf("webhooks: Config.Keys: %w", err)
	}
	if config.DangerouslyAllowLoopback {
		config.Logger.Warn("webhooks: DANGEROUS: tenants can send requests to this machine, because Config.DangerouslyAllowLoopback is set")
	}
	target := newTarget(config)
	return &Service{config: config, db: db, jobs: jobs, keys: keys, target: target, http: target.client(config.Timeout)}, nil
}
