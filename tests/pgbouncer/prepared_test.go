package pgbouncer

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// Errors by which a server answers that does not know a prepared statement, for it was prepared on another connection,
// or that knows it already, for another client prepared it.
const (
	unknownStatement   = "26000"
	duplicateStatement = "42P05"
)

// TestPreparedStatements prepares on the server, as pgx does by default and GORM's PrepareStmt does in every mode. Where
// PgBouncer keeps account of the statements all goes well, and their number stays bounded. Where it does not, statements
// fail with an error that says what helps, and still none shows another tenant's row.
func TestPreparedStatements(t *testing.T) {
	d := newDatabase(t)
	for _, count := range preparedCounts(t) {
		t.Run(fmt.Sprintf("max_prepared_statements=%d", count), func(t *testing.T) {
			behind := *d
			behind.bouncer = start(t, serverConns, false, count, d.App)
			testPreparedStatements(t, &behind)
		})
	}
}

func testPreparedStatements(t *testing.T, d *database) {
	t.Helper()
	for _, s := range []setup{{"cache_statement", false}, {"cache_statement", true}, {"exec", true}} {
		t.Run(s.String(), func(t *testing.T) {
			if d.prepared > 0 {
				db := s.open(t, d, manyStatements)
				everybody(t, db, func(db *gorm.DB, tenant string, w work) {
					if err := w.run(db, tenant); err != nil {
						t.Errorf("%s: %v", w.name, err)
					}
				})
				d.requireClean(t, maxPrepared)
				return
			}

			// The plugin asks about roles when it is installed, and may meet a statement of the run before.
			d.forgetStatements(t)
			db := s.open(t, d, manyStatements)
			var failed atomic.Int64
			everybody(t, db, func(db *gorm.DB, tenant string, w work) {
				switch err := w.run(db, tenant); {
				case errors.Is(err, errCrossed):
					t.Errorf("%s: %v", w.name, err)
				case isCode(err, unknownStatement), isCode(err, duplicateStatement):
					failed.Add(1)
					if !strings.Contains(err.Error(), "PgBouncer 1.22 and later: max_prepared_statements") {
						t.Errorf("%s: the error does not say what helps: %v", w.name, err)
					}
				case err != nil && strings.Contains(err.Error(), "server_reset_query_always"):
					failed.Add(1) // a cleaning after one of these went to another of the server's connections
				case errors.Is(err, sql.ErrTxDone): // after one of these in place of BEGIN
				case err != nil && !errors.As(err, new(*pgconn.PgError)): // such as 25P02, in a transaction after one of these
					t.Errorf("%s: %v", w.name, err)
				}
			})
			require.Positive(t, failed.Load(), "PgBouncer has learned something new: say so in the documentation")
			d.requireClean(t, manyStatements)
		})
	}
}

// manyStatements is pgx's own capacity for prepared statements on a connection.
const manyStatements = 512
