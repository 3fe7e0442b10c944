package lifecycle

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// session is one run, on one connection.
type session struct {
	Tenants
	config policy.Config
	op     Operation
	tenant string
	// request is that of Subjects.
	request string
	conn    *pgconn.PgConn

	login  string // the role of the login
	role   string // that the statements run as, which policies bind
	signs  bool   // its statements need a proof
	scope  *scope
	tables int
	rows   int64
}

// on lends the run a connection. After an error the connection is closed, and nothing that was not committed stays.
func (s *session) on(ctx context.Context, do func(s *session) error) (err error) {
	conn, err := s.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	failed := conn.Raw(func(raw any) error {
		pgx, ok := raw.(*stdlib.Conn)
		if !ok {
			err = errors.New("DB is not a pool of pgx without the plugin: use sql.Open with the driver \"pgx\"")
			return nil
		}
		s.conn = pgx.Conn().PgConn()
		if err = do(s); err != nil {
			return driver.ErrBadConn
		}
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return failed
}

// The beginnings of transactions.
const (
	beginReading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	beginWriting = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
)

// inTransaction runs do within the tenant's policies.
func (s *session) inTransaction(ctx context.Context, begin string, do func() error) error {
	if err := s.exec(ctx, begin); err != nil {
		return err
	}
	err := s.enter(ctx)
	if err == nil {
		err = do()
	}
	if err == nil {
		err = s.stillSigned(ctx)
	}
	if err == nil {
		return s.exec(ctx, "COMMIT")
	}
	if !s.conn.IsClosed() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = s.exec(undo, "ROLLBACK")
	}
	return err
}

// outputs makes the texts of values the same in every database (https://www.postgresql.org/docs/current/runtime-config-client.html). Queries of
// the catalog have high estimates, for which PostgreSQL would compile them. How long a run may take is up to its context.
const outputs = `SET LOCAL client_encoding = 'UTF8'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC';
	SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'; SET LOCAL xmloption = 'content';
	SET LOCAL row_security = on; SET LOCAL jit = off; SET LOCAL statement_timeout = 0;
	SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL search_path = pg_catalog`

// enter finds the role and the tables, or takes those that the run has found, and sets the tenant, with the proof that policies demand.
func (s *session) enter(ctx context.Context) error {
	if err := s.exec(ctx, outputs); err != nil {
		return err
	}
	if s.scope == nil {
		if err := s.findScope(ctx); err != nil {
			return err
		}
	}
	if s.signs {
		if err := s.sign(ctx); err != nil {
			return err
		}
	}
	const set = "SELECT pg_catalog.set_config('role', $1, true), pg_catalog.set_config($2, $3, true)"
	if _, err := s.row(ctx, set, s.role, s.config.Setting, s.tenant); err != nil {
		return err
	}
	return s.stillSigned(ctx)
}

// triggersPath gives triggers the search_path that they are used to. plainPath is that of texts that name a type or a table.
const (
	triggersPath = "SET LOCAL search_path TO DEFAULT"
	plainPath    = "SET LOCAL search_path = pg_catalog"
)

// exec runs statements without parameters.
func (s *session) exec(ctx context.Context, sql string) error {
	_, err := s.conn.Exec(ctx, sql).ReadAll()
	return err
}

// each runs a query, and calls do with each row: PostgreSQL's texts, nil for NULL, which are valid until do returns. Rows are read from the
// connection one by one.
func (s *session) each(ctx context.Context, query string, do func(values [][]byte) error, args ...string) error {
	return s.eachOf(ctx, query, do, bytesOf(args))
}

// eachOf is each with parameters that may be NULL.
func (s *session) eachOf(ctx context.Context, query string, do func(values [][]byte) error, args [][]byte) error {
	reader := s.conn.ExecParams(ctx, query, args, nil, nil, nil)
	var failed error
	for failed == nil && reader.NextRow() {
		failed = do(reader.Values())
	}
	if failed != nil {
		// The rest of the result may be long: it is not read, and the connection is closed.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.conn.CancelRequest(closing)
		_ = s.conn.Close(closing)
		return failed
	}
	_, err := reader.Close()
	return err
}

// row runs a query for one row.
func (s *session) row(ctx context.Context, query string, args ...string) ([][]byte, error) {
	var row [][]byte
	err := s.each(ctx, query, func(values [][]byte) error {
		row = make([][]byte, len(values))
		for n, v := range values {
			if v != nil {
				row[n] = append([]byte{}, v...)
			}
		}
		return nil
	}, args...)
	if err == nil && row == nil {
		err = errors.New("a query has returned no row")
	}
	return row, err
}

// texts runs a query for one column.
func (s *session) texts(ctx context.Context, query string, args ...string) (list []string, err error) {
	err = s.each(ctx, query, func(row [][]byte) error { list = append(list, string(row[0])); return nil }, args...)
	return list, err
}

// number runs a query for one number.
func (s *session) number(ctx context.Context, query string, args ...string) (n int64, err error) {
	row, err := s.row(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(row[0]), &n)
	return n, err
}

func bytesOf(args []string) [][]byte {
	list := make([][]byte, len(args))
	for n, arg := range args {
		list[n] = []byte(arg)
	}
	return list
}

func (s *session) progress(table string, done, total int64) {
	if s.Progress != nil {
		s.Progress(Progress{Operation: s.op, Table: table, Done: done, Total: total})
	}
}
