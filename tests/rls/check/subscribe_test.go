package check_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// subscribes is an attack by a login that may replicate, and nothing else: it gets what acme writes into the table. The rest
// is what a row of the table needs.
func subscribes(table, columns, values string) attack {
	return func(t *testing.T, d database) bool {
		spy, password := "spy_of_"+d.role, "secret"
		d.run(t, d.super, fmt.Sprintf(`DO $$ BEGIN
			IF to_regrole('%[1]s') IS NULL THEN CREATE ROLE %[1]s LOGIN REPLICATION PASSWORD '%[2]s'; END IF;
		END $$`, spy, password))
		config, err := pgx.ParseConfig(d.super)
		require.NoError(t, err)
		config.User, config.Password = spy, password
		conn, err := pgx.ConnectConfig(t.Context(), config)
		require.NoError(t, err)
		defer conn.Close(t.Context())

		var level string
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW wal_level").Scan(&level))
		if level != "logical" { // a server of the user's own: there is no subscriber, but it is offered
			return leaks(table, "SELECT format('%I', tablename) || format('%I.%I', schemaname, tablename) FROM pg_publication_tables")(t, d)
		}
		var body string
		err = conn.QueryRow(t.Context(), "SELECT body FROM "+table).Scan(&body)
		require.ErrorContains(t, err, "permission denied", "it may read nothing")

		slot := "tap_of_" + d.Name
		_, err = conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput', temporary => true)", slot)
		require.NoError(t, err)
		// Only what has reached the disk is sent.
		require.NoError(t, d.as(t, d.app, "acme", fmt.Sprintf(
			"SET LOCAL synchronous_commit = on; INSERT INTO %[1]s (id, body%[2]s) SELECT 9 + count(*), 'of acme alone'%[3]s FROM %[1]s", table, columns, values)))
		var got bool
		err = conn.QueryRow(t.Context(), `
			SELECT coalesce(bool_or(position('of acme alone'::bytea IN data) > 0), false)
			FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')`,
			slot).Scan(&got)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "42704" {
			return false // the publication is gone
		}
		require.NoError(t, err)
		return got
	}
}

// decodes is an attack by the application's own login: it gets what acme writes, by decoding it from the log.
func decodes(t *testing.T, d database) bool {
	conn := d.connect(t, d.app)
	var level string
	require.NoError(t, conn.QueryRow(t.Context(), "SHOW wal_level").Scan(&level))
	create, slot := "SELECT pg_create_logical_replication_slot($1, 'test_decoding', temporary => true)", "log_of_"+d.Name
	if level != "logical" { // a server of the user's own: a slot keeps its log for a standby of the attacker's
		create = "SELECT pg_create_physical_replication_slot($1, temporary => true)"
	}
	_, err := conn.Exec(t.Context(), create, slot)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" {
		return false
	}
	require.NoError(t, err)
	if level != "logical" {
		return true
	}
	require.NoError(t, d.as(t, d.app, "acme", "SET LOCAL synchronous_commit = on; INSERT INTO notes (id, body) SELECT 9 + count(*), 'of acme alone' FROM notes"))
	var got bool
	require.NoError(t, conn.QueryRow(t.Context(),
		"SELECT coalesce(bool_or(data LIKE '%of acme alone%'), false) FROM pg_logical_slot_peek_changes($1, NULL, NULL)", slot).Scan(&got))
	return got
}
