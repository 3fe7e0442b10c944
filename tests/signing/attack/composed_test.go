package attack_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The numbers of statements that are composed: in a run, between two looks at all rows and at 100 requests of others on each
// connection, and between two times when the rows that evil has made are removed.
const (
	composedStatements = 10_000
	betweenLooks       = 1_000
	betweenFills       = 100
)

// seedVariable repeats a run: TENANCY_ATTACK_SEED=7 go test -run TestComposedAttacks ./signing/attack.
const seedVariable = "TENANCY_ATTACK_SEED"

func seed(t testing.TB) uint64 {
	t.Helper()
	if text := os.Getenv(seedVariable); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, seedVariable)
		return n
	}
	return rand.Uint64() //nolint:gosec // another run each time
}

// names puts the names of roles into statements.
func (a *target) names(statements []string) []string {
	named := make([]string, len(statements))
	for n, s := range statements {
		named[n] = replace(s, "{owner}", a.Owner.Role, "{admin}", a.Admin.Role, "{signer}", a.signer, "{lookup}", a.lookup(), "{app}", a.App.Role, "{database}", a.Name)
	}
	return named
}

// campaign is a run of composed statements.
type campaign struct {
	statements, errs, values int
	codes                    map[string]int
	breach                   string
}

// attack sends so many statements, and returns when one of them has reached another tenant, or all are sent.
func (a *target) attack(t testing.TB, g grammar, statements int) (c campaign) {
	t.Helper()
	c.codes = map[string]int{}
	var sent strings.Builder
	for c.statements < statements {
		sent.Reset()
		until, fill := min(c.statements+betweenLooks, statements), 0
		for c.statements < until {
			if c.statements >= fill {
				a.fill(t, evilRows)
				fill = c.statements + betweenFills
			}
			w, program := g.program()
			program = a.names(program)
			fmt.Fprintf(&sent, "%s:\n\t%s\n", w, strings.Join(program, ";\n\t"))
			got := a.run(t, w, program)
			c.statements += len(program)
			c.errs += got.errs
			c.values += got.rows
			for code, n := range got.codes {
				c.codes[code] += n
			}
			if got.breach != "" {
				c.breach = fmt.Sprintf("returned %q to\n%s: %s", got.breach, w, strings.Join(program, ";\n\t"))
				return c
			}
			if wrong := a.request(a.db, others[g.IntN(len(others))]); wrong != "" {
				c.breach = fmt.Sprintf("after\n%s: %s\n%s", w, strings.Join(program, ";\n\t"), wrong)
				return c
			}
		}
		if wrong := a.follow(t); wrong != "" {
			c.breach = fmt.Sprintf("%s\nafter one of\n%s", wrong, sent.String())
			return c
		}
	}
	return c
}

// TestComposedAttacks: of 10,000 statements, none returns, counts or changes a row of another tenant, then or in the requests of others
// that follow.
func TestComposedAttacks(t *testing.T) {
	seed := seed(t)
	a := newTarget(t, true)
	began := time.Now()
	c := a.attack(t, newGrammar(seed), composedStatements)
	require.Empty(t, c.breach, "%s=%d", seedVariable, seed)
	require.GreaterOrEqual(t, c.statements, composedStatements)
	t.Logf("%s=%d: %d statements, %d errors, %d values in %s; errors %v", seedVariable, seed, c.statements, c.errs, c.values, time.Since(began), c.codes)
	require.Less(t, c.errs, c.statements, "most of what is composed must run: %v", c.codes)
	require.Greater(t, c.values, composedStatements/10, "%s=%d", seedVariable, seed)
}

// TestComposedAttacksBreachWithoutKey: the same statements reach others where nothing is signed.
func TestComposedAttacksBreachWithoutKey(t *testing.T) {
	seed := seed(t)
	for n := range uint64(3) {
		a := newTarget(t, false)
		require.NotEmpty(t, a.attack(t, newGrammar(seed+n), 1_000).breach, "%s=%d", seedVariable, seed+n)
	}
}

// FuzzComposedAttack lets the fuzzer choose the seeds.
func FuzzComposedAttack(f *testing.F) {
	a := newTarget(f, true)
	for seed := range uint64(4) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		require.Empty(t, a.attack(t, newGrammar(seed), 20).breach, "%s=%d", seedVariable, seed)
	})
}
