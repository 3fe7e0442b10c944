package testdb

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// signed is what a database of NewSigned has beside others.
type signed struct {
	signer string // the role that owns the functions and the keys
	key    tenancy.SigningKey
}

// FirstKey is the id of the key that a signed database begins with. Its secret is FirstSecret.
const (
	FirstKey    = "first"
	firstLetter = 'f'
)

// FirstSecret returns the secret of the key FirstKey.
func FirstSecret() []byte { return secretOf(firstLetter) }

// signedForm is the name of a subtest in which New makes signed databases.
const signedForm = "signed"

// InBothForms runs a test twice: with databases whose policies go by the setting alone, and with databases whose policies demand the proof of
// a key, which New makes as well in a subtest of that name. A test whose expectations differ asks Signed.
func InBothForms(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Run("unsigned", test)
	t.Run(signedForm, test)
}

// InSignedForm reports whether New makes a signed database.
func InSignedForm(t testing.TB) bool {
	return slices.Contains(strings.Split(t.Name(), "/"), signedForm)
}

// NewSigned does what New does for a database whose policies demand the proof of a key: Isolation is Signed, Config has the key, and its
// admin client has a login of its own. App is a login of this database alone, behind the wall that the plugin demands.
func NewSigned(t testing.TB, models ...any) *Database {
	t.Helper()
	d := Of(t, pgserver.New(t))
	d.sign(t)
	if len(models) > 0 {
		d.Migrate(t, d.Isolation(), models...)
	}
	return d
}

func (d *Database) sign(t testing.TB) {
	t.Helper()
	d.signed = &signed{signer: "signer_of_" + d.Name}
	app := pgserver.Login{Role: "app_of_" + d.Name, DSN: WithLogin(d.App.DSN, "app_of_"+d.Name, "secret")}
	signer := d.signed.signer
	d.AsSuperuser(t,
		`CREATE ROLE `+signer+` NOLOGIN`, `GRANT `+signer+` TO `+d.Owner.Role, `GRANT CREATE ON DATABASE `+d.Name+` TO `+d.Owner.Role,
		`CREATE ROLE `+app.Role+` LOGIN NOINHERIT PASSWORD '`+pgserver.Verifier("secret")+`'`, `ALTER ROLE `+app.Role+` SET track_activities = off`,
		`GRANT `+d.Lookup.Role+` TO `+app.Role, `GRANT USAGE ON SCHEMA public TO `+app.Role,
		`REVOKE TEMPORARY ON DATABASE `+d.Name+` FROM PUBLIC`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
		`REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC`)
	t.Cleanup(func() {
		d.AsSuperuser(t, `DROP OWNED BY `+signer+`, `+app.Role+` CASCADE`, `DROP ROLE `+signer+`, `+app.Role)
	})
	d.App = app
	d.AsOwner(t, signing.Setup(signer))
	d.signed.key = d.AddKey(t, FirstKey, firstLetter)
}

// Signed reports whether policies demand a proof.
func (d *Database) Signed() bool { return d.signed != nil }

// Modes are the execution modes of pgx that a client of the application may have: with a key not the simple protocol, in which a proof would be a
// part of the text.
func (d *Database) Modes() []pgx.QueryExecMode {
	return slices.DeleteFunc(slices.Clone(Modes), func(mode pgx.QueryExecMode) bool {
		return d.Signed() && mode == pgx.QueryExecModeSimpleProtocol
	})
}

func secretOf(letter byte) []byte {
	secret := make([]byte, signing.MinSecret)
	for n := range secret {
		secret[n] = letter + byte(n)
	}
	return secret
}

// AddKey adds a key whose secret is made of a letter.
func (d *Database) AddKey(t testing.TB, id string, letter byte) tenancy.SigningKey {
	t.Helper()
	secret := secretOf(letter)
	conn, err := pgx.Connect(t.Context(), d.Owner.DSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `SET ROLE `+d.signed.signer)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `SELECT tenancy_signed.add_key($1, $2)`, id, secret)
	require.NoError(t, err)
	key, err := tenancy.NewSigningKey(id, secret, time.Time{})
	require.NoError(t, err)
	return key
}

// RetireKey deletes a key.
func (d *Database) RetireKey(t testing.TB, id string) {
	t.Helper()
	d.AsSuperuser(t, `DELETE FROM tenancy_signed.keys WHERE id = `+sqltext.Literal(id))
}
