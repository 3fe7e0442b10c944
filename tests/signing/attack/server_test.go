package attack_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// server is one of the test's own, with a database like that of newDatabase.
type server struct {
	*pgserver.Server
	*pgserver.Database
}

func newServer(t *testing.T) server {
	t.Helper()
	s, err := pgserver.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	own := server{s, d}
	own.as(t, superuser(t, s, "postgres"), `CREATE ROLE signer NOLOGIN`)
	own.setUp(t, d.Name)
	return own
}

// setUp makes the tables, and the key k1, in a database of the server.
func (s server) setUp(t *testing.T, database string) {
	t.Helper()
	inner, outer := key("k1", 1).Pads()
	s.as(t, superuser(t, s.Server, database), signing.Setup("signer"), rowsAndTables(s.Database),
		fmt.Sprintf(`INSERT INTO tenancy_signed.keys (id, inner_pad, outer_pad) VALUES ('k1', '\x%x', '\x%x')`, inner, outer))
}

func rowsAndTables(d *pgserver.Database) string {
	return fmt.Sprintf(tables, d.App.Role, d.Lookup.Role, signing.Call(signing.FunctionTenant, setting), signing.Call(signing.FunctionLookup, setting), d.Admin.Role) +
		`; ` + rows
}

func (s server) as(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer c.Close(context.WithoutCancel(t.Context()))
	for _, statement := range statements {
		_, err := c.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

func superuser(t *testing.T, s *pgserver.Server, database string) string {
	t.Helper()
	return at(t, s.DSN(), "", database)
}

// at is a DSN with another address, or database, where they are given.
func at(t *testing.T, dsn, address, database string) string {
	t.Helper()
	u, err := url.Parse(testdb.WithParam(dsn, "client_encoding", "UTF8")) // as the guard demands
	require.NoError(t, err)
	if address != "" {
		u.Host = address
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

// TestProofEndsWithTheServer: process numbers begin again with it, so that a proof of before may name a process of now. This one names
// none.
func TestProofEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	started := func() (at float64) {
		c := connect(t, s.App.DSN)
		require.NoError(t, c.QueryRow(t.Context(), `SELECT date_part('epoch', pg_postmaster_start_time())`).Scan(&at))
		require.NoError(t, c.Close(t.Context()))
		return at
	}
	first := started()
	// Issued as long before the server's start as clocks may differ: any later start is after that.
	claims := signing.Claims{
		Kind: signing.Tenant, Setting: setting, Tenant: "victim", Login: s.App.Role,
		Issued: time.Unix(int64(math.Ceil(first)), 0).Add(-signing.Skew), Expires: time.Now().Add(time.Hour),
	}
	before := string(key("k1", 1).Proof(claims))
	require.Equal(t, "v1,v2", connect(t, s.App.DSN).sees("victim", before))
	for started() <= math.Ceil(first) {
		require.NoError(t, s.Restart(t.Context()))
	}
	c := connect(t, s.App.DSN)
	require.Empty(t, c.sees("victim", before))

	// The same for one that names a process whose number is used again.
	claims.Process = c.PgConn().PID()
	require.Empty(t, c.sees("victim", string(key("k1", 1).Proof(claims))))
	require.Equal(t, "v1,v2", c.sees("victim", string(key("k1", 1).Proof(c.claims()))))
}

// TestEncodings: in databases of other encodings, whatever the settings hold is no proof or is refused, with nothing secret in the error.
// A good one is one, also for a tenant whose id has other bytes there.
func TestEncodings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, encoding := range []string{"UTF8", "LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			name := strings.ToLower("db_" + encoding)
			s.as(t, superuser(t, s.Server, "postgres"), fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LOCALE 'C'`, name, encoding))
			s.setUp(t, name)
			c := connect(t, at(t, s.App.DSN, "", name))
			good := string(key("k1", 1).Proof(c.claims()))
			require.Equal(t, "v1,v2", c.sees("victim", good))
			if encoding == "LATIN1" || encoding == "WIN1252" {
				s.as(t, superuser(t, s.Server, name), `INSERT INTO notes (tenant_id, body) VALUES ('Özil', 'o1')`)
				claims := c.claims()
				claims.Tenant = "Özil"
				require.Equal(t, "o1", c.sees("Özil", string(key("k1", 1).Proof(claims))))
				require.Empty(t, c.sees("Ozil", string(key("k1", 1).Proof(claims))))
			}
			inner, outer := key("k1", 1).Pads()
			for _, garbage := range []string{
				`repeat(chr(255), 40)`, `repeat(chr(128), 255)`, `chr(1)`, `repeat('x', 1048576)`, `repeat(chr(233), 1048576)`, `convert_from('\xff', 'SQL_ASCII')`,
				`convert_from('\xc3', 'LATIN1')`, `convert_from(decode(repeat('ff', 90), 'hex'), 'LATIN1')`, `convert_from('\xe282', 'UTF8')`, `E'\xff\xfe'`, `repeat(E'\xc3', 80)`,
				`E'\xa4' || current_setting('app.good')`, `current_setting('app.good') || E'\xff'`, `overlay(current_setting('app.good') placing chr(200) from 1)`,
				`overlay(current_setting('app.good') placing chr(200) from 66)`, `overlay(current_setting('app.good') placing E'\xff' from 80)`, `upper(current_setting('app.good'))`,
			} {
				for _, query := range []string{
					`SELECT set_config('app.tenant_id', 'victim', true), set_config('app.tenant_id_proof', ` + garbage + `, true)`,
					`SELECT set_config('app.tenant_id', ` + garbage + `, true), set_config('app.tenant_id_proof', current_setting('app.good'), true)`,
				} {
					tx, err := c.Begin(t.Context())
					require.NoError(t, err)
					_, err = tx.Exec(t.Context(), `SELECT set_config('app.good', $1, true)`, good)
					require.NoError(t, err)
					_, err = tx.Exec(t.Context(), query)
					var seen string
					if err == nil {
						err = tx.QueryRow(t.Context(), all).Scan(&seen)
					}
					require.Empty(t, seen, query)
					if err != nil {
						text := fmt.Sprintf("%+v", err)
						for _, part := range []string{good[:64], string(secret(1)), fmt.Sprintf("%x", inner[:8]), fmt.Sprintf("%x", outer[:8])} {
							require.NotContains(t, text, part)
						}
					}
					require.NoError(t, tx.Rollback(t.Context()))
				}
			}
			require.Equal(t, "v1,v2", c.sees("victim", good))
		})
	}
}

// FuzzSettings lets the fuzzer choose what the settings hold: only the good proof with its tenant shows rows.
func FuzzSettings(f *testing.F) {
	d := signed(f)
	s := connect(f, d.App.DSN)
	now := s.claims()
	now.Expires = now.Expires.Add(time.Hour)
	good := string(key("k1", 1).Proof(now))
	for _, tenant := range []string{"victim", "", "evil", "\xff", "victim\x00", "é", strings.Repeat("x", 2000)} {
		f.Add(tenant, "")
		f.Add(tenant, good)
		f.Add(tenant, good[:64])
		f.Add(tenant, good+"\x00")
	}
	f.Fuzz(func(t *testing.T, tenant, proof string) {
		_, err := s.Exec(t.Context(), `SELECT set_config('app.tenant_id', $1, false), set_config('app.tenant_id_proof', $2, false)`, tenant, proof)
		if err != nil {
			return // such as bytes that are no UTF-8
		}
		var seen string
		require.NoError(t, s.QueryRow(t.Context(), all).Scan(&seen))
		require.Equal(t, tenant == "victim" && proof == good, seen != "")
	})
}

// TestReplicaAsksForTheProof: a streaming replica verifies by its own processes and its own start, with the keys of the primary.
func TestReplicaAsksForTheProof(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	replica := s.replica(t)
	c, primary := connect(t, at(t, s.App.DSN, replica, "")), connect(t, s.App.DSN)
	require.Eventually(t, func() bool { return c.sees("victim", string(key("k1", 1).Proof(c.claims()))) == "v1,v2" }, 30*time.Second, 10*time.Millisecond)
	require.Empty(t, c.sees("evil", string(key("k1", 1).Proof(c.claims()))))
	require.Empty(t, c.sees("victim", ""))
	elsewhere := primary.claims()
	if elsewhere.Process == c.PgConn().PID() {
		elsewhere.Process++
	}
	require.Empty(t, c.sees("victim", string(key("k1", 1).Proof(elsewhere))), "of a process of the primary")

	// A key that is retired on the primary is retired there.
	s.as(t, superuser(t, s.Server, s.Name), `DELETE FROM tenancy_signed.keys`)
	require.Eventually(t, func() bool { return c.sees("victim", string(key("k1", 1).Proof(c.claims()))) == "" }, 30*time.Second, 10*time.Millisecond)
}

// replica copies the server while it runs, as a backup does, and returns the address of what streams from it.
func (s server) replica(t *testing.T) string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), superuser(t, s.Server, "postgres"))
	require.NoError(t, err)
	defer c.Close(context.WithoutCancel(t.Context()))
	var data, programs, label string
	require.NoError(t, c.QueryRow(t.Context(), `SELECT current_setting('data_directory'), (SELECT setting FROM pg_config() WHERE name = 'BINDIR')`).Scan(&data, &programs))
	start, stop := `SELECT pg_backup_start('replica', true)`, `SELECT labelfile FROM pg_backup_stop(false)`
	if s.Version() < 150000 {
		start, stop = `SELECT pg_start_backup('replica', true, false)`, `SELECT labelfile FROM pg_stop_backup(false, false)`
	}
	_, err = c.Exec(t.Context(), start)
	require.NoError(t, err)
	copied, err := pgserver.StartCompanion(t.Context(), nil, "/bin/sh", "-c", `pwd; umask 077; cp -r "$0" data; rm -rf data/postmaster.pid data/postmaster.opts`, data)
	require.NoError(t, err)
	defer func() { require.NoError(t, copied.Close()) }()
	<-copied.Ended()
	said, err := copied.Log()
	require.NoError(t, err)
	from, _, _ := strings.Cut(said, "\n")
	require.NoError(t, c.QueryRow(t.Context(), stop).Scan(&label))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	running, err := pgserver.StartCompanion(t.Context(), map[string]string{
		"backup_label":   label,
		"standby.signal": "",
		"replica.conf":   fmt.Sprintf("\nprimary_conninfo = '%s'\nport = %s\nmax_connections = 200\nwal_level = logical\n", s.DSN(), port),
	}, "/bin/sh", "-c", `set -e
		mv "$0/data" data
		cat replica.conf >> data/postgresql.conf
		mv backup_label standby.signal data
		exec "$1/postgres" -D data -k "$PWD" -c listen_addresses=127.0.0.1`, from, programs)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, err := running.Log()
			t.Logf("the replica said (%v):\n%s", err, log)
		}
		require.NoError(t, running.Close())
	})
	require.Eventually(t, func() bool {
		c, err := pgx.Connect(t.Context(), at(t, s.App.DSN, address, ""))
		return err == nil && c.Close(t.Context()) == nil
	}, 30*time.Second, 10*time.Millisecond, "the replica takes connections")
	return address
}
