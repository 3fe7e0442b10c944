package attack_test

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// session is a connection without the guard, on which a test plays what an attacker sends.
type session struct {
	*pgx.Conn
	t testing.TB
}

func connect(t testing.TB, dsn string) session {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return session{c, t}
}

// sees returns the notes that are seen with a tenant and a proof.
func (s session) sees(tenant, proof string) (seen string) {
	s.t.Helper()
	_, err := s.Exec(s.t.Context(), `SELECT set_config('app.tenant_id', $1, false), set_config('app.tenant_id_proof', $2, false)`, tenant, proof)
	require.NoError(s.t, err)
	require.NoError(s.t, s.QueryRow(s.t.Context(), all+` /* order */`).Scan(&seen))
	return seen
}

// claims are those of a good proof for the victim in this session.
func (s session) claims() signing.Claims {
	return signing.Claims{
		Kind: signing.Tenant, Setting: setting, Tenant: "victim", Login: s.Config().User, Process: s.PgConn().PID(),
		Issued: time.Now(), Expires: time.Now().Add(time.Minute),
	}
}

// TestProofIsForOneUse: each of the claims must be true where the proof is used, and the digest must be whole.
func TestProofIsForOneUse(t *testing.T) {
	d := signed(t)
	s := connect(t, d.App.DSN)
	k1 := key("k1", 1)
	require.Equal(t, "v1,v2", s.sees("victim", string(k1.Proof(s.claims()))), "the good one")
	for name, change := range map[string]func(*signing.Claims){
		"another connection":    func(c *signing.Claims) { c.Process++ },
		"another login":         func(c *signing.Claims) { c.Login += "x" },
		"another tenant":        func(c *signing.Claims) { c.Tenant = "evil" },
		"a lookup":              func(c *signing.Claims) { c.Kind = signing.Lookup },
		"expired":               func(c *signing.Claims) { c.Expires = time.Now().Add(-signing.Skew - 10*time.Second) },
		"before server's start": func(c *signing.Claims) { c.Issued = time.Now().Add(-24 * time.Hour) },
		"tenant in the login":   func(c *signing.Claims) { c.Login, c.Tenant = c.Login+"v", "ictim" },
		"login in the tenant":   func(c *signing.Claims) { c.Login, c.Tenant = c.Login[:1], c.Login[1:]+"victim" },
	} {
		c := s.claims()
		change(&c)
		require.Empty(t, s.sees("victim", string(k1.Proof(c))), name)
	}
	require.Empty(t, s.sees("victim", string(key("k1", 2).Proof(s.claims()))), "another secret under the same id")
	require.Empty(t, s.sees("victim", string(key("k2", 1).Proof(s.claims()))), "an unknown id")

	c := s.claims()
	c.Expires = time.Now().Add(-signing.Skew / 2)
	require.Equal(t, "v1,v2", s.sees("victim", string(k1.Proof(c))), "clocks that differ by less than the skew")
	c = s.claims()
	c.Issued, c.Expires = time.Now().Add(signing.Skew/2), time.Now().Add(2*time.Minute)
	require.Equal(t, "v1,v2", s.sees("victim", string(k1.Proof(c))))

	good := k1.Proof(s.claims())
	for i := range good {
		changed := append([]byte{}, good...)
		changed[i] ^= 1
		require.Empty(t, s.sees("victim", string(changed)), "byte %d", i)
	}
}

// TestProofOfAnotherConnection: what one connection's session shows of its own proof is worth nothing on the next, and a proof that
// was made for a pooler everything for this login and nothing for another.
func TestProofOfAnotherConnection(t *testing.T) {
	d := signed(t)
	read := func(db *sql.DB) (proof string) {
		require.NoError(t, db.QueryRowContext(as("victim"), `SELECT current_setting('app.tenant_id_proof')`).Scan(&proof))
		return proof
	}
	other := connect(t, d.App.DSN)
	owner := connect(t, d.Owner.DSN)
	bound := read(d.app(t, pgx.QueryExecModeExec, signer(time.Minute, false, key("k1", 1))))
	require.Empty(t, other.sees("victim", bound))
	require.Empty(t, owner.sees("victim", bound))
	pooled := read(d.app(t, pgx.QueryExecModeExec, signer(time.Minute, true, key("k1", 1))))
	require.Equal(t, "v1,v2", other.sees("victim", pooled))
	require.Empty(t, owner.sees("victim", pooled))
	require.Empty(t, other.sees("evil", pooled))
}

// TestProofIsRenewed: the guard makes a proof again when half of its life is over, and one that was never renewed expires.
func TestProofIsRenewed(t *testing.T) {
	d := signed(t)
	db := d.app(t, pgx.QueryExecModeCacheStatement, signer(time.Minute, false, key("k1", 1)))
	proof := func() (p string) {
		require.NoError(t, db.QueryRowContext(as("victim"), `SELECT current_setting('app.tenant_id_proof')`).Scan(&p))
		return p
	}
	first := proof()
	require.Equal(t, first, proof(), "made once")
	clock.Advance(29 * time.Second)
	require.Equal(t, first, proof())
	clock.Advance(2 * time.Second)
	require.NotEqual(t, first, proof())
	clock.Advance(-31 * time.Second)

	late := 2*time.Minute + signing.Skew // what a clock that is slow by this much makes has expired
	clock.Advance(-late)
	defer clock.Advance(late)
	require.Empty(t, bodies(t, d.app(t, pgx.QueryExecModeExec, signer(time.Minute, false, key("k1", 1))), "victim"))
}

// TestKeysRotate: with both keys in the database, statements succeed before and after the signer changes keys; a retired key is
// worth nothing.
func TestKeysRotate(t *testing.T) {
	d := signed(t)
	k1, k2 := key("k1", 1), key("k2", 2)
	later, err := signing.NewKey("k2", secret(2), clock.Now().Add(time.Hour))
	require.NoError(t, err)
	db := d.app(t, pgx.QueryExecModeCacheStatement, signer(time.Minute, false, k1, later))
	ended := make(chan struct{})
	failures := make(chan string, 1)
	go func() { // statements that run meanwhile
		defer close(failures)
		for {
			select {
			case <-ended:
				return
			default:
			}
			var seen string
			if err := db.QueryRowContext(as("victim"), all).Scan(&seen); err != nil || seen != "v1,v2" {
				failures <- fmt.Sprint(seen, err)
				return
			}
		}
	}()
	d.addKey(t, k2)
	requireKey := func(id string) {
		t.Helper()
		var proof string
		require.NoError(t, db.QueryRowContext(as("victim"), `SELECT current_setting('app.tenant_id_proof')`).Scan(&proof))
		require.True(t, strings.HasSuffix(proof, id))
	}
	requireKey("k1")
	s := connect(t, d.App.DSN)
	require.Equal(t, "v1,v2", s.sees("victim", string(k2.Proof(s.claims()))))
	require.Equal(t, "v1,v2", s.sees("victim", string(k1.Proof(s.claims()))))

	_, err = d.OwnerDB.DB()
	require.NoError(t, err)
	d.AsOwner(t, `DELETE FROM tenancy_signed.keys WHERE id = 'k2'; SELECT tenancy_signed.add_key('k2', '`+string(secret(2))+`')`)
	require.Equal(t, "v1,v2", s.sees("victim", string(k2.Proof(s.claims()))), "add_key makes the same as the signer")
	require.ErrorContains(t, d.OwnerDB.Exec(`SELECT tenancy_signed.add_key('k3', ?)`, secret(3)).Error, "retire one first")

	second := d.app(t, pgx.QueryExecModeCacheStatement, signer(time.Minute, false, k1, k2))
	require.Equal(t, "v1,v2", bodies(t, second, "victim"), "the last of the valid keys signs")
	close(ended)
	require.Empty(t, <-failures)

	d.AsOwner(t, `DELETE FROM tenancy_signed.keys WHERE id = 'k1'`)
	require.Equal(t, "v1,v2", bodies(t, second, "victim"))
	require.Empty(t, s.sees("victim", string(k1.Proof(s.claims()))), "retired")
}

// TestGarbageIsNoProof: whatever the settings hold, the functions return NULL, and no error tells anything.
func TestGarbageIsNoProof(t *testing.T) {
	d := signed(t)
	s := connect(t, d.App.DSN)
	good := string(key("k1", 1).Proof(s.claims()))
	for _, proof := range []string{
		"", " ", "x", strings.Repeat("0", 64), strings.Repeat("é", 100), good[:64], good[:87], good[64:], good + "x", "x" + good,
		strings.Repeat("x", 1<<20), good + strings.Repeat(" ", 1<<20), strings.ToUpper(good), strings.Repeat("\\x", 60), good[:66] + "xxxxxxxxxxyyyyyyyyyyk1",
		strings.Repeat("a", 64) + "1tp--------------------k1", strings.Repeat("\U0001F600", 60), "'; DROP TABLE notes; --", "\x01\x02",
	} {
		require.Empty(t, s.sees("victim", proof))
	}
	for _, tenant := range []string{"", strings.Repeat("x", 1<<20), strings.Repeat("é", 513), "victim ", "VICTIM", "\\x"} {
		require.Empty(t, s.sees(tenant, good))
	}
	for _, name := range []string{"x", "", "a b", "server_version", "app.tenant_id_proof", strings.Repeat("x", 1<<16)} {
		var tenant *string
		require.NoError(t, s.QueryRow(t.Context(), `SELECT tenancy_signed.tenant($1)`, name).Scan(&tenant))
		require.Nil(t, tenant)
	}
	require.Equal(t, "v1,v2", s.sees("victim", good))
}

// TestEitherForm: while a database is changed over, statements without a proof pass, and a proof that is there must be good.
func TestEitherForm(t *testing.T) {
	d := newDatabase(t, signing.Call(signing.FunctionTenantEither, setting), signing.Call(signing.FunctionLookupEither, setting))
	s := connect(t, d.App.DSN)
	require.Equal(t, "v1,v2", s.sees("victim", ""))
	require.Equal(t, "v1,v2", s.sees("victim", string(key("k1", 1).Proof(s.claims()))))
	require.Empty(t, s.sees("victim", "x"))
	require.Empty(t, s.sees("", ""))
	for _, sign := range []*signing.Signer{nil, signer(time.Minute, false, key("k1", 1))} {
		db := d.app(t, pgx.QueryExecModeCacheStatement, sign)
		require.Equal(t, "e1", bodies(t, db, "evil"))
		var n int
		require.NoError(t, db.QueryRowContext(guard.WithoutTenant(t.Context()), `SELECT count(*) FROM members`).Scan(&n))
		require.Equal(t, 2, n)
	}
}

// TestFunctionsIgnoreTheSearchPath: objects that come first in the search_path change nothing. They are made by a superuser, because
// the application can make none.
func TestFunctionsIgnoreTheSearchPath(t *testing.T) {
	d := signed(t)
	d.AsSuperuser(t, `CREATE SCHEMA fake; GRANT USAGE ON SCHEMA fake TO PUBLIC;
		CREATE FUNCTION fake.yes(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
		CREATE FUNCTION fake.yes(bytea, bytea) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
		CREATE FUNCTION fake.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$SELECT '\x00'::bytea$$;
		CREATE FUNCTION fake.current_setting(text, bool) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'victim'$$;
		CREATE OPERATOR fake.= (FUNCTION = fake.yes, LEFTARG = text, RIGHTARG = text);
		CREATE OPERATOR fake.= (FUNCTION = fake.yes, LEFTARG = bytea, RIGHTARG = bytea)`)
	s := connect(t, d.App.DSN)
	for _, path := range []string{`SET search_path = fake, public, pg_catalog`, `SET search_path = ''`} {
		_, err := s.Exec(t.Context(), path)
		require.NoError(t, err)
		var tenant *string
		forged := string(key("k1", 9).Proof(s.claims()))
		_, err = s.Exec(t.Context(), `SELECT pg_catalog.set_config('app.tenant_id', 'victim', false), pg_catalog.set_config('app.tenant_id_proof', $1, false)`, forged)
		require.NoError(t, err)
		require.NoError(t, s.QueryRow(t.Context(), `SELECT tenancy_signed.tenant('app.tenant_id')`).Scan(&tenant))
		require.Nil(t, tenant)
		_, err = s.Exec(t.Context(), `SELECT pg_catalog.set_config('app.tenant_id_proof', $1, false)`, string(key("k1", 1).Proof(s.claims())))
		require.NoError(t, err)
		require.NoError(t, s.QueryRow(t.Context(), `SELECT tenancy_signed.tenant('app.tenant_id')`).Scan(&tenant))
		require.Equal(t, "victim", *tenant)
	}
}

// TestFunctionRunsOnceAndInTheLeader: one evaluation a statement, by the index, and in parallel plans by the leader, whose process the
// proof names.
func TestFunctionRunsOnceAndInTheLeader(t *testing.T) {
	d := signed(t)
	d.AsSuperuser(t, `INSERT INTO notes (tenant_id, body) SELECT 't' || i % 100, 'x' FROM generate_series(1, 50000) i; ANALYZE notes`)
	s := connect(t, d.App.DSN) // the guard refuses EXPLAIN
	claims := s.claims()
	claims.Tenant = "t5"
	require.NotEmpty(t, s.sees("t5", string(key("k1", 1).Proof(claims))))
	explain := func(sql string) (plan string) {
		rows, err := s.Query(t.Context(), sql)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			plan += line + "\n"
		}
		require.NoError(t, rows.Err())
		return plan
	}
	plan := explain(`EXPLAIN (ANALYZE, TIMING OFF) SELECT * FROM notes`)
	require.Contains(t, plan, "InitPlan")
	require.Len(t, regexp.MustCompile(`(?m)^\s*InitPlan \d`).FindAllString(plan, -1), 1)
	require.Contains(t, plan, "notes_tenant_id_id_idx")

	tx, err := s.Begin(t.Context())
	require.NoError(t, err)
	for _, set := range []string{
		`max_parallel_workers_per_gather = 4`, `parallel_setup_cost = 0`, `parallel_tuple_cost = 0`, `min_parallel_table_scan_size = 0`,
		`enable_indexscan = off`, `enable_bitmapscan = off`, `enable_indexonlyscan = off`, `parallel_leader_participation = off`,
	} {
		_, err = tx.Exec(t.Context(), "SET LOCAL "+set)
		require.NoError(t, err)
	}
	var n int
	require.NoError(t, tx.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&n))
	require.Equal(t, 500, n)
	require.Contains(t, explain(`EXPLAIN (ANALYZE, TIMING OFF) SELECT count(*) FROM notes`), "Workers Launched")
	require.NoError(t, tx.Rollback(t.Context()))
}

// TestProofAtCommit: a deferred trigger runs with a new proof if the last statement is so long ago that its own may expire.
func TestProofAtCommit(t *testing.T) {
	d := signed(t)
	d.AsOwner(t, `CREATE TABLE seen (proof text, notes int); GRANT SELECT, INSERT ON seen TO PUBLIC;
		CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO seen SELECT current_setting(''app.tenant_id_proof''), count(*) FROM notes; RETURN NULL; END';
		CREATE TRIGGER early AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION sees();
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sees()`)
	db := d.app(t, pgx.QueryExecModeCacheStatement, signer(time.Minute, false, key("k1", 1)))
	for _, test := range []struct {
		wait            time.Duration
		notes, distinct int
	}{{0, 3, 1}, {40 * time.Second, 4, 2}} {
		tx, err := db.BeginTx(as("victim"), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(as("victim"), `INSERT INTO notes (body) VALUES ($1)`, "v3")
		require.NoError(t, err)
		clock.Advance(test.wait)
		require.NoError(t, tx.Commit())
		clock.Advance(-test.wait)
		var distinct int
		require.NoError(t, db.QueryRowContext(guard.InTenantRole(t.Context()), `SELECT count(DISTINCT proof) FROM seen WHERE notes = $1`, test.notes).Scan(&distinct))
		require.Equal(t, test.distinct, distinct)
	}
}
