package apikey

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/internal/decoy"
	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// Config says how keys look and where they are. All fields but Header and LastUsedEvery are required.
type Config struct {
	// Prefix begins each key, and says whose it is: 1 to 16 lower-case letters and digits, beginning with a letter.
	Prefix string
	// Environment is the second part, such as "live" or "test": 1 to 16 lower-case letters and digits. Keys of another one are refused.
	Environment string
	// Peppers are secrets that are not in the database, so that what is written into it makes no key. New keys use the first one. To
	// change it, put another before it, and keep the old one as long as there are keys of its version.
	Peppers []Pepper
	// Store keeps the keys: see NewStore.
	Store Store
	// Header is the request header with the key. Empty means "X-API-Key".
	Header string
	// LastUsedEvery is how often at most the last use of a key is written, after the request. Zero means a minute, negative never.
	LastUsedEvery time.Duration
}

// Pepper is a secret of 32 bytes or more, and its number in the database.
type Pepper struct {
	Version int
	Secret  []byte
}

// Keys creates and verifies keys. It is safe for concurrent use.
type Keys struct {
	cfg   Config
	start string
	used  uses
	decoy decoy.Decoy
}

// Errors of a key. Each is a tenanthttp.ErrUnauthenticated: 401.
var (
	// ErrInvalid is returned for a text that is no key, an unknown key, and a wrong secret.
	ErrInvalid = fmt.Errorf("%w: the API key is not valid", tenanthttp.ErrUnauthenticated)
	// ErrExpired is returned for a key that has expired, if its secret is right.
	ErrExpired = fmt.Errorf("%w: the API key has expired", tenanthttp.ErrUnauthenticated)
	// ErrRevoked is returned for a key that was revoked, if its secret is right.
	ErrRevoked = fmt.Errorf("%w: the API key was revoked", tenanthttp.ErrUnauthenticated)

	errNone = fmt.Errorf("%w: it carries no API key (%w)", tenanthttp.ErrUnauthenticated, tenanthttp.ErrNoTenant)
)

var (
	prefixes     = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)
	environments = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
	ids          = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// New checks the configuration. Its errors say what to change.
func New(cfg Config) (*Keys, error) {
	switch {
	case !prefixes.MatchString(cfg.Prefix):
		return nil, errors.New("apikey: Config.Prefix must be 1 to 16 lower-case letters and digits, beginning with a letter")
	case !environments.MatchString(cfg.Environment):
		return nil, errors.New(`apikey: Config.Environment must be 1 to 16 lower-case letters and digits, such as "live"`)
	case cfg.Store == nil:
		return nil, errors.New("apikey: Config.Store is nil: pass NewStore(db)")
	case len(cfg.Peppers) == 0:
		return nil, errors.New("apikey: Config.Peppers is empty: add a secret of 32 bytes or more")
	}
	versions := map[int]bool{}
	for i, p := range cfg.Peppers {
		if len(p.Secret) < 32 || versions[p.Version] {
			return nil, fmt.Errorf("apikey: Config.Peppers[%d] must be a secret of 32 bytes or more, with a version of its own", i)
		}
		versions[p.Version] = true
	}
	if cfg.Header == "" {
		cfg.Header = "X-API-Key"
	}
	if cfg.LastUsedEvery == 0 {
		cfg.LastUsedEvery = time.Minute
	}
	cfg.Peppers = slices.Clone(cfg.Peppers)
	k := &Keys{cfg: cfg, start: cfg.Prefix + "_" + cfg.Environment + "_"}
	k.used.init(cfg.Store, cfg.LastUsedEvery)
	return k, nil
}

// Options are what a new key may do, and until when.
type Options struct {
	Name      string
	Scopes    []string
	ExpiresAt time.Time // zero means never
}

// Create makes a key of the context's tenant, and returns its text, which is not stored: show it once. It returns
// tenancy.ErrNoTenant for a context without a tenant, and an error for a scope with a space in it.
func (k *Keys) Create(ctx context.Context, o Options) (string, Key, error) {
	tenant, ok := tenancy.TenantFromContext(ctx)
	if !ok {
		return "", Key{}, tenancy.ErrNoTenant
	}
	for _, scope := range o.Scopes {
		if scope == "" || len(strings.Fields(scope)) != 1 || strings.TrimSpace(scope) != scope {
			return "", Key{}, errors.New("apikey: a scope must be a word without spaces")
		}
	}
	made, pepper := newText(), k.cfg.Peppers[0]
	key := Key{
		ID: made.id, TenantID: tenant, Name: o.Name, Scopes: strings.Join(o.Scopes, " "),
		Hash: hash(pepper, made), Pepper: pepper.Version, CreatedAt: time.Now(),
	}
	if !o.ExpiresAt.IsZero() {
		key.ExpiresAt = &o.ExpiresAt
	}
	if err := k.cfg.Store.Create(ctx, &key); err != nil {
		return "", Key{}, err
	}
	return made.format(k.start), key, nil
}

// Revoke ends a key of the context's tenant: its next request is refused. It returns ErrNotFound if the tenant has no such key, also for
// what is no id.
func (k *Keys) Revoke(ctx context.Context, id string) error {
	if !ids.MatchString(id) {
		return ErrNotFound
	}
	return k.cfg.Store.Revoke(ctx, id, time.Now())
}

// Resolver reads the tenant of requests from their key. A key is a proof, so tenanthttp.DangerouslyTrustResolver can be used with
// it. A request without a key is an ErrNoTenant as well, so that tenanthttp.FirstOf goes on to the next resolver.
func (k *Keys) Resolver() tenanthttp.Resolver {
	return func(r *http.Request) (string, error) {
		notes := request.Of(r.Context())
		notes.DependsOn(k.cfg.Header)
		switch values := r.Header.Values(k.cfg.Header); {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
			return "", errNone
		case len(values) > 1:
			return "", fmt.Errorf("%w: it has more than one API key", tenanthttp.ErrMalformed)
		default:
			key, err := k.Verify(r.Context(), values[0])
			if err != nil {
				return "", err
			}
			notes.Set(noteKey{}, key)
			return key.TenantID, nil
		}
	}
}

// Verify returns the key of a text, for programs without HTTP. It returns ErrInvalid, ErrExpired or ErrRevoked, or an error of the store.
// The context need not have a tenant, and may have another.
func (k *Keys) Verify(ctx context.Context, key string) (Key, error) {
	sent, ok := parseText(key, k.start)
	if !ok {
		return Key{}, ErrInvalid
	}
	stored, exists, err := k.find(ctx, sent.id)
	if err != nil {
		return Key{}, err
	}
	pepper := k.cfg.Peppers[0]
	if i := slices.IndexFunc(k.cfg.Peppers, func(p Pepper) bool { return p.Version == stored.Pepper }); i >= 0 {
		pepper = k.cfg.Peppers[i]
	} else {
		exists = false
	}
	same := hmac.Equal(hash(pepper, sent), stored.Hash) // in constant time, and also if there is no key
	now := time.Now()
	switch {
	case !same || !exists:
		return Key{}, ErrInvalid
	case stored.RevokedAt != nil:
		return Key{}, ErrRevoked
	case stored.ExpiresAt != nil && !now.Before(*stored.ExpiresAt):
		return Key{}, ErrExpired
	}
	k.decoy.Learn(stored.TenantID)
	k.used.note(stored, now)
	stored.Hash = nil // it is of no use any more
	return stored, nil
}

// find reads a key as the tenant that it belongs to. If there is none, it reads all the same, as a tenant that does not exist.
func (k *Keys) find(ctx context.Context, id string) (stored Key, exists bool, err error) {
	tenant, err := k.cfg.Store.Tenant(tenancy.WithoutTenant(ctx), id)
	exists = err == nil && tenant != ""
	fits := true
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return Key{}, false, err
	case !exists:
		tenant, fits = k.decoy.ID()
	}
	stored, err = k.cfg.Store.Key(tenancy.WithTenant(ctx, tenant), id)
	switch {
	case errors.Is(err, ErrNotFound), err != nil && !fits:
		exists = false
	case err != nil:
		return Key{}, false, err
	}
	if !exists || stored.ID != id || stored.TenantID != tenant {
		return Key{Hash: make([]byte, sha256.Size), Pepper: k.cfg.Peppers[0].Version}, false, nil
	}
	return stored, true, nil
}

// Flush waits until the last uses of keys that were noted are written: call it when the server stops. It returns the context's error
// if that ends first.
func (k *Keys) Flush(ctx context.Context) error { return k.used.flush(ctx) }

// hash binds the secret to its id, so that a hash is of no use in another row. A key of 160 random bits needs no slow hash.
func hash(p Pepper, t text) []byte {
	mac := hmac.New(sha256.New, p.Secret)
	mac.Write([]byte(t.id + "_" + t.secret))
	return mac.Sum(nil)
}
