package pgserver

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database is an empty database. Its roles are the server's, the same for all its databases.
type Database struct {
	Name string

	// Owner owns the database and its schema public: it migrates.
	Owner Login
	// App is the application: not a superuser, no BYPASSRLS, owner of nothing. It may SET ROLE to the roles of the admin and
	// of lookups, but has none of their rights before.
	App Login
	// Admin is neither superuser nor BYPASSRLS: policies TO this role give it the rows.
	Admin Login
	// Lookup is for tenancy.Config.LookupRole. Like the others, it has no rights to tables until they are granted.
	Lookup Login
	// Worker is the login of workers that fetch jobs, a role that no other may take.
	Worker Login

	server *Server
}

// Login is a role and the way to connect as that role. It prints as the role alone.
type Login struct {
	Role string
	// DSN is a URL. It holds a password: do not log it.
	DSN string
}

// Format keeps the password out of everything that is printed, whatever the verb.
func (l Login) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.Role) }

// cleanupTime is how long cleaning up may take after the context of the work has ended.
const cleanupTime = 30 * time.Second

// NewDatabase makes a fresh database, in about 15 ms.
func (s *Server) NewDatabase(ctx context.Context) (*Database, error) {
	name := s.roles.database(s.made.Add(1))
	sql := fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s", name, s.roles.template(), s.roles.owner.name)
	if s.instance.owned() && s.version >= 150000 {
		// The old strategy is twice as fast if a checkpoint does not write to the disk.
		sql += " STRATEGY file_copy"
	}
	if err := s.maintain(ctx, sql); err != nil {
		return nil, fmt.Errorf("pgserver: make a database: %w", err)
	}
	return &Database{
		Name:   name,
		Owner:  s.login(s.roles.owner, name),
		App:    s.login(s.roles.app, name),
		Admin:  s.login(s.roles.admin, name),
		Lookup: s.login(s.roles.lookup, name),
		Worker: s.login(s.roles.worker, name),
		server: s,
	}, nil
}

// Drop drops the database and ends its sessions. It is not an error if the database is already gone.
func (d *Database) Drop(ctx context.Context) error {
	if err := d.server.maintain(ctx, dropSQL(d.Name)); err != nil {
		return fmt.Errorf("pgserver: drop database %s: %w", d.Name, err)
	}
	return nil
}

func dropSQL(database string) string { return "DROP DATABASE IF EXISTS " + database + " WITH (FORCE)" }

// maintain runs one statement in the maintenance database.
func (s *Server) maintain(ctx context.Context, sql string) error {
	conn, err := pgx.ConnectConfig(ctx, s.connConfig(""))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return run(ctx, conn, sql)
}
