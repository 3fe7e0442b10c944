// Package replica gives a test a read replica of its database.
//
// Where the server runs from binaries on this machine, the replica is what it is in production: a second server, a
// standby that streams from the first. Where it does not (a container, TENANCY_DSN), a second database plays the part:
// it has the same schema and roles, refuses writes with the same error, and gets its rows when the test asks for them.
package replica

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// Replica is a read-only copy of one database. It lives until the test ends.
type Replica struct {
	// Here is an SQL expression that is true on the replica, and false on the database it is a copy of.
	Here string
	// Standby reports whether a server of its own holds the replica.
	Standby bool

	locate                                func(dsn *url.URL)
	catchUp, pause, resume, promote, stop func(context.Context) error
}

// patience is how long the replica may take to start, or to catch up.
const patience = 30 * time.Second

// Of makes a replica of a database whose schema is complete. No session may be open in the database meanwhile.
func Of(t testing.TB, d *pgserver.Database) *Replica {
	t.Helper()
	r, err := newStandby(t, pgserver.Shared(t))
	if errors.Is(err, errNoStandby) {
		r, err = newCopy(t, d)
	}
	require.NoError(t, err)
	return r
}

// DSN turns a login at the database, as a URL, into the same login at the replica.
func (r *Replica) DSN(t testing.TB, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	require.NoError(t, err)
	r.locate(u)
	return u.String()
}

// CatchUp returns when the replica has all that was committed before.
func (r *Replica) CatchUp(t testing.TB) {
	t.Helper()
	inTime(t, r.catchUp)
}

// Pause returns when the replica stays as it is, whatever is committed.
func (r *Replica) Pause(t testing.TB) {
	t.Helper()
	inTime(t, r.pause)
}

// Resume ends a pause.
func (r *Replica) Resume(t testing.TB) {
	t.Helper()
	inTime(t, r.resume)
}

// Promote makes the replica a database of its own, which takes writes and follows no primary.
func (r *Replica) Promote(t testing.TB) {
	t.Helper()
	inTime(t, r.promote)
}

// Stop ends the replica's sessions. It takes no others.
func (r *Replica) Stop(t testing.TB) {
	t.Helper()
	inTime(t, r.stop)
}

func inTime(t testing.TB, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, do(ctx))
}

// errNoStandby says that the server's data are out of reach, so that no standby can be made of them.
var errNoStandby = errors.New("the server is not run by binaries on this machine")

// do runs SQL in a session of its own.
func do(ctx context.Context, dsn, sql string) error {
	return with(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	})
}

func with(ctx context.Context, dsn string, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// poll calls ready until it is, or the context ends.
func poll(ctx context.Context, what string, ready func() (bool, error)) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
}
