package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// auditStatements change rows of one tenant, as often as they are measured: what one inserts another deletes.
var auditStatements = []struct {
	name, sql string // with the number of rows
}{
	{"INSERT", "INSERT INTO patients (name, email, age, created_at, updated_at) SELECT 'name ' || n, 'n' || n || '@example.org', n, now(), now() FROM generate_series(1, %d) n"},
	{"UPDATE", "UPDATE patients SET age = age + 1, updated_at = now() WHERE age <= 0 + %d"},
	{"DELETE", "DELETE FROM patients WHERE age <= 1000000 + %d"},
}

// auditCost is what records of changes cost for so many rows in one statement.
type auditCost struct {
	Name        string
	Rows        int
	Without     time.Duration // the median of the statement
	With        time.Duration // the same, with records
	PerRow      time.Duration // the median of the difference, by row
	PerRowRange interval      // in µs
}

// measureAudit compares an audited table with one that is not, in rounds of the same statements, and writes a table of what it found.
func measureAudit(ctx context.Context, out io.Writer, s settings) error {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	var clients [2]*gorm.DB // without records, and with
	for n := range clients {
		if clients[n], err = auditClient(ctx, server, n == 1); err != nil {
			return err
		}
		pool, err := clients[n].DB()
		if err != nil {
			return err
		}
		defer pool.Close()
	}
	rounds := 40
	if s.quick {
		rounds = 5
	}
	if s.samples > 0 {
		rounds = s.samples
	}
	fmt.Fprintf(out, "| statement | rows | without records | with records | a row |\n|---|---|---|---|---|\n")
	for _, rows := range []int{1, 100, 10_000} {
		costs, err := auditRounds(ctx, clients, rows, rounds)
		if err != nil {
			return err
		}
		for _, c := range costs {
			fmt.Fprintf(out, "| %s | %d | %s | %s | %s (%.1f to %.1f µs) |\n", c.Name, c.Rows, c.Without.Round(time.Microsecond), c.With.Round(time.Microsecond),
				c.PerRow.Round(100*time.Nanosecond), c.PerRowRange.Low, c.PerRowRange.High)
		}
	}
	return nil
}

// auditRounds runs the statements for so many rows.
func auditRounds(ctx context.Context, clients [2]*gorm.DB, rows, rounds int) ([]auditCost, error) {
	const warmUp = 3
	times := make([][2][]float64, len(auditStatements)) // in µs
	for round := range warmUp + rounds {
		for n, statement := range auditStatements {
			for i := range clients {
				which := (i + round) % len(clients) // neither is always the first
				started := time.Now()
				if err := auditRun(ctx, clients[which], fmt.Sprintf(statement.sql, rows), rows); err != nil {
					return nil, fmt.Errorf("%s: %w", statement.name, err)
				}
				if round >= warmUp {
					times[n][which] = append(times[n][which], float64(time.Since(started).Nanoseconds())/1000)
				}
			}
		}
	}
	costs := make([]auditCost, len(auditStatements))
	for n, statement := range auditStatements {
		perRow := make([]float64, rounds)
		for round := range perRow {
			perRow[round] = (times[n][1][round] - times[n][0][round]) / float64(rows)
		}
		costs[n] = auditCost{
			Name: statement.name, Rows: rows, Without: micros(median(times[n][0])), With: micros(median(times[n][1])), PerRow: micros(median(perRow)),
			PerRowRange: interval{Low: quantile(perRow, 0.25), High: quantile(perRow, 0.75)},
		}
	}
	return costs, nil
}

func micros(us float64) time.Duration { return time.Duration(us * float64(time.Microsecond)) }

// auditRun runs a statement, which must change all rows.
func auditRun(ctx context.Context, db *gorm.DB, sql string, rows int) error {
	result := db.WithContext(ctx).Exec(sql)
	if result.Error != nil {
		return result.Error
	}
	return want(int(result.RowsAffected), rows)
}

// auditClient opens the application's login with a tenant for the whole session, so that nothing but PostgreSQL's own time differs.
func auditClient(ctx context.Context, server *pgserver.Server, audited bool) (*gorm.DB, error) {
	d, err := server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := gorm.Open(postgres.Open(d.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	pool, err := owner.DB()
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	isolation := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}
	if audited {
		isolation.Audits = []rls.Audit{{Model: &Patient{}}}
	}
	if _, err := isolation.Migrate(ctx, owner, &Patient{}); err != nil {
		return nil, err
	}
	app, err := gorm.Open(postgres.Open(d.App.DSN), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		return nil, err
	}
	own, err := app.DB()
	if err != nil {
		return nil, err
	}
	own.SetMaxOpenConns(1)
	return app, app.WithContext(ctx).Exec("SET app.tenant_id = 'tenant-1'").Error
}
