package tenancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// SigningKey signs the tenant of statements: see Config.SigningKeys. No printer, encoder or logger shows more of it than its id.
type SigningKey struct{ key signing.Key }

// NewSigningKey returns a key with this id and a secret of 32 to 64 random bytes, which signs from the time notBefore on; the zero time
// means at once. The id has 1 to 32 letters, digits, dots, dashes or underscores. The database must have the key before it signs.
func NewSigningKey(id string, secret []byte, notBefore time.Time) (SigningKey, error) {
	k, err := signing.NewKey(id, secret, notBefore)
	if err != nil {
		return SigningKey{}, fmt.Errorf("tenancy: %w", err)
	}
	return SigningKey{k}, nil
}

// ID returns the key's id, which is no secret.
func (k SigningKey) ID() string { return k.key.ID() }

// String returns the id.
func (k SigningKey) String() string { return k.key.String() }

// GoString returns the id, for the verb %#v.
func (k SigningKey) GoString() string { return k.key.String() }

// Format writes the id for every verb.
func (k SigningKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.key.String()) }

// MarshalText returns the id, for encoders.
func (k SigningKey) MarshalText() ([]byte, error) { return k.key.MarshalText() }

// LogValue returns the id, for slog.
func (k SigningKey) LogValue() slog.Value { return k.key.LogValue() }

// SigningKeys returns the keys that may sign. Of those whose time has come, the one with the latest sign. It is called when the plugin
// is installed, and about once a minute beside statements; while it fails, the keys it has returned before stay in use. It must be safe for
// concurrent use.
type SigningKeys func(context.Context) ([]SigningKey, error)

// FixedSigningKeys always returns these keys.
func FixedSigningKeys(keys ...SigningKey) SigningKeys {
	return func(context.Context) ([]SigningKey, error) { return keys, nil }
}

// SigningKeysFromEnv reads the keys from an environment variable, in the form id:secret, the secret in base64 (openssl rand -base64 32), and
// where the key is not to sign at once another colon and the time from when on it does (RFC 3339). Commas stand between keys.
func SigningKeysFromEnv(name string) SigningKeys {
	return func(context.Context) ([]SigningKey, error) { return parseSigningKeys(os.Getenv(name)) }
}

// SigningKeysFromFile reads the keys from a file each time, in the form of SigningKeysFromEnv, one in a line.
func SigningKeysFromFile(path string) SigningKeys {
	return func(context.Context) ([]SigningKey, error) {
		text, err := os.ReadFile(path) //nolint:gosec // the application names it
		if err != nil {
			return nil, err
		}
		return parseSigningKeys(string(text))
	}
}

func parseSigningKeys(text string) ([]SigningKey, error) {
	parsed, err := signing.ParseKeys(text)
	if err != nil {
		return nil, err
	}
	keys := make([]SigningKey, len(parsed))
	for n, k := range parsed {
		keys[n] = SigningKey{k}
	}
	return keys, nil
}

// The bounds of Config.ProofLifetime, and its default.
const (
	minProofLifetime     = time.Minute
	maxProofLifetime     = time.Hour
	defaultProofLifetime = 5 * time.Minute
)

// newSigner returns nil where there are no keys.
func newSigner(cfg Config) *signing.Signer {
	if cfg.SigningKeys == nil {
		return nil
	}
	source := func(ctx context.Context) ([]signing.Key, error) {
		keys, err := cfg.SigningKeys(ctx)
		inner := make([]signing.Key, len(keys))
		for n, k := range keys {
			inner[n] = k.key
		}
		return inner, err
	}
	return signing.NewSigner(source, cfg.ProofLifetime, cfg.DangerouslyUnboundProofs, cfg.Logger)
}

// validateSigning checks what goes with keys, and what needs them.
func (c Config) validateSigning() error {
	switch {
	case c.SigningKeys == nil && (c.DangerouslyUnboundProofs || c.DangerouslyAcceptUnsigned || c.DangerouslyShowStatements || c.ProofLifetime != 0):
		return errors.New("ProofLifetime, DangerouslyUnboundProofs, DangerouslyAcceptUnsigned, DangerouslyShowStatements: set SigningKeys as well")
	case c.SigningKeys == nil:
		return nil
	case c.ProofLifetime < minProofLifetime || c.ProofLifetime > maxProofLifetime:
		return fmt.Errorf("ProofLifetime %s: must be %s to %s", c.ProofLifetime, minProofLifetime, maxProofLifetime)
	case c.AdminRole != "" || c.ReadOnlyRole != "":
		return errors.New("AdminRole and ReadOnlyRole: SQL could take them, whatever the tenant; with SigningKeys set AdminDB, with a login of its own")
	case c.DangerouslyObserve != nil:
		return errors.New("SigningKeys and DangerouslyObserve: set one of them, because what is observed carries no proof")
	case c.DangerouslyAllowUnsafeRole, c.DangerouslySkipProof, c.DangerouslyWarnOnly:
		return errors.New("SigningKeys: what they protect from needs safe roles and the proof of isolation: unset DangerouslyAllowUnsafeRole, " +
			"DangerouslySkipProof and DangerouslyWarnOnly")
	}
	return nil
}

// checkSigning checks the wall around the signature, and has PostgreSQL verify one. In a transaction, which has a tenant already, it leaves
// that to the statements: without a good signature they see no row.
func (p *Plugin) checkSigning(ctx context.Context, pool *pool, s *server, through gorm.ConnPool) error {
	if p.signer == nil {
		return nil
	}
	if err := p.signer.Load(ctx); err != nil {
		return fmt.Errorf("tenancy: %w", err)
	}
	if err := p.checkWall(ctx, through); err != nil {
		return err
	}
	if through != gorm.ConnPool(pool.guarded) {
		return nil
	}
	const probe = "tenancy: a signed statement"
	var (
		verified bool
		seconds  float64
	)
	verifySQL := `SELECT coalesce(` + signing.Call(signing.FunctionTenant, p.config.Setting) + ` OPERATOR(pg_catalog.=) $1, false), ` +
		`pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())`
	ctx = guard.WithoutSettings(guard.OnServer(ctx, &s.Server)) // the application is asked about no tenant that is none
	ctx = guard.Own(guard.WithTenant(ctx, probe), verifySQL)
	began := clock.Now()
	if err := through.QueryRowContext(ctx, verifySQL, probe).Scan(&verified, &seconds); err != nil {
		return fmt.Errorf("tenancy: ask PostgreSQL about the signature: %w", err)
	}
	if !verified {
		return p.refusedSignature(time.UnixMicro(int64(seconds * 1e6)).Sub(began))
	}
	return nil
}

// refusedSignature says why PostgreSQL did not take a signature, as far as that is known, and what to do. The application's clock is
// behind PostgreSQL's by so much.
func (p *Plugin) refusedSignature(behind time.Duration) error {
	if behind > signing.Skew {
		return wrapf(ErrUnsafeDatabase, "PostgreSQL refuses the signature: the clock of the application is %s behind that of PostgreSQL, and may be %s: set the clocks",
			behind.Round(time.Second), signing.Skew)
	}
	return wrapf(ErrUnsafeDatabase, "PostgreSQL refuses the signature by the key %q: it is not in %s.keys, or is there with another secret (\"tenancy keys list\" shows the ids), or a pooler "+
		"is between, which takes another process of the server for each transaction (Config.DangerouslyUnboundProofs) or another login", p.signer.KeyID(), signing.Schema)
}

// wallSQL returns what SQL of the login could use against other tenants, of what the catalog shows.
var wallSQL = signing.WallSQL("session_user")

// signedSQL asks whether the database can verify, and whether names and operators without a schema mean those of PostgreSQL, as those of wallSQL
// must: a temporary schema comes before pg_catalog as well, but holds neither functions nor operators for such names.
const signedSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) '` + signing.Schema + `'),
       pg_catalog.array_position(pg_catalog.array_remove(pg_catalog.current_schemas(true),
           (SELECT nspname FROM pg_catalog.pg_namespace WHERE oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())),
           'pg_catalog'::pg_catalog.name) OPERATOR(pg_catalog.=) 1`

// checkWall refuses a database that does not verify, and a login that can do what the signature does not protect from.
func (p *Plugin) checkWall(ctx context.Context, through gorm.ConnPool) error {
	var (
		exists, own bool
		found       string
		breaches    []signing.Breach
	)
	err := through.QueryRowContext(guard.Own(ctx, signedSQL), signedSQL).Scan(&exists, &own)
	if err == nil && !exists {
		return wrapf(ErrUnsafeDatabase, "the schema %s is missing: migrate with rls.Isolation{Signed: true}, and add the key to it", signing.Schema)
	}
	if err == nil && !own {
		return wrapf(ErrUnsafeSettings, "with SigningKeys no schema may come before pg_catalog in the search_path of the login, because its operators would answer "+
			"the questions about the login's rights: leave pg_catalog out of it, so that it comes first (ALTER ROLE … RESET search_path, and the DSN)")
	}
	if err == nil {
		err = through.QueryRowContext(guard.Own(ctx, wallSQL), wallSQL).Scan(&found)
	}
	if err == nil {
		err = json.Unmarshal([]byte(found), &breaches)
	}
	if err != nil {
		return fmt.Errorf("tenancy: ask PostgreSQL about the login: %w", err)
	}
	for _, b := range breaches {
		switch {
		case !b.Refused:
		case b.Code == signing.CodeStatementsVisible && p.config.DangerouslyShowStatements:
			p.config.Logger.WarnContext(ctx, "tenancy: SQL of one tenant can read the texts of the statements of others (DangerouslyShowStatements)")
		default:
			return refuseBreach(b)
		}
	}
	return nil
}

// refuseBreach says what is wrong, and what to do.
func refuseBreach(b signing.Breach) error {
	remedy := "docs/findings.md#" + b.Code
	if len(b.Fix) > 0 {
		remedy = "as a superuser: " + strings.Join(b.Fix, "; ")
	}
	if b.Code == signing.CodeStatementsVisible {
		remedy += ". Where the server does not let you, see docs/injection.md"
	}
	if b.Code == signing.CodeFunctionsDiffer {
		return wrapf(ErrUnsafeDatabase, "%s (%s): migrate with rls.Isolation{Signed: true}", b.Problem, b.Code)
	}
	return wrapf(ErrUnsafeRole, "with SigningKeys the login must have no more rights than its statements need: %s (%s): %s", b.Problem, b.Code, remedy)
}
