package pgserver

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// roles are the roles of one server, the same for all its databases. Their names are unique, so that several runs can use
// the server of TENANCY_DSN.
type roles struct {
	run                               string // what all the names have in common
	owner, app, admin, lookup, worker role
}

type role struct{ name, password string }

func newRoles() roles {
	r := rolesNamed(random(4))
	for _, role := range []*role{&r.owner, &r.app, &r.admin, &r.lookup, &r.worker} {
		role.password = random(16)
	}
	return r
}

// rolesNamed returns the roles of a run, without passwords.
func rolesNamed(run string) roles {
	named := func(kind string) role { return role{name: "tenancy_" + kind + "_" + run} }
	return roles{
		run: run, owner: named("owner"), app: named("app"), admin: named("admin"), lookup: named("lookup"), worker: named("worker"),
	}
}

// all are the roles in the order in which they can be dropped.
func (r roles) all() []role { return []role{r.app, r.admin, r.lookup, r.worker, r.owner} }

// names lists the roles for SQL.
func (r roles) names() string {
	return strings.Join([]string{r.app.name, r.admin.name, r.lookup.name, r.worker.name, r.owner.name}, ", ")
}

func (r roles) dropSQL() string {
	return "DROP ROLE IF EXISTS " + r.names()
}

func (r roles) database(suffix any) string { return fmt.Sprintf("tenancy_%s_%v", r.run, suffix) }

func (r roles) template() string { return r.database("template") }

// prepare makes the roles, and the template of all databases.
func (s *Server) prepare(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, s.connConfig(""))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	super, err := s.checkRights(ctx, conn)
	if err != nil {
		return err
	}
	s.roles = newRoles()
	if !s.instance.owned() {
		if err := s.sweepExternal(ctx, conn); err != nil {
			progress("cannot drop what killed processes left: %v", err)
		}
		if err := s.hold(ctx); err != nil {
			return err
		}
	}
	if super {
		// Passwords must not be logged.
		if err := run(ctx, conn, "SET log_statement = 'none'; SET log_min_duration_statement = -1"); err != nil {
			return err
		}
	}
	if err := run(ctx, conn, s.rolesSQL(super)); err != nil {
		return fmt.Errorf("make the roles: %w", err)
	}
	err = run(ctx, conn, "CREATE DATABASE "+s.roles.template()+" OWNER "+s.roles.owner.name)
	if err != nil {
		return fmt.Errorf("make the template database: %w", err)
	}
	return s.prepareTemplate(ctx, conn)
}

// checkRights learns the server's version, and whether the login is a superuser's. It returns an error if the login
// cannot create what this package creates.
func (s *Server) checkRights(ctx context.Context, conn *pgx.Conn) (super bool, err error) {
	var createRole, createDB bool
	err = conn.QueryRow(ctx, `SELECT rolsuper, rolcreaterole, rolcreatedb, current_setting('server_version_num')::int
		FROM pg_roles WHERE rolname = current_user`).Scan(&super, &createRole, &createDB, &s.version)
	switch {
	case err != nil:
		return false, err
	case s.version < 140000:
		return false, fmt.Errorf("the server is PostgreSQL %d: 14 or newer is needed", s.version/10000)
	case super:
		return true, nil
	case !createRole || !createDB:
		return false, fmt.Errorf("the login %s may not create roles and databases: ALTER ROLE %[1]s CREATEROLE CREATEDB",
			conn.Config().User)
	case s.version < 150000:
		return false, fmt.Errorf("the login %s must be a superuser's on PostgreSQL 14, which owns schema public",
			conn.Config().User)
	}
	return false, nil
}

func (s *Server) rolesSQL(super bool) string {
	r := s.roles
	var sql strings.Builder
	if password, _ := s.dsn.User.Password(); s.instance.owned() {
		fmt.Fprintf(&sql, "ALTER ROLE CURRENT_USER PASSWORD '%s';\n", Verifier(password))
	}
	for _, role := range r.all() {
		password := role.password
		if s.instance.owned() {
			password = Verifier(password)
		}
		fmt.Fprintf(&sql, "CREATE ROLE %s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD '%s';\n",
			role.name, password)
		if !s.instance.owned() {
			fmt.Fprintf(&sql, "COMMENT ON ROLE %s IS '%s';\n", role.name, mark)
		}
	}
	// The application may take the roles of the admin and of lookups, but has none of their rights until then.
	fmt.Fprintf(&sql, "ALTER ROLE %s NOINHERIT;\n", r.app.name)
	fmt.Fprintf(&sql, "GRANT %s, %s TO %s", r.admin.name, r.lookup.name, r.app.name)
	if s.version >= 160000 {
		sql.WriteString(" WITH INHERIT FALSE, SET TRUE")
	}
	if !super {
		// A login that is not a superuser must be a member, to make databases for the owner and to end sessions.
		fmt.Fprintf(&sql, ";\nGRANT %s TO CURRENT_USER", r.names())
	}
	return sql.String()
}

// prepareTemplate gives schema public to the owner, and lets no other role create in it.
func (s *Server) prepareTemplate(ctx context.Context, maintenance *pgx.Conn) error {
	conn, err := pgx.ConnectConfig(ctx, s.connConfig(s.roles.template()))
	if err != nil {
		return err
	}
	err = run(ctx, conn, fmt.Sprintf(`ALTER SCHEMA public OWNER TO %s;
		REVOKE CREATE ON SCHEMA public FROM PUBLIC;
		GRANT USAGE ON SCHEMA public TO %s, %s, %s, %s`,
		s.roles.owner.name, s.roles.app.name, s.roles.admin.name, s.roles.lookup.name, s.roles.worker.name))
	conn.Close(ctx)
	if err != nil {
		return fmt.Errorf("prepare the template database: %w", err)
	}
	// A session ends shortly after its connection, and nothing can be copied from a database that has one.
	return poll(ctx, often, func() (free bool, err error) {
		err = maintenance.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)",
			s.roles.template()).Scan(&free)
		return free, err
	})
}

// dropAll drops what this package made at the server of TENANCY_DSN.
func (s *Server) dropAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
	defer cancel()
	if s.roles.run == "" {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, s.connConfig(""))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", s.roles.database(""))
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := run(ctx, conn, dropSQL(name)); err != nil {
			return err
		}
	}
	return run(ctx, conn, s.roles.dropSQL())
}

// connConfig is the superuser's login at a database; empty means the maintenance database.
func (s *Server) connConfig(database string) *pgx.ConnConfig {
	u := *s.dsn
	if database != "" {
		u.Path = "/" + database
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		panic("pgserver: a DSN that was valid is now malformed")
	}
	return cfg
}

// login is the role's at a database of the server.
func (s *Server) login(role role, database string) Login {
	u := *s.dsn
	u.User = url.UserPassword(role.name, role.password)
	u.Path = "/" + database
	return Login{Role: role.name, DSN: u.String()}
}

// run sends SQL without arguments in the simple protocol, which allows several statements.
func run(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// random returns n random bytes in hexadecimal.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Verifier returns what PostgreSQL keeps of a password that has the entropy of a key, for PASSWORD in CREATE ROLE. It takes one round of
// hashing in place of PostgreSQL's 4096, which slow the guessing of passwords that people choose, and each connection of a test.
func Verifier(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		panic("pgserver: " + err.Error()) // only where FIPS 140 forbids the salt's or the key's length
	}
	hmacOf := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(hmacOf("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$1:" + encode(salt) + "$" + encode(stored[:]) + ":" + encode(hmacOf("Server Key"))
}
