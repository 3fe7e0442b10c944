package placement

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Config says where placements are, and which servers there are. Catalog and Servers must be set.
type Config struct {
	// Catalog is a pool for the table of placements, without the plugin, whose login can read the table and not write it. It must be none of Servers:
	// a statement that holds a connection asks where its tenant lives, and would wait for a connection of the same pool.
	Catalog *sql.DB

	// Schema is the schema of the table; empty means public.
	Schema string

	// Servers are the pools of the servers, by the names in the table, without the plugin.
	Servers map[string]*sql.DB

	// Default names the server of tenants without a placement. If it is empty they are refused with ErrNoServer.
	Default string

	// TTL is how long an answer of the catalog is used, and how long it may take. Zero means one second. A move locks a tenant out for at least as long.
	TTL time.Duration
}

// DefaultTTL is the TTL where none is set.
const DefaultTTL = time.Second

// The bounds of the cache: of tenants, and of the bytes of an id that is kept.
const (
	maxCached = 100_000
	maxID     = 256
)

// Places answers where tenants live. Its method Place is for tenancy.Config.Place.
type Places struct {
	config Config
	query  string

	mu     sync.Mutex
	now    func() time.Time
	recent map[string]answer // those of this generation
	older  map[string]answer // and of the one before
	since  time.Time         // the beginning of this generation
	asked  map[string]*lookup
}

// answer is what the catalog said of a tenant. An answer that refuses is not kept.
type answer struct {
	server  *sql.DB
	expires time.Time
}

// lookup is a question that is under way, for all that ask the same.
type lookup struct {
	done   chan struct{} // closed when answer and err are there
	answer answer
	err    error
}

// New checks the configuration. It sends nothing.
func New(cfg Config) (*Places, error) {
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	switch {
	case cfg.Catalog == nil:
		return nil, errors.New("placement: Config.Catalog is nil")
	case len(cfg.Servers) == 0:
		return nil, errors.New("placement: Config.Servers is empty")
	case cfg.TTL < 0:
		return nil, errors.New("placement: Config.TTL cannot be negative")
	case cfg.Default != "" && cfg.Servers[cfg.Default] == nil:
		return nil, fmt.Errorf("placement: Config.Default names the server %q, which Config.Servers does not have", cfg.Default)
	}
	for name, server := range cfg.Servers {
		switch {
		case name == "" || server == nil:
			return nil, fmt.Errorf("placement: the server %q of Config.Servers has no name or no pool", name)
		case server == cfg.Catalog:
			return nil, fmt.Errorf("placement: Config.Catalog is the pool of the server %q: a statement that holds the last connection of it would wait "+
				"for itself; open another pool", name)
		}
	}
	servers := make(map[string]*sql.DB, len(cfg.Servers))
	for name, server := range cfg.Servers {
		servers[name] = server
	}
	cfg.Servers = servers
	table := qualified(cfg.Schema)
	return &Places{
		config: cfg, now: time.Now, asked: map[string]*lookup{}, recent: map[string]answer{},
		// There is a row even if the tenant has none. A login that can write the table could be made to by a tenant's raw SQL.
		query: `SELECT w.writes, p.server, p.state
			FROM (SELECT pg_catalog.has_any_column_privilege($2::text, 'INSERT, UPDATE') OR pg_catalog.has_table_privilege($2::text, 'DELETE, TRUNCATE') AS writes) w
			LEFT JOIN ` + table + ` p ON p.tenant = $1`,
	}, nil
}

// Place returns the pool of the server that the tenant lives on. An answer counts from the time of the question, and never longer than TTL: a
// catalog that cannot be read refuses tenants then, with ErrCatalog. Statements that ask for one tenant at a time share the question.
func (p *Places) Place(ctx context.Context, tenant string) (*sql.DB, error) {
	found, running := p.find(tenant)
	if running == nil {
		return found.server, nil
	}
	select {
	case <-running.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case running.err != nil:
		return nil, running.err
	case !p.now().Before(running.answer.expires):
		return nil, fmt.Errorf("%w: the answer took longer than it counts", ErrCatalog)
	}
	return running.answer.server, nil
}

// Invalidate forgets the answer about a tenant, also one that is under way. Other processes keep theirs until TTL.
func (p *Places) Invalidate(tenant string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.recent, tenant)
	delete(p.older, tenant)
	delete(p.asked, tenant)
}

// find returns an answer that counts, or the question that is under way.
func (p *Places) find(tenant string) (answer, *lookup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, generation := range []map[string]answer{p.recent, p.older} {
		if known, ok := generation[tenant]; ok && now.Before(known.expires) {
			return known, nil
		}
	}
	running := p.asked[tenant]
	if running == nil {
		running = &lookup{done: make(chan struct{})}
		p.asked[tenant] = running
		go p.ask(tenant, running, now)
	}
	return answer{}, running
}

// ask asks the catalog. It goes on when the statement that began it is cancelled, because others may wait.
func (p *Places) ask(tenant string, running *lookup, began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), p.config.TTL)
	defer cancel()
	server, err := p.read(ctx, tenant)
	running.answer, running.err = answer{server, began.Add(p.config.TTL)}, err
	p.mu.Lock()
	if p.asked[tenant] == running { // and was not forgotten meanwhile
		delete(p.asked, tenant)
		if err == nil && len(tenant) <= maxID {
			p.keep(tenant, running.answer)
		}
	}
	p.mu.Unlock()
	close(running.done)
}

// keep remembers an answer. Two generations, each of half the bound, replace each other, so that nothing needs to be searched.
func (p *Places) keep(tenant string, a answer) {
	if now := p.now(); len(p.recent) >= maxCached/2 || now.Sub(p.since) > p.config.TTL {
		p.recent, p.older, p.since = map[string]answer{}, p.recent, now
	}
	p.recent[tenant] = a
}

// read reads a placement.
func (p *Places) read(ctx context.Context, tenant string) (*sql.DB, error) {
	var (
		writes        bool
		server, state sql.NullString
	)
	if err := p.config.Catalog.QueryRowContext(ctx, p.query, tenant, qualified(p.config.Schema)).Scan(&writes, &server, &state); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCatalog, err)
	}
	name := server.String
	switch {
	case writes:
		return nil, fmt.Errorf("%w: its login can write the table %s, and so could a tenant's SQL: use a login that can only read it", ErrCatalog, Table)
	case State(state.String) == Moving:
		return nil, ErrMoving
	case !server.Valid && p.config.Default == "":
		return nil, fmt.Errorf("%w: it has no placement", ErrNoServer)
	case !server.Valid:
		name = p.config.Default
	}
	pool := p.config.Servers[name]
	if pool == nil {
		return nil, fmt.Errorf("%w: it is placed on one that Config.Servers does not have", ErrNoServer)
	}
	return pool, nil
}
