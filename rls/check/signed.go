package check

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// breach is a right of the login that it must not have where tenants are signed. The plugin asks for the same ones when it starts.
type breach struct{ signing.Breach }

func (b breach) String() string { return b.Object }

// The login is the role that the application logs in as, or without one its role.
var wallQuery = signing.WallSQL("coalesce(nullif($9, ''), $2)")

// wallRules are one for each right of the wall, in its order.
var wallRules = func() []rule[breach] {
	rules := make([]rule[breach], len(signing.Wall))
	for n, right := range signing.Wall {
		what := wallMeanings[Code(right.Code)]
		rules[n] = rule[breach]{
			code: Code(right.Code), severity: what.severity,
			found:   func(_ *checker, b breach) bool { return b.Code == right.Code },
			problem: "In spite of the signature, %s: " + what.means,
			detail:  func(_ *checker, b breach) string { return b.Problem },
			fix: func(_ *checker, b breach) []string {
				if len(b.Fix) == 0 {
					return nil
				}
				return append([]string{asSuperuser}, b.Fix...)
			},
		}
	}
	return rules
}()

// meaning says what a right is good for.
type meaning struct {
	severity Severity
	means    string
}

var wallMeanings = map[Code]meaning{
	SignedFunctionsDiffer:     {Critical, "what stands in their place may let every tenant through. Run Migrate."},
	SignedKeysReachable:       {Critical, "SQL that has them signs for every tenant."},
	SignedRoleUnbound:         {Critical, "SQL goes around what asks for the signature."},
	SignedRolePredefined:      {High, "such roles read what no signature protects, or end the sessions of others."},
	SignedRoleExempt:          {Critical, "no signature is asked for there."},
	SignedOwns:                {High, "SQL changes what runs for other tenants."},
	SignedCreate:              {High, "what is made there runs for other tenants, or with the rights of other roles."},
	SignedRightsWithoutPolicy: {Critical, "SQL of one tenant changes or hinders the rows of others by it."},
	SignedTemporary:           {High, "they take the place of tables and functions that statements mean."},
	SignedStatementsRecorded:  {High, "values of other tenants that were written into texts are among them."},
	SignedLargeObjects:        {High, "each tenant reads those of all by their numbers."},
	SignedStatementsVisible:   {High, "values of other tenants that were written into texts are among them."},
	SignedLargeObjectsCreated: {Low, "take away the functions that make them."},
}

// signingKeys are how many keys the database has.
type signingKeys struct{ count int }

func (signingKeys) String() string { return "table " + signing.Schema + ".keys" }

// maxKeys are the one in use, and the one that takes its place.
const maxKeys = 2

var keyRules = []rule[signingKeys]{
	{
		code: SignedKeyMissing, severity: Medium,
		found:   func(_ *checker, k signingKeys) bool { return k.count == 0 },
		problem: "There is no signing key: statements see no row, and the application does not start. Add one with \"tenancy keys add\".",
	},
	{
		code: SignedKeysMany, severity: Low,
		found:   func(_ *checker, k signingKeys) bool { return k.count > maxKeys },
		problem: "There are %s signing keys, and two are enough to replace one: who has an old one signs for every tenant. Retire those that do not sign any more with \"tenancy keys retire\".",
		detail:  func(_ *checker, k signingKeys) string { return fmt.Sprint(k.count) },
	},
}

// readKeys counts the keys, where the connection's role may.
func (c *checker) readKeys(ctx context.Context, conn gorm.ConnPool) error {
	if c.Form == policy.Unsigned || c.narrowed {
		return nil
	}
	var exists, may bool
	const mayQuery = `SELECT k.oid IS NOT NULL, coalesce(pg_catalog.has_column_privilege(k.oid, 'id', 'SELECT'), false)
		FROM (SELECT pg_catalog.to_regclass('` + signing.Schema + `.keys')::pg_catalog.oid) k (oid)`
	if err := conn.QueryRowContext(ctx, mayQuery).Scan(&exists, &may); err != nil {
		return err
	}
	if !may {
		if exists {
			c.unseen = append(c.unseen, "How many signing keys there are is for members of the role that owns the schema "+signing.Schema+".")
		}
		return nil
	}
	var k signingKeys
	if err := conn.QueryRowContext(ctx, `SELECT pg_catalog.count(id) FROM `+signing.Schema+`.keys`).Scan(&k.count); err != nil {
		return err
	}
	c.facts.keys = []signingKeys{k}
	return nil
}
