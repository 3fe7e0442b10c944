package tenancy

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// What is remembered costs a statement nothing.
func TestRememberedProofAllocatesNothing(t *testing.T) {
	type Patient struct {
		ID       int64
		TenantID string
	}
	cfg, err := pgx.ParseConfig("postgres://nobody@127.0.0.1:1/nothing")
	require.NoError(t, err)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: stdlib.OpenDB(*cfg)}), &gorm.Config{DisableAutomaticPing: true})
	require.NoError(t, err)
	p := New(Config{DangerouslyAllowUnsafeRole: true})
	require.NoError(t, db.Use(p))
	guarded, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, guarded.Close()) })
	pool, err := p.pool(t.Context(), guarded, nil, false)
	require.NoError(t, err)
	known, yes := p.newProof(pool.home, subject{table: "patients", kind: kindTenant}, `"patients"`), isolated
	known.verdict.Store(&yes)
	pool.home.proofs.remember(known)

	// As GORM's callbacks do, the statement is marked first.
	tx := db.WithContext(WithTenant(context.Background(), "acme")).Model(&Patient{}).Where("id = 1")
	require.NoError(t, tx.Statement.Parse(&Patient{}))
	markBypass(tx, "query")
	require.Zero(t, testing.AllocsPerRun(100, func() { p.query(tx) }))
	require.NoError(t, tx.Error)
}

func TestTableNames(t *testing.T) {
	for given, want := range map[string]string{
		`"patients"`:           `"patients"`,
		`patients AS p`:        `patients`,
		`"s"."Pa.tients" p`:    `"s"."Pa.tients"`,
		` s.patients, doctors`: `s.patients`,
		`(SELECT 1) AS x`:      ``,
	} {
		var got string
		if m := identifier.FindStringSubmatch(given); m != nil {
			got = m[1]
		}
		require.Equal(t, want, got)
	}
}

func TestFurtherTables(t *testing.T) {
	for given, want := range map[string][]string{
		`"patients"`:                            nil,
		`s.patients AS p, doctors d,"Do,ctors"`: {"doctors", `"Do,ctors"`},
		`a LEFT JOIN b ON (b.id = s.a.id) CROSS JOIN LATERAL f(x) y`:           {"b", "b.id"},
		`(select * from s.notes JOIN ONLY (tasks) USING (id), tasks) "select"`: {"s.notes", "tasks", "id"},
		"/* a */ notes": {"notes"},
		"-- a\n notes":  {"notes"},
	} {
		require.Equal(t, want, furtherTables(&clause.Expr{SQL: given}), given)
	}
	require.Empty(t, furtherTables(nil))
}

func TestProofsAreBounded(t *testing.T) {
	var p proofs
	for i := range 3 * maxProofs / 2 {
		p.remember(&proof{about: subject{table: string(rune('a' + i))}})
	}
	require.Len(t, *p.known.Load(), maxProofs)
	require.NotNil(t, p.of(subject{table: "a"}))
	require.Nil(t, p.of(subject{table: "never asked about"}))
}

// What PostgreSQL raises is found in every language of its messages, and nothing else is taken for it.
func TestLeakInErrors(t *testing.T) {
	raised := func(code, message string) error { return &pgconn.PgError{Code: code, Message: message} }
	const document = `tenancy.not_isolated {"table" : "s.\"t\"", "kind" : "r", "policy" : "a}"}`
	for _, message := range []string{
		`unrecognized configuration parameter "` + document + `"`,
		`unbekannter Konfigurationsparameter »` + document + `«`,
	} {
		require.Equal(t, &leak{Table: `s."t"`, Kind: "r", Policy: "a}"}, leakIn(raised("42704", message)))
	}
	require.Nil(t, leakIn(raised("57014", "canceling statement due to user request")))
	require.Nil(t, leakIn(raised("42704", `type "x" does not exist`)))
	require.Nil(t, leakIn(errors.New(document)))
	require.NotNil(t, leakIn(raised("42704", `"tenancy.not_isolated {?}"`)), "it is refused, whatever it says")
}
