package main

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// steps measures, without GORM and without the plugin, what the messages take that the guard sends: by adding one part
// after the other.
func (b *bench) steps(ctx context.Context) error {
	for _, n := range networks {
		switch n.name {
		case loopback:
			if err := b.stepsUnder(ctx, n, 20); err != nil {
				return err
			}
		case halfMs:
			if err := b.stepsUnder(ctx, n, 2); err != nil {
				return err
			}
		}
	}
	return nil
}

// plannedStep is what is sent in one step, and what it is compared with.
type plannedStep struct {
	title    string
	database variant // whose it is
	messages []message
	than     int // the line whose successor it is, from 0
	byHand   int // the line without a guard
}

func stepPlan() []plannedStep {
	policies, without := pick("tenancy")[0], plain

	id := strconv.FormatInt(idOf(reader, 0), 10)
	byID := message{"SELECT * FROM patients WHERE id = $1 ORDER BY id LIMIT 1", []string{id}}
	byHand := message{"SELECT * FROM patients WHERE tenant_id = $1 AND id = $2 ORDER BY id LIMIT 1", []string{reader, id}}
	insert := message{"INSERT INTO patients (tenant_id, name) VALUES ($1, $2) RETURNING id", []string{writer, "Ann"}}
	nothing := message{"SELECT 1", nil}
	tenantOnly := message{"SELECT set_config($1, $2, true)", []string{"app.tenant_id", reader}}
	set := func(tenant string) message {
		return message{"SELECT set_config($1, $2, true)," +
			" CASE WHEN current_setting('role') OPERATOR(pg_catalog.<>) $3 THEN set_config('role', $3, true) END",
			[]string{"app.tenant_id", tenant, "none"}}
	}
	bothSet := message{"SELECT set_config($1, $2, true), set_config('role', $3, true)", []string{"app.tenant_id", reader, "none"}}
	return []plannedStep{
		{"the statement, with `WHERE tenant_id = $1`", without, []message{byHand}, 0, 0},
		{"`SELECT 1` before it", without, []message{nothing, byHand}, 0, 0},
		{"the tenant set before it", without, []message{tenantOnly, byHand}, 1, 0},
		{"the tenant set, and the role looked at, before it", without, []message{set(reader), byHand}, 2, 0},
		{"the tenant and the role set before it", without, []message{bothSet, byHand}, 2, 0},
		{"what the guard sends: 4 without the `WHERE`, on a table with policies", policies, []message{set(reader), byID}, 3, 0},
		{"an `INSERT`", without, []message{insert}, 6, 6},
		{"what the guard sends, on a table with policies", policies, []message{set(writer), insert}, 6, 6},
	}
}

// stepsUnder measures them under one network, with so many runs for a turn.
func (b *bench) stepsUnder(ctx context.Context, n network, runs int) (err error) {
	var ends closer
	defer ends.close(&err)
	plan := stepPlan()
	spent := make([][]float64, len(plan))
	turns := make([]func(int) error, len(plan))
	for i, p := range plan {
		turns[i], err = b.stepTurn(ctx, n, p, runs, &spent[i], &ends)
		if err != nil {
			return err
		}
	}
	took, err := b.takeTurns(ctx, b.either(15*time.Second, 1500*time.Millisecond), turns)
	if err != nil {
		return err
	}
	for i := range took {
		for round := range took[i] {
			took[i][round] /= float64(runs)
		}
	}
	for i, p := range plan {
		s := step{Network: n.name, Title: p.title, Than: p.than, Time: median(took[i]), MoreTime: paired(took[i], took[p.than], b.rng),
			Later: paired(took[i], took[p.byHand], b.rng)}
		if len(spent[i]) > 0 {
			cpu, more := median(spent[i]), paired(spent[i], spent[p.than], b.rng)
			s.ServerCPU, s.MoreCPU = &cpu, &more
		}
		b.results.Steps = append(b.results.Steps, s)
	}
	return nil
}

// stepTurn returns what runs a step so many times, and adds the CPU time that the server spent on one run.
func (b *bench) stepTurn(ctx context.Context, n network, p plannedStep, runs int, spent *[]float64, ends *closer) (func(int) error, error) {
	database, conn, err := b.stepConn(ctx, n, p.database, ends)
	if err != nil {
		return nil, err
	}
	server := newBackend(conn.PgConn().PID(), database)
	statements, err := prepareAll(ctx, conn, p.messages)
	if err != nil {
		return nil, err
	}
	return func(int) error {
		before, known := server.time()
		for range runs {
			if err := sendAll(ctx, conn, statements, p.messages); err != nil {
				return err
			}
		}
		if after, ok := server.time(); ok && known {
			*spent = append(*spent, perRun(after-before, runs))
		}
		return nil
	}, nil
}

// stepConn connects one step. Each has a connection of its own, for a backend that is used more often than others is
// quicker.
func (b *bench) stepConn(ctx context.Context, n network, v variant, ends *closer) (*database, *pgx.Conn, error) {
	d, err := b.database(ctx, v)
	if err != nil {
		return nil, nil, err
	}
	dsn, _, err := n.path(d.App.DSN, ends)
	if err != nil {
		return nil, nil, err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	ends.add(func() error { return conn.Close(ctx) })
	return d, conn, nil
}

// message is a statement with its arguments as text.
type message struct {
	sql  string
	args []string
}

func prepareAll(ctx context.Context, conn *pgx.Conn, messages []message) (statements []*pgconn.StatementDescription, err error) {
	for i, m := range messages {
		st, err := conn.PgConn().Prepare(ctx, "message_"+strconv.Itoa(i), m.sql, nil)
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
