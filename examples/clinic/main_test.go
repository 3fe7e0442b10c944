package main

import (
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// connections is what the pool has in tests: few, so that requests meet on them.
const connections = 4

var weak = passwords.NewWeak()

// site is a running clinic, freshly filled.
type site struct {
	URL      string
	database *pgserver.Database
	owner    *gorm.DB // to change the schema
	admin    *gorm.DB // to see and change rows behind the application's back
	db       *gorm.DB // the application's
}

func newSite(t *testing.T) site {
	t.Helper()
	s := newDatabase(t)
	s.URL = serve(t, config{DB: s.db})
	return s
}

func newDatabase(t *testing.T) site {
	t.Helper()
	database := pgserver.New(t)
	db, err := prepare(t.Context(), database, connections, weak)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, demo.Disconnect(db)) })
	return site{database: database, owner: openOther(t, database.Owner.DSN), admin: openOther(t, database.Admin.DSN), db: db}
}

func openOther(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := openPlain(dsn, 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, demo.Disconnect(db)) })
	return db
}

// serve runs the application until the test is over.
func serve(t *testing.T, c config) string {
	t.Helper()
	c.Passwords, c.Log = weak, slog.New(slog.DiscardHandler)
	handler, err := newApp(c)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}
