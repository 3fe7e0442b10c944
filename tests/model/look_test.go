package model

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/gormtenancy/tenancy"
)

// sight is what can be seen of a session.
type sight struct {
	Temporary, Cursors, Prepared, Locks, Channels                                 int
	Role, SearchPath, RowSecurity, DateStyle, Encoding, Timeout, Secret, TenantID string
}

// lookSQL looks at all that a session can keep, but for what lastval returns. Cursors of the statement itself are not
// holdable.
const lookSQL = `SELECT
	(SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'v')) AS temporary,
	(SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable) AS cursors,
	(SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql) AS prepared,
	(SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
	(SELECT count(*) FROM pg_catalog.pg_listening_channels()) AS channels,
	current_setting('role') AS role, current_setting('search_path') AS search_path, current_setting('row_security') AS row_security,
	current_setting('DateStyle') AS date_style, current_setting('client_encoding') AS encoding,
	current_setting('statement_timeout') AS timeout, coalesce(current_setting('` + secret + `', true), '') AS secret,
	coalesce(current_setting('app.tenant_id', true), '') AS tenant_id`

func scanSight(row interface{ Scan(...any) error }) (s sight, err error) {
	err = row.Scan(&s.Temporary, &s.Cursors, &s.Prepared, &s.Locks, &s.Channels, &s.Role, &s.SearchPath, &s.RowSecurity, &s.DateStyle,
		&s.Encoding, &s.Timeout, &s.Secret, &s.TenantID)
	return s, err
}

// clean is how a session looks that was not used, to a tenant.
func clean(tenant string) sight { return (&things{}).sight(tenant, kept{}) }

// sight is how a session looks to the tenant that has made these things in it.
func (th *things) sight(tenant string, k kept) sight {
	s := sight{
		Locks: k.locks, Prepared: k.prepared, Role: "none", SearchPath: th.setting("search_path"), RowSecurity: th.setting("row_security"),
		DateStyle: th.setting("DateStyle"), Encoding: th.setting("client_encoding"), Timeout: th.setting("statement_timeout"),
		Secret: th.setting(secret), TenantID: tenant,
	}
	if th.report {
		s.Temporary++
	}
	if th.shadow != nil {
		s.Temporary++
	}
	if th.role != "" {
		s.Role = th.role
	}
	return s
}

// look has the holder of a transaction find what it has made.
func (m *machine) look(t *rapid.T) {
	if x := m.drawOpen(t); x != nil {
		m.lookAt(t, inside(x))
	}
}

func (m *machine) lookAt(t *rapid.T, s session) {
	if s.refused() {
		return
	}
	got, err := scanSight(s.db.Raw(lookSQL).Row())
	require.NoError(t, err)
	want := s.things.sight(s.tenant, *s.session)
	got.Cursors = 0 // its own
	require.Equal(t, want, got, "what it has made itself")
}

// lookers are who may come next, and how.
var lookers = []string{"Row", "ConnPool", "simple protocol", "first in a transaction", "second in a transaction", "nobody", "bypass", "without the guard"}

// lookOutside has somebody look at a session, who has made nothing there.
func (m *machine) lookOutside(t *rapid.T) {
	looker := rapid.SampledFrom(lookers).Draw(t, "looked at by")
	s := m.outside(rapid.SampledFrom(tenants).Draw(t, "tenant"))
	want := clean(s.tenant)
	got, err := sight{}, error(nil)
	switch looker {
	case "Row":
		got, err = scanSight(s.db.Raw(lookSQL).Row())
	case "ConnPool":
		stmt := s.db.Session(&gorm.Session{}).Statement
		got, err = scanSight(stmt.ConnPool.QueryRowContext(stmt.Context, lookSQL))
	case "simple protocol":
		stmt := s.db.Session(&gorm.Session{}).Statement
		got, err = scanSight(stmt.ConnPool.QueryRowContext(stmt.Context, lookSQL, simple))
	case "first in a transaction", "second in a transaction":
		err = s.db.Transaction(func(tx *gorm.DB) (err error) {
			if strings.HasPrefix(looker, "second") {
				err = tx.Session(&gorm.Session{NewDB: true}).Find(&[]Note{}).Error
				require.NoError(t, err)
			}
			got, err = scanSight(tx.Session(&gorm.Session{NewDB: true}).Raw(lookSQL).Row())
			return err
		})
	case "nobody":
		want = clean("")
		got, err = scanSight(m.db.WithContext(tenancy.WithoutTenant(context.Background())).Raw(lookSQL).Row())
	case "bypass":
		want = clean("")
		want.Role = m.Admin.Role
		got, err = scanSight(tenancy.Bypass(m.db, "model").WithContext(context.Background()).Raw(lookSQL).Row())
	default:
		want = clean("")
		got, err = scanSight(m.pool.QueryRow(lookSQL, simple))
	}
	require.NoError(t, err, looker)
	require.Equal(t, want, got, looker)
}

// lookEverywhere looks, without the guard, at all connections that are not held: whatever was left there is gone, and not only
// when the next user comes.
func (m *machine) lookEverywhere(t *rapid.T) {
	var taken []*sql.Conn
	defer func() {
		for _, c := range taken {
			require.NoError(t, c.Close())
		}
	}()
	for range m.free() {
		c, err := m.pool.Conn(context.Background())
		require.NoError(t, err)
		taken = append(taken, c)
		got, err := scanSight(c.QueryRowContext(context.Background(), lookSQL, simple))
		require.NoError(t, err)
		require.Equal(t, clean(""), got)
	}
}

// name returns one that is used once.
func (m *machine) name(prefix string) string {
	m.names++
	return fmt.Sprintf("%s%d", prefix, m.names)
}
