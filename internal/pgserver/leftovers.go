package pgserver

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A process that is killed cannot drop what it made at the server of TENANCY_DSN. The next Start drops it, but only what is
// provably a leftover: several processes, on several hosts, may use the server at the same time.
//
//   - It was made here: the roles have a comment that says so, and the databases belong to such a role.
//   - Its process is gone: the process held an advisory lock in a session of its own since before it made anything, and
//     the lock ends with the session. No other session of the roles or in the databases is left either.

// mark is the comment on the roles.
const mark = "made by github.com/gormtenancy/tenancy/internal/pgserver, and dropped by its next start"

// lockClass is the first key of the advisory locks. The second is the number of the run.
const lockClass = 0x74656e61 // "tena"

// lockKey is the second key of the lock of a run, which is named by the hexadecimal digits of four bytes.
func lockKey(run string) (int32, error) {
	b, err := hex.DecodeString(run)
	if err != nil || len(b) != 4 {
		return 0, fmt.Errorf("%q does not name a run", run)
	}
	return int32(binary.BigEndian.Uint32(b)), nil
}

func tryLockRun(ctx context.Context, conn *pgx.Conn, run string) (locked bool, err error) {
	key, err := lockKey(run)
	if err != nil {
		return false, err
	}
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", int32(lockClass), key).Scan(&locked)
	return locked, err
}

// hold opens the session whose lock shows other processes that this one lives. It stays open until the server is closed.
func (s *Server) hold(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, s.connConfig(""))
	if err != nil {
		return err
	}
	s.holder = conn
	if err := run(ctx, conn, "SET idle_session_timeout = 0"); err != nil {
		return err
	}
	locked, err := tryLockRun(ctx, conn, s.roles.run)
	if err == nil && !locked {
		err = errors.New("another process has the same names: start again")
	}
	return err
}

// leftoversQuery returns the marked runs without a session. A lock is not compared by its database: another process may
// have locked in another one.
const leftoversQuery = `
WITH marked AS (
	SELECT oid, rolname, substring(rolname FROM '^tenancy_(?:owner|app|admin|lookup|worker)_([0-9a-f]{8})$') AS run
	FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = $1
)
SELECT run FROM marked m WHERE run IS NOT NULL
GROUP BY run
HAVING NOT EXISTS (
		SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint = $2
			AND lpad(to_hex(objid::bigint), 8, '0') = run)
	AND NOT EXISTS (
		SELECT FROM pg_stat_activity a WHERE a.usesysid = ANY (array_agg(m.oid))
			OR a.datname ~ ('^tenancy_' || run || '_(template|[0-9]+)$'))
ORDER BY run`

// sweepExternal drops the leftovers. What cannot be dropped, such as the roles of another login, is left to another Start.
func (s *Server) sweepExternal(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, leftoversQuery, mark, int64(lockClass))
	if err != nil {
		return err
	}
	runs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range runs {
		// The lock keeps other processes from sweeping the same.
		if locked, err := tryLockRun(ctx, conn, name); err != nil || !locked {
			continue
		}
		if err := dropLeftover(ctx, conn, name); err == nil {
			progress("dropped the databases and roles tenancy_*_%s of a process that was killed", name)
		}
		key, _ := lockKey(name)
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1, $2)", int32(lockClass), key); err != nil {
			return err
		}
	}
	return nil
}

// dropLeftover drops the databases without ending their sessions: if one has begun meanwhile, the run is no leftover.
func dropLeftover(ctx context.Context, conn *pgx.Conn, name string) error {
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
		WHERE datname ~ ('^tenancy_' || $1 || '_(template|[0-9]+)$')
			AND rolname = 'tenancy_owner_' || $1 AND shobj_description(r.oid, 'pg_authid') = $2`, name, mark)
	if err != nil {
		return err
	}
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, database := range databases {
		if err := run(ctx, conn, "DROP DATABASE IF EXISTS "+database); err != nil {
			return err
		}
	}
	return run(ctx, conn, rolesNamed(name).dropSQL())
}
