package guard

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sendInterpolated is sendText for a statement with arguments, which pgx writes into the text. pgx writes the tenant's id as
// well, because a tracer of batches sees the text of the guard.
func (c *conn) sendInterpolated(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	const (
		placeholder = "$1"
		separator   = 2 // characters, by which pgx joins the parts of a batch
	)
	if err := c.stillHere(ctx, q.scope); err != nil {
		return result{}, err
	}
	var buf [maxSteps]step
	steps := c.steps(pc, q, buf[:0])
	// pgx sends this batch as one message, and nothing can be put behind it. So the cleaning is a part of the batch, after a
	// COMMIT.
	behind := c.cleansBehind(q)
	if behind {
		steps = slices.Insert(steps, 0, step{kind: stepBegin, sql: "begin"})
		c.wrapped = true
	}
	before := textPrefix(steps, placeholder)
	shift := before.width() + separator
	batch := &pgx.Batch{}
	if n := strings.Count(before.text, placeholder); n > 0 {
		shift += int32(n) * (interpolatedWidth(q.scope.tenant) - int32(len(placeholder))) //nolint:gosec // there is one
		batch.Queue(before.text, hidden{q.scope.tenant})
	} else {
		batch.Queue(before.text)
	}
	batch.Queue(q.sql, q.args...)
	if behind {
		batch.Queue("commit; " + joined(c.cleanSQL(false)))
	}
	known := c.baseline != nil
	c.noteSent(q)
	results := pc.SendBatch(ctx, batch)
	for i, s := range before.steps {
		rows, err := readStep(results, s)
		if errors.Is(err, errForeignAnswer) {
			err = c.foreignAnswer(pc)
			_ = results.Close()
			return result{}, err
		}
		if err != nil {
			if sqlState(err) == "" && !pc.IsClosed() {
				_ = results.Close()
				return result{}, err // an argument cannot be written into text: nothing was sent
			}
			return result{}, shifted(c.failed(err, before, i, results), shift)
		}
		c.succeeded(pc, s, rows)
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close()
		return result{}, shifted(err, shift)
	}
	a := result{Rows: rows, rest: results, shift: shift}
	if behind {
		a.rest = cleanBehind{results, c, pc, known}
	}
	return a, nil
}

// readStep reads the result of a step from a batch of pgx.
func readStep(results pgx.BatchResults, s step) (read [][2]string, err error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		if s.setsTenant() && !s.isAnswer(rows.RawValues()) {
			return nil, errForeignAnswer
		}
		read = addSetting(read, rows.RawValues())
	}
	rows.Close()
	return read, rows.Err()
}

// cleanBehind is the rest of a batch whose last part cleans the session.
type cleanBehind struct {
	pgx.BatchResults
	conn  *conn
	pc    *pgx.Conn
	known bool // whether the baseline was known when the cleaning was written
}

// Close reads the result of the COMMIT, whose error is the statement's, and that of the cleaning, whose error is not.
func (r cleanBehind) Close() error {
	if _, err := r.Exec(); err != nil { // of the statement, or of the COMMIT
		_ = r.BatchResults.Close()
		return err
	}
	if err := r.BatchResults.Close(); err == nil && r.conn.baseline != nil && (r.known || len(r.conn.baseline.restore) == 0) {
		_ = r.conn.cleaned(r.pc, nil)
	}
	return nil // a session that could not be cleaned is still dirty, and is cleaned when the connection is released
}
