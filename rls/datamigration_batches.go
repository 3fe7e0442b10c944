package rls

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// Batches divides the rows of a table into batches, in the order of its primary key.
type Batches struct {
	// Name is that of the data migration, under which the table tenancy_data_migrations keeps how far it is. Under a name, each row
	// has its turn once.
	Name string

	// Table is the table, with a schema in front or without, and without quotes. It must have a primary key.
	Table string

	// Size is how many rows a batch has. Zero means 1,000.
	Size int
}

// defaultBatch is the size of a batch. Its rows are locked until it is committed.
const defaultBatch = 1000

// batchTable keeps how far data migrations are: the last primary key, as an array of texts.
const batchTable = "tenancy_data_migrations"

// DataMigrationInBatches does what DataMigration does, in a transaction for each batch of rows, so that none locks many rows for long.
// The function gets the condition for the rows of its batch, and must put it into its statements, for GORM or for SQL:
//
//	b := rls.Batches{Name: "cents", Table: "invoices"}
//	err := iso.DataMigrationInBatches(ctx, owner, b, func(tx *gorm.DB, rows clause.Expression) error {
//		return tx.Exec("UPDATE invoices SET total = total * 100 WHERE ?", rows).Error
//	})
//
// A batch and how far it is are committed together. After an error, or if the process is killed, the next call goes on with the first batch that is
// missing; after the last batch it does nothing any more. Two calls at a time share the batches. Rows that come in meanwhile have no turn
// if their keys are lower than those of the current batch. Isolation.Progress is called after each batch, with an estimate of
// the total.
//
// It needs the owner, who makes the table tenancy_data_migrations. Within a transaction of the caller's it is an error.
func (i Isolation) DataMigrationInBatches(ctx context.Context, db *gorm.DB, b Batches,
	fn func(tx *gorm.DB, rows clause.Expression) error, opts ...DataOption,
) error {
	m, err := i.dataMigration(opts)
	if err != nil {
		return err
	}
	r := &batchRun{dataMigration: m, Batches: b, fn: fn, progress: i.Progress}
	if err := r.prepare(ctx, db); err != nil {
		return fmt.Errorf("tenancy: data migration: %w", catalog.Explain(err, m.Column))
	}
	for !r.done {
		if err := m.inTransaction(ctx, db, r.batch); err != nil {
			return err
		}
		if r.progress != nil && !r.done {
			r.progress(Progress{Table: b.Table, Description: b.Name, Done: r.rows, Total: max(r.total, r.rows)})
		}
	}
	return nil
}

// batchRun is one call of DataMigrationInBatches.
type batchRun struct {
	*dataMigration
	Batches
	fn       func(tx *gorm.DB, rows clause.Expression) error
	progress func(Progress)

	table       string // quoted
	keys, types []string
	rows, total int64
	done        bool
}

// prepare finds the primary key, and makes the table that keeps how far the data migration is.
func (r *batchRun) prepare(ctx context.Context, db *gorm.DB) error {
	switch {
	case r.Name == "" || r.Table == "" || strings.Count(r.Table, ".") > 1:
		return errors.New("Batches needs a Name, and a Table or schema.table without quotes")
	case r.Size < 0:
		return errors.New("Batches.Size cannot be negative")
	case r.Size == 0:
		r.Size = defaultBatch
	}
	if err := r.usable(db); err != nil {
		return err
	}
	if gormtx.In(db.Statement.ConnPool) {
		return errors.New("batches need transactions of their own: call it outside of one")
	}
	r.table = sqltext.Ident(strings.Split(r.Table, ".")...)
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		conn := tx.Statement.ConnPool
		var facts struct {
			Keys  []struct{ Name, Type string }
			Total int64
			Admin string
		}
		if err := catalog.ReadJSON(ctx, conn, &facts, batchFacts, r.table, r.AdminRole); err != nil {
			return err
		}
		if len(facts.Keys) == 0 {
			return fmt.Errorf("table %s has no primary key, by which its rows could be divided", r.Table)
		}
		for _, key := range facts.Keys {
			r.keys, r.types = append(r.keys, key.Name), append(r.types, key.Type)
		}
		r.total = facts.Total
		return r.makeTable(ctx, conn, facts.Admin)
	}, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
}

const batchFacts = `SELECT pg_catalog.json_build_object('keys', (
		SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname, 'type', pg_catalog.format_type(a.atttypid, NULL)) ORDER BY k.n)
		FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey) WITH ORDINALITY k (attnum, n), pg_catalog.pg_attribute a
		WHERE i.indrelid = c.oid AND i.indisprimary AND k.n <= i.indnkeyatts AND a.attrelid = c.oid AND a.attnum = k.attnum),
	'total', greatest(c.reltuples, 0)::bigint,
	'admin', (SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = $2))::text
FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.regclass`

// makeTable makes the table that keeps how far data migrations are, and the line of this one. The admin role, which the batches may run
// in, keeps it.
func (r *batchRun) makeTable(ctx context.Context, conn gorm.ConnPool, admin string) error {
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return err
	}
	exists, err := catalog.Exist(ctx, conn, []string{batchTable})
	if err != nil {
		return err
	}
	var statements []string
	if !exists[0] {
		statements = append(statements, "CREATE TABLE "+batchTable+" (name text PRIMARY KEY, last jsonb, rows bigint NOT NULL DEFAULT 0, done boolean NOT NULL DEFAULT false)")
	}
	if admin != "" {
		statements = append(statements, "GRANT SELECT, UPDATE ON "+batchTable+" TO "+sqltext.Ident(admin))
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, "INSERT INTO "+batchTable+" (name) VALUES ($1) ON CONFLICT DO NOTHING", r.Name)
	return err
}

// batch runs the next batch, in its transaction. The line of the data migration is locked, so that two calls take turns.
func (r *batchRun) batch(t *dataTransaction) error {
	var last []byte
	const query = "SELECT last, rows, done FROM " + batchTable + " WHERE name = $1 FOR UPDATE"
	if err := t.conn.QueryRowContext(t.ctx, query, r.Name).Scan(&last, &r.rows, &r.done); err != nil || r.done {
		return err
	}
	after, err := r.compare(">", last)
	if err != nil {
		return err
	}
	var (
		rows int64
		end  []byte
	)
	if err := t.conn.QueryRowContext(t.ctx, r.nextQuery(after)).Scan(&rows, &end); err != nil {
		return err
	}
	if rows == 0 {
		r.done = true
		_, err := t.conn.ExecContext(t.ctx, "UPDATE "+batchTable+" SET done = true WHERE name = $1", r.Name)
		return err
	}
	until, err := r.compare("<=", end)
	if err != nil {
		return err
	}
	within := clause.Expr{SQL: "(" + after + " AND " + until + ")"}
	if err := t.call(func(tx *gorm.DB) error { return r.fn(tx, within) }); err != nil {
		return err
	}
	r.rows += rows
	const update = "UPDATE " + batchTable + " SET last = $2::text::jsonb, rows = $3 WHERE name = $1"
	_, err = t.conn.ExecContext(t.ctx, update, r.Name, string(end), r.rows)
	return err
}

// nextQuery counts the rows of the next batch, and finds the last of its keys.
func (r *batchRun) nextQuery(after string) string {
	texts := make([]string, len(r.keys))
	for n, key := range r.keys {
		texts[n] = sqltext.Ident(key) + "::text"
	}
	return fmt.Sprintf(`SELECT count(*), (array_agg(b.last ORDER BY b.n DESC))[1]::text FROM (
		SELECT jsonb_build_array(%[1]s) AS last, row_number() OVER (ORDER BY %[2]s) AS n FROM %[3]s WHERE %[4]s ORDER BY %[2]s LIMIT %[5]d) b`,
		strings.Join(texts, ", "), sqltext.Idents(r.keys), r.table, after, r.Size)
}

// compare is SQL that compares the primary key with another, given as texts in JSON; it is true if there is none.
func (r *batchRun) compare(operator string, key []byte) (string, error) {
	if key == nil {
		return "true", nil
	}
	var texts []string
	if err := json.Unmarshal(key, &texts); err != nil {
		return "", err
	}
	if len(texts) != len(r.keys) {
		return "", fmt.Errorf("data migration %q has begun with another primary key of table %s", r.Name, r.Table)
	}
	values := make([]string, len(texts))
	for n, text := range texts {
		values[n] = sqltext.Literal(text) + "::" + r.types[n]
	}
	return fmt.Sprintf("(%s) %s (%s)", sqltext.Idents(r.keys), operator, strings.Join(values, ", ")), nil
}
