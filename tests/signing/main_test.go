// Package signing_test shows against a real PostgreSQL that its functions take the proofs that package signing makes, and no others.
package signing_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

const setting = "app.tenant_id"

// database has the functions, and a key that it knows.
type database struct {
	*testdb.Database
	signer string // the role that owns the functions
	key    signing.Key
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	d := &database{Database: testdb.New(t)}
	d.signer = "signer_of_" + d.Name
	d.AsSuperuser(t, `CREATE ROLE `+d.signer+` NOLOGIN`, `GRANT `+d.signer+` TO `+d.Owner.Role, `GRANT CREATE ON DATABASE `+d.Name+` TO `+d.Owner.Role)
	t.Cleanup(func() { d.AsSuperuser(t, `DROP OWNED BY `+d.signer+` CASCADE`, `DROP ROLE `+d.signer) })
	d.setUp(t)
	d.key = newKey(t, "one", 'a')
	d.add(t, d.key.ID(), 'a')
	return d
}

func newKey(t *testing.T, id string, secret byte) signing.Key {
	t.Helper()
	k, err := signing.NewKey(id, secretOf(secret), time.Time{})
	require.NoError(t, err)
	return k
}

// secretOf is longer for some letters than for others.
func secretOf(letter byte) []byte {
	secret := make([]byte, signing.MinSecret+int(letter)%(signing.MaxSecret-signing.MinSecret+1))
	for n := range secret {
		secret[n] = letter + byte(n)
	}
	return secret
}

// setUp makes the schema as the owner.
func (d *database) setUp(t *testing.T) {
	t.Helper()
	d.as(t, d.Owner, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), signing.Setup(d.signer))
		require.NoError(t, err)
	})
}

// add adds a key by SQL.
func (d *database) add(t *testing.T, id string, secret byte) {
	t.Helper()
	d.asSigner(t, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), `SELECT tenancy_signed.add_key($1, $2)`, id, secretOf(secret))
		require.NoError(t, err)
	})
}

func (d *database) as(t *testing.T, login pgserver.Login, do func(*pgx.Conn)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), login.DSN)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	do(conn)
}

func (d *database) asSigner(t *testing.T, do func(*pgx.Conn)) {
	t.Helper()
	d.as(t, d.Owner, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), `SET ROLE `+d.signer)
		require.NoError(t, err)
		do(conn)
	})
}

// claims are good ones of the tenant a.
func claims(conn *pgx.Conn) signing.Claims {
	return signing.Claims{
		Kind: signing.Tenant, Setting: setting, Tenant: "a", Login: conn.Config().User, Process: conn.PgConn().PID(),
		Issued: time.Now(), Expires: time.Now().Add(time.Minute),
	}
}

// answers are what the functions say, with "NULL" for NULL, in the order of signing.Functions.
type answers [4]string

var (
	nothing  = answers{"NULL", "NULL", "NULL", "NULL"}
	tenant   = answers{"a", "NULL", "a", "NULL"}
	lookup   = answers{"NULL", "true", "NULL", "true"}
	unsigned = answers{"NULL", "NULL", "a", "true"}
)

// ask sets tenant and proof as the guard does, and asks all functions in the same transaction.
func ask(t *testing.T, conn *pgx.Conn, tenant string, proof []byte) (got answers) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }()
	_, err = tx.Exec(t.Context(), `SELECT set_config($1, $2, true), set_config($3, $4, true)`, setting, tenant, setting+signing.ProofSuffix, string(proof))
	require.NoError(t, err)
	for n, f := range signing.Functions {
		var answer *string
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT `+signing.Call(f.Name, setting)+`::text`).Scan(&answer))
		got[n] = "NULL"
		if answer != nil {
			got[n] = *answer
		}
	}
	return got
}

func pid(conn *pgx.Conn) string { return strconv.FormatUint(uint64(conn.PgConn().PID()), 10) }
