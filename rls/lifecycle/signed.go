package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// A database with rls.Isolation.Signed shows a tenant's rows only with a proof that an application makes with its key. A run needs no key: it
// takes, for one statement, the role that owns the keys, and has PostgreSQL make the proof. Then it goes on as the role that policies bind.

// judge is the best verdict on policies that compare this column, in any form that rls.Isolation makes: which one it is comes from the
// catalog, as everything else does.
func (s *session) judge(key *column, judge func(policy.Config) policy.Verdict) policy.Verdict {
	config, best := s.config.On(key.Name), policy.Unproved
	for _, config.Form = range []policy.Form{policy.Unsigned, policy.Either, policy.Signed} {
		best = max(best, judge(config))
	}
	return best
}

func (s *session) judgeExpression(key *column, e *policy.Expression) policy.Verdict {
	return s.judge(key, func(c policy.Config) policy.Verdict { return c.Judge(e, key.Base) })
}

// needsProof reports whether a table of the tenant shows rows only with a proof. The functions that its policies call are then those of package
// signing, so that the role which owns them is the one to take.
func (s *session) needsProof(c *scope) bool {
	return slices.ContainsFunc(slices.Concat(c.tables(), c.kept), func(r *relation) bool {
		config := s.config.On(r.key.Name)
		config.Form = policy.Signed
		return slices.ContainsFunc(r.Policies, func(p appliedPolicy) bool {
			return p.Using != nil && p.Using.Text != "false" && config.Judge(p.Using, r.key.Base) != policy.Unproved
		})
	})
}

// proofLifetime bounds a transaction of a run. The proof is good for this connection, login, tenant and transaction alone, and is never sent.
const proofLifetime = 24 * time.Hour

// sign makes the proof, and leaves the role of the owner of the keys in use.
func (s *session) sign(ctx context.Context) error {
	var owner string
	err := s.each(ctx, signing.OwnerSQL(policy.CanTake), func(values [][]byte) error {
		if owner = string(values[0]); string(values[1]) != "t" {
			return fmt.Errorf("policies demand a signature: log in as a member of the role %q, which owns the keys, as the role that migrates is", owner)
		}
		return nil
	})
	if err == nil && owner == "" {
		err = errors.New("policies demand a signature, and the schema of the keys is missing: run Isolation.Migrate")
	}
	if err != nil {
		return err
	}
	if _, err := s.row(ctx, "SELECT pg_catalog.set_config('role', $1, true)", owner); err != nil {
		return err
	}
	signed := false
	err = s.each(ctx, signing.SignSQL, func([][]byte) error { signed = true; return nil },
		s.config.Setting, s.tenant, strconv.Itoa(int(proofLifetime.Seconds())))
	if err == nil && !signed {
		err = fmt.Errorf("policies demand a signature, and there is no key: add one, with %s.add_key", signing.Schema)
	}
	return err
}

// stillSigned ensures that the policies have shown the tenant's rows until now: a run whose key was retired would find no more, and take the
// tenant for empty.
func (s *session) stillSigned(ctx context.Context) error {
	if !s.signs {
		return nil
	}
	row, err := s.row(ctx, "SELECT coalesce("+signing.Call(signing.FunctionTenant, s.config.Setting)+" OPERATOR(pg_catalog.=) $1, false)", s.tenant)
	if err == nil && string(row[0]) != "t" {
		err = fmt.Errorf("%w: the signature of the run is not good, or no longer: its key was retired, it took more than %s, or a trigger has changed the "+
			"setting: begin again", ErrRowsHidden, proofLifetime)
	}
	return err
}
