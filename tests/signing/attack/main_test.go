package attack_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

const setting = "app.tenant_id"

// database has a table notes with a row of evil and two of victim, a table members that is looked up, and the key k1. Its policies
// believe a proof only, unless it was made by unsigned.
type database struct {
	*testdb.Database
	signer string // the role that owns the keys
}

// wall closes what injected SQL could otherwise keep something in. Settings of the server are not among it.
const wall = `
	DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database()); END $$;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;`

const rows = `INSERT INTO notes (tenant_id, body) VALUES ('evil', 'e1'), ('victim', 'v1'), ('victim', 'v2')`

const tables = `
	CREATE TABLE notes (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		tenant_id text NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), ''),
		body text NOT NULL);
	CREATE INDEX ON notes (tenant_id, id);
	CREATE TABLE members (tenant_id text NOT NULL, email text NOT NULL);
	INSERT INTO members VALUES ('evil', 'e@x'), ('victim', 'v@x');
	ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
	ALTER TABLE notes FORCE ROW LEVEL SECURITY;
	ALTER TABLE members ENABLE ROW LEVEL SECURITY;
	CREATE POLICY tenant ON notes USING (tenant_id = (SELECT %[3]s)) WITH CHECK (tenant_id = (SELECT %[3]s));
	CREATE POLICY admin ON notes TO %[5]s USING (true);
	CREATE POLICY tenant ON members USING (tenant_id = (SELECT %[3]s));
	CREATE POLICY lookup ON members FOR SELECT TO %[2]s USING ((SELECT %[4]s));
	GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO %[1]s;
	GRANT SELECT ON notes TO %[5]s;
	GRANT SELECT ON members TO %[1]s, %[2]s;`

func signed(t testing.TB) *database {
	t.Helper()
	return newDatabase(t, signing.Call(signing.FunctionTenant, setting), signing.Call(signing.FunctionLookup, setting))
}

func unsigned(t testing.TB) *database {
	t.Helper()
	return newDatabase(t, `NULLIF(current_setting('app.tenant_id', true), '')`, `true`)
}

func newDatabase(t testing.TB, tenant, lookup string) *database {
	t.Helper()
	d := &database{Database: testdb.New(t)}
	d.signer = d.Name + "_signer"
	d.AsSuperuser(t,
		fmt.Sprintf(`CREATE ROLE %[1]s NOLOGIN; CREATE ROLE %[2]s NOLOGIN; GRANT %[1]s TO %[3]s; GRANT %[2]s TO %[4]s; ALTER ROLE %[4]s NOINHERIT`,
			d.signer, d.lookup(), d.Owner.Role, d.App.Role),
		fmt.Sprintf(`GRANT CREATE ON DATABASE %s TO %s; REVOKE %s FROM %s`, d.Name, d.Owner.Role, d.Admin.Role, d.App.Role), wall)
	t.Cleanup(func() {
		d.AsSuperuser(t, `DROP SCHEMA tenancy_signed CASCADE; DROP TABLE members, notes CASCADE`,
			fmt.Sprintf(`DROP OWNED BY %[1]s, %[2]s; DROP ROLE %[1]s, %[2]s`, d.signer, d.lookup()))
	})
	d.AsOwner(t, signing.Setup(d.signer))
	d.AsOwner(t, fmt.Sprintf(tables, d.App.Role, d.lookup(), tenant, lookup, d.Admin.Role))
	d.AsSuperuser(t, rows)
	d.addKey(t, key("k1", 1))
	return d
}

func (d *database) lookup() string { return d.Name + "_lookup" }

// key is the same for the same arguments.
func key(id string, fill byte) signing.Key {
	k, err := signing.NewKey(id, secret(fill), time.Time{})
	if err != nil {
		panic("the key is invalid")
	}
	return k
}

func secret(fill byte) []byte {
	return []byte(strings.Repeat(string(rune('a'+fill)), signing.MinSecret))
}

// addKey adds a key as an operator does.
func (d *database) addKey(t testing.TB, k signing.Key) {
	t.Helper()
	inner, outer := k.Pads()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), `INSERT INTO tenancy_signed.keys (id, inner_pad, outer_pad) VALUES ($1, $2, $3)`, k.ID(), inner, outer)
	require.NoError(t, err)
}

func signer(lifetime time.Duration, unbound bool, keys ...signing.Key) *signing.Signer {
	source := func(context.Context) ([]signing.Key, error) { return keys, nil }
	return signing.NewSigner(source, lifetime, unbound, slog.New(slog.DiscardHandler))
}

// modes are those that can carry a proof.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
}

// app is a guarded pool of one connection of the application, which shows whatever one statement leaves to the next.
func (d *database) app(t testing.TB, mode pgx.QueryExecMode, s *signing.Signer) *sql.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = mode
	db := guard.Open(stdlib.GetConnector(*cfg), guard.Config{Setting: setting, LookupRole: d.lookup(), Signer: s})
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func as(tenant string) context.Context { return guard.WithTenant(context.Background(), tenant) }

// bodies are what a tenant sees of the notes.
func bodies(t testing.TB, db *sql.DB, tenant string) string {
	t.Helper()
	var seen string
	require.NoError(t, db.QueryRowContext(as(tenant), `SELECT coalesce(string_agg(body, ',' ORDER BY body), '') FROM notes`).Scan(&seen))
	return seen
}

func replace(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }

func contains(text, part string) bool { return strings.Contains(text, part) }
