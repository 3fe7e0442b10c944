package tenancy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"gorm.io/gorm"

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
	case c.SigningKeys == nil && (c.DangerouslyUnboundProofs || c.DangerouslyAcceptUnsigned || c.ProofLifetime != 0):
		return errors.New("ProofLifetime, DangerouslyUnboundProofs, DangerouslyAcceptUnsigned: set SigningKeys as well")
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
func (p *Plugin) checkSigning(ctx context.Context, pool *pool, through gorm.ConnPool) error {
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
	var verified bool
	verifySQL := `SELECT coalesce(` + signing.Call(signing.FunctionTenant, p.config.Setting) + ` OPERATOR(pg_catalog.=) $1, false)`
	ctx = guard.Own(guard.WithTenant(ctx, probe), verifySQL)
	if err := through.QueryRowContext(ctx, verifySQL, probe).Scan(&verified); err != nil {
		return fmt.Errorf("tenancy: ask PostgreSQL about the signature: %w", err)
	}
	if !verified {
		return wrapf(ErrUnsafeDatabase, "PostgreSQL refuses the signature: the key is not in %s.keys, the clocks differ by more than %s, or a pooler is "+
			"between, which takes another process of the server for each transaction (Config.DangerouslyUnboundProofs) or another login",
			signing.Schema, signing.Skew)
	}
	return nil
}

// wallSQL returns what SQL of the login could use against other tenants, of what the catalog shows: the first that there is, or NULL. The
// roles are those that the login can become.
var wallSQL = `
WITH closure AS (
    SELECT r.oid, r.rolname::pg_catalog.text AS name FROM pg_catalog.pg_roles r
    WHERE pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
), problems (rank, problem) AS (
    SELECT 1, pg_catalog.format('can read or change the signing keys: REVOKE ALL ON ALL TABLES IN SCHEMA %s FROM %I', '` + signing.Schema + `', c.name)
    FROM closure c JOIN pg_catalog.pg_class k ON k.relnamespace = '` + signing.Schema + `'::pg_catalog.regnamespace AND k.relkind IN ('r', 'p', 'v', 'm')
    WHERE pg_catalog.has_any_column_privilege(c.oid, k.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
       OR pg_catalog.has_table_privilege(c.oid, k.oid, 'DELETE, TRUNCATE, TRIGGER')
  UNION ALL
    SELECT 2, pg_catalog.format('can become the role %I, which policies do not bind: REVOKE %1$I FROM what leads to it', c.name)
    FROM closure c JOIN pg_catalog.pg_roles r USING (oid) WHERE r.rolsuper OR r.rolbypassrls OR r.rolcreaterole
  UNION ALL
    SELECT 3, pg_catalog.format('is a member of %I, one of the roles of PostgreSQL itself: REVOKE it', c.name)
    FROM closure c WHERE c.name ~ '^pg_' AND c.name <> 'pg_database_owner'
  UNION ALL
    SELECT 4, pg_catalog.format('can become %I, for which the policy %I on %s lets every row through: REVOKE %1$I, and give Config.AdminDB a login of its own',
        c.name, p.polname, p.polrelid::pg_catalog.regclass)
    FROM closure c JOIN pg_catalog.pg_policy p ON c.oid = ANY (p.polroles) AND p.polpermissive
    WHERE pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
  UNION ALL
    SELECT 5, pg_catalog.format('may make temporary objects: REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC, %I', pg_catalog.current_database(), c.name)
    FROM closure c WHERE pg_catalog.has_database_privilege(c.oid, pg_catalog.current_database(), 'TEMPORARY')
  UNION ALL
    SELECT 6, pg_catalog.format('may create schemas: REVOKE CREATE ON DATABASE %I FROM PUBLIC, %I', pg_catalog.current_database(), c.name)
    FROM closure c WHERE pg_catalog.has_database_privilege(c.oid, pg_catalog.current_database(), 'CREATE')
  UNION ALL
    SELECT 7, pg_catalog.format('may create objects in the schema %I: REVOKE CREATE ON SCHEMA %1$I FROM PUBLIC, %I', n.nspname, c.name)
    FROM closure c, pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(temp|toast_temp)_' AND pg_catalog.has_schema_privilege(c.oid, n.oid, 'CREATE')
  UNION ALL
    SELECT 8, pg_catalog.format('owns %s, of the role %I: ALTER … OWNER TO another role',
        CASE WHEN d.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass THEN 'large objects'
             ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END, c.name)
    FROM closure c JOIN pg_catalog.pg_shdepend d ON d.refobjid = c.oid AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        AND d.deptype = 'o' AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
  UNION ALL
    SELECT 9, 'shows the text of its statements to all of its sessions: ALTER ROLE ' || pg_catalog.quote_ident(session_user) || ' SET track_activities = off, as a superuser'
    WHERE pg_catalog.current_setting('track_activities') = 'on'
  UNION ALL
    SELECT 10, 'can read pg_stat_statements: REVOKE SELECT ON ' || s.oid::pg_catalog.regclass || ' FROM PUBLIC'
    FROM pg_catalog.pg_class s WHERE s.relname = 'pg_stat_statements'
        AND EXISTS (SELECT FROM closure c WHERE pg_catalog.has_table_privilege(c.oid, s.oid, 'SELECT'))
)
SELECT (SELECT problem FROM problems ORDER BY rank, problem LIMIT 1)`

// checkWall refuses a database that does not verify, and a login that can do what the signature does not protect from.
func (p *Plugin) checkWall(ctx context.Context, through gorm.ConnPool) error {
	var (
		login   string
		exists  bool
		problem *string
	)
	const firstSQL = `SELECT session_user::pg_catalog.text, EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '` + signing.Schema + `')`
	err := through.QueryRowContext(guard.Own(ctx, firstSQL), firstSQL).Scan(&login, &exists)
	if err == nil && !exists {
		return wrapf(ErrUnsafeDatabase, "the schema %s is missing: migrate with rls.Isolation{Signed: true}, and add the key to it", signing.Schema)
	}
	if err == nil {
		err = through.QueryRowContext(guard.Own(ctx, wallSQL), wallSQL).Scan(&problem)
	}
	switch {
	case err != nil:
		return fmt.Errorf("tenancy: ask PostgreSQL about the login: %w", err)
	case problem != nil:
		return wrapf(ErrUnsafeRole, "with SigningKeys, %s must have no more rights than its statements need: it %s", quote(login), *problem)
	}
	return nil
}
