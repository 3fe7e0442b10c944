package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// explainCommand shows the plan that the application's role gets for a statement of a tenant.
type explainCommand struct {
	connection
	tenant  string
	analyze bool
}

func (c *explainCommand) flags(fs *flag.FlagSet) {
	c.connection.flags(fs)
	fs.StringVar(&c.appRole, "app-role", "", "the `role` to take with SET ROLE (default: the role of the DSN)")
	fs.StringVar(&c.tenant, "tenant", "", "the `tenant` to plan the statement for; required")
	fs.BoolVar(&c.analyze, "analyze", false, "run the statement and roll it back, to show actual times. Sequences that it advances stay advanced.\n"+
		"        Without this option the statement is only planned")
}

func (c *explainCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	statement, err := c.statement(args, s)
	if err != nil {
		return 0, err
	}
	pool, err := c.open(ctx, s)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	// A statement that is only planned changes nothing; the read-only transaction ensures it.
	tx, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: !c.analyze})
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	text, err := c.explain(ctx, tx, statement)
	if err != nil {
		return 0, err
	}
	return exitClean, write(s, text)
}

// statement returns the statement to explain. "-" stands for the standard input.
func (c *explainCommand) statement(args []string, s streams) (string, error) {
	switch {
	case c.tenant == "":
		return "", misused("no tenant is given: add --tenant")
	case !strings.Contains(c.setting, "."):
		return "", misused("--setting: must be two names joined by a dot, such as app.tenant_id")
	case len(args) != 1:
		return "", misused("give one statement, in quotes and after the options, or - to read it from the standard input")
	case args[0] != "-":
		return args[0], nil
	}
	text, err := io.ReadAll(s.in)
	return string(text), err
}

// explain asks for the plan twice: as JSON to analyse, and as text to show.
func (c *explainCommand) explain(ctx context.Context, tx *sql.Tx, statement string) (string, error) {
	signer, err := c.become(ctx, tx)
	if err != nil {
		return "", err
	}
	document, err := lines(ctx, tx, "EXPLAIN (VERBOSE, FORMAT JSON) "+statement)
	if err != nil {
		return "", err
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(strings.Join(document, "\n")), &plans); err != nil || len(plans) == 0 {
		return "", errors.New("PostgreSQL has no plan for this statement")
	}
	var (
		scans []scan
		v     verification
	)
	for _, p := range plans {
		scans = append(scans, p.Plan.scans()...)
		once, forRows := p.Plan.verifies()
		v.once, v.forRows = v.once+once, v.forRows+forRows
	}
	tables, err := c.tenantTables(ctx, tx, scans)
	if err != nil {
		return "", err
	}
	for _, s := range scans {
		v.signed = v.signed || tables[s.name()].signed
	}
	if v.signer = signer; c.analyze && v.signed && !signer.proved {
		return "", fmt.Errorf("--analyze: the policies demand a signature, and without one the statement finds no row: %s", signer.missing())
	}
	var role string
	if err := tx.QueryRowContext(ctx, "SELECT current_user").Scan(&role); err != nil {
		return "", err
	}
	options := ""
	if c.analyze {
		options = "(ANALYZE, BUFFERS) "
	}
	shown, err := lines(ctx, tx, "EXPLAIN "+options+statement)
	if err != nil {
		return "", err
	}
	return printable(strings.Join(shown, "\n") + "\n\n" + verdict(scans, tables, c.column, role) + v.words()), nil
}

// become sets the role and the tenant until the transaction ends, and signs the tenant where the login may.
func (c *explainCommand) become(ctx context.Context, tx *sql.Tx) (signer, error) {
	if err := mustExist(ctx, tx, "--app-role", c.appRole); err != nil {
		return signer{}, err
	}
	const query = "SELECT set_config($1, $2, true)"
	if _, err := tx.ExecContext(ctx, query, c.setting, c.tenant); err != nil {
		return signer{}, fmt.Errorf("--setting: %w", err)
	}
	s, err := sign(ctx, tx, c.setting, c.tenant)
	if err != nil || c.appRole == "" {
		return s, err
	}
	if _, err := tx.ExecContext(ctx, query, "role", c.appRole); err != nil {
		return signer{}, fmt.Errorf("--app-role: the login cannot take the role: %w", err)
	}
	return s, nil
}

// lines runs one statement and returns the lines of its result. It uses the extended protocol, which refuses a second
// statement: that could be a COMMIT.
func lines(ctx context.Context, tx *sql.Tx, query string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query, pgx.QueryExecModeExec)
	if err != nil {
		return nil, withoutParameters(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		found = append(found, text)
	}
	return found, withoutParameters(rows.Err())
}

// withoutParameters adds advice to the error of a statement that has parameters.
func withoutParameters(err error) error {
	const undefinedParameter, protocolViolation = "42P02", "08P01"
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == undefinedParameter || pg.Code == protocolViolation) {
		return fmt.Errorf("write values instead of parameters such as $1: %w", err)
	}
	return err
}
