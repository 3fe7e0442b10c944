package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// steps measures, without GORM and without the plugin, what the server spends on the messages that the guard sends: by
// adding one part after the other.
func (b *bench) steps(ctx context.Context) (err error) {
	policies, err := b.database(ctx, pick("tenancy")[0])
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, policies.App.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	without, err := b.database(ctx, plain)
	if err != nil {
		return err
	}
	connWithout, err := pgx.Connect(ctx, without.App.DSN)
	if err != nil {
		return err
	}
	defer connWithout.Close(ctx)

	id := strconv.FormatInt(idOf(reader, 0), 10)
	byID := message{"SELECT * FROM patients WHERE id = $1 ORDER BY id LIMIT 1", []string{id}}
	byHand := message{"SELECT * FROM patients WHERE tenant_id = $1 AND id = $2 ORDER BY id LIMIT 1", []string{reader, id}}
	nothing := message{"SELECT 1", nil}
	tenant := message{"SELECT set_config($1, $2, true)", []string{"app.tenant_id", reader}}
	both := message{"SELECT set_config($1, $2, true)," +
		" CASE WHEN current_setting('role') OPERATOR(pg_catalog.<>) $3 THEN set_config('role', $3, true) END",
		[]string{"app.tenant_id", reader, "none"}}
	bothSet := message{"SELECT set_config($1, $2, true), set_config('role', $3, true)", []string{"app.tenant_id", reader, "none"}}
	plan := []struct {
		title    string
		conn     *pgx.Conn
		database *database
		messages []message
	}{
		{"the statement, with `WHERE tenant_id = $1`", connWithout, without, []message{byHand}},
		{"`SELECT 1` before it", connWithout, without, []message{nothing, byHand}},
		{"the tenant set before it", connWithout, without, []message{tenant, byHand}},
		{"the tenant set, and the role looked at, before it", connWithout, without, []message{both, byHand}},
		{"the tenant and the role set before it", connWithout, without, []message{bothSet, byHand}},
		{"the tenant set, and the role looked at, on a table with policies, without the `WHERE`", conn, policies, []message{both, byID}},
		{"the same, with the `WHERE`", conn, policies, []message{both, byHand}},
	}
	const runs = 50
	spent := make([][]float64, len(plan))
	turns := make([]func(int) error, len(plan))
	for i, p := range plan {
		server := newBackend(p.conn.PgConn().PID(), p.database)
		statements, err := prepareAll(ctx, p.conn, fmt.Sprintf("step_%d_", i), p.messages)
		if err != nil {
			return err
		}
		turns[i] = func(int) error {
			before, known := server.time()
			for range runs {
				if err := sendAll(ctx, p.conn, statements, p.messages); err != nil {
					return err
				}
			}
			if after, ok := server.time(); ok && known {
				spent[i] = append(spent[i], perRun(after-before, runs))
			}
			return nil
		}
	}
	took, err := b.takeTurns(ctx, b.either(7*time.Second, 1500*time.Millisecond), turns)
	if err != nil {
		return err
	}
	for i, p := range plan {
		b.results.Steps = append(b.results.Steps, step{
			Title:     p.title,
			ServerCPU: medianIfAny(spent[i]),
			Time:      median(took[i]) / runs,
		})
	}
	return nil
}

// message is a statement with its arguments as text.
type message struct {
	sql  string
	args []string
}

func prepareAll(ctx context.Context, conn *pgx.Conn, prefix string, messages []message) (statements []*pgconn.StatementDescription, err error) {
	for i, m := range messages {
		st, err := conn.PgConn().Prepare(ctx, prefix+strconv.Itoa(i), m.sql, nil)
		if err != nil {
			return nil, err
		}
		statements = append(statements, st)
	}
	return statements, nil
}

// sendAll sends the messages together, as one transaction.
func sendAll(ctx context.Context, conn *pgx.Conn, statements []*pgconn.StatementDescription, messages []message) error {
	batch := &pgconn.Batch{}
	for i, m := range messages {
		var args [][]byte
		for _, arg := range m.args {
			args = append(args, []byte(arg))
		}
		batch.ExecStatement(statements[i], args, nil, nil)
	}
	_, err := conn.PgConn().ExecBatch(ctx, batch).ReadAll()
	return err
}
