package attack_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// way is how SQL of the attacker comes to the server.
type way int

const (
	alone       way = iota // each statement by itself, as db.Exec and db.Raw send it
	transaction            // all in one transaction
	held                   // all on one connection, outside a transaction
	stacked                // as one text, which only tenancy.WithPgxConn gives: the guard refuses it elsewhere
	ways
)

func (w way) String() string { return [...]string{"alone", "transaction", "held", "stacked"}[w] }

// run sends statements as tenant evil, and returns all that came back: rows, errors, notices, notifications.
func (a *target) run(t testing.TB, w way, statements []string) *answers {
	t.Helper()
	got := &answers{}
	ctx := as("evil")
	switch w {
	case alone:
		for _, s := range statements {
			got.send(ctx, a.db, s)
		}
	case transaction:
		tx, err := a.db.BeginTx(ctx, nil)
		require.NoError(t, err)
		for _, s := range statements {
			got.send(ctx, tx, s)
		}
		got.failed(tx.Commit())
	case held, stacked:
		c, err := a.db.Conn(ctx)
		require.NoError(t, err)
		if w == held {
			for _, s := range statements {
				got.send(ctx, c, s)
			}
		} else {
			got.failed(c.Raw(func(dc any) error {
				return guard.WithPgx(ctx, dc, func(c *pgx.Conn) error {
					results, err := c.PgConn().Exec(ctx, strings.Join(statements, "; ")).ReadAll()
					for _, r := range results {
						for _, row := range r.Rows {
							for n, value := range row {
								got.value(r.FieldDescriptions[n].Name, string(value))
							}
						}
					}
					return err
				})
			}))
		}
		if err := c.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
			got.failed(err)
		}
	}
	got.text(a.heard.take())
	return got
}

// answers are what an attacker has seen.
type answers struct {
	breach string // the first value of another tenant's row
	errs   int
	rows   int
	codes  map[string]int
}

type queryer interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

func (g *answers) send(ctx context.Context, q queryer, statement string) {
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		g.failed(err)
		return
	}
	defer rows.Close()
	columns, err := rows.Columns()
	g.failed(err)
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for n := range values {
		into[n] = &values[n]
	}
	for rows.Next() {
		g.failed(rows.Scan(into...))
		for n, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			g.value(columns[n], fmt.Sprint(v))
		}
	}
	g.failed(rows.Err())
}

func (g *answers) failed(err error) {
	if err == nil {
		return
	}
	g.errs++
	if g.codes == nil {
		g.codes = map[string]int{}
	}
	text, code := err.Error(), "client"
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		text, code = words(pgErr), pgErr.Code
	}
	g.codes[code]++
	g.text(text)
}

var number = regexp.MustCompile(`\d{9,}`)

// value looks at a value of a column. Columns that are named counted hold a number of rows.
func (g *answers) value(column, value string) {
	g.rows++
	if column == "counted" {
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= canaryCount {
			g.note("counted " + value)
		}
	}
	g.text(value)
}

// text looks for what only rows of others hold. Sums of their numbers are above the least of these as well.
func (g *answers) text(text string) {
	if lower := strings.ToLower(text); strings.Contains(lower, canary) || strings.Contains(lower, "yranac") {
		g.note(text)
	}
	for _, digits := range number.FindAllString(text, -1) {
		if strings.HasPrefix(digits, strconv.Itoa(canaryNumber/100_000)) {
			g.note(text)
		}
	}
}

func (g *answers) note(text string) {
	if g.breach == "" {
		g.breach = text[:min(len(text), 300)]
	}
}
