package guard_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// describe writes down all that a caller can learn from an error.
func describe(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return fmt.Sprintf("%s %s at %d (%q, %q, %s.%s.%s)", pgErr.Code, pgErr.Message, pgErr.Position, pgErr.Detail,
			pgErr.Hint, pgErr.SchemaName, pgErr.TableName, pgErr.ConstraintName)
	}
	return fmt.Sprint(err)
}

// requireSame holds what the guard gives against what pgx's stdlib gives.
func requireSame(t *testing.T, stock, guarded, what string) {
	t.Helper()
	if stock == guarded {
		return
	}
	a, b := strings.Split(stock, "\n"), strings.Split(guarded, "\n")
	for i := range min(len(a), len(b)) {
		require.Equal(t, a[i], b[i], "%s: line %d", what, i)
	}
	require.Len(t, b, len(a), what)
}

func requireSameError(t *testing.T, stock, guarded error, what string) {
	t.Helper()
	if stock != nil && stock.Error() == "mismatched param and argument count" {
		require.Regexp(t, `^expected \d arguments, got \d$`, guarded, what) // pgx says it so for queries
		return
	}
	requireSame(t, describe(stock), describe(guarded), what)
}
