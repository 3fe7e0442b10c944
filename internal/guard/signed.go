package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// With Config.Signer each statement carries a proof that it runs for its tenant, beside the tenant itself. The proof is a parameter, and
// never a part of SQL text: pg_stat_activity shows the text of a statement to all sessions of the same login. So statements take the
// extended protocol, which also takes no more than one statement.

var (
	errSignedText = errors.New("tenancy: a connection in pgx's mode simple_protocol cannot carry the proof of a tenant, which would be a part of SQL text " +
		"that other sessions can read: use another QueryExecMode")
	errSignedExplain = errors.New("tenancy: with SigningKeys, EXPLAIN is refused in statements of a tenant, because it counts the rows of others as well: " +
		"use the command tenancy explain")
	errSignedSeveral = errors.New("tenancy: with SigningKeys, SQL text with several statements is refused: send each statement by itself")
)

// maxProofs bounds how many proofs a connection keeps.
const maxProofs = 64

// noProof takes the place of a proof that the transaction has. A nil slice would be NULL.
var noProof = signing.Signed{Proof: []byte{}}

// proofKey is what a proof is for. Pools with keys of their own may share a connection.
type proofKey struct {
	signer  *signing.Signer
	setting string
	kind    signing.Kind
	tenant  string
}

// signs reports whether statements of the pool carry proofs.
func (cfg *Config) signs() bool { return cfg.Signer != nil }

// proofOf returns the proof for a scope, which is empty for those that need none: the policies of a bypass ask for no tenant, and
// questions to the catalog read no table of a tenant. It makes a proof once for each connection and tenant, and again when half of its
// life is over or another key signs.
func (c *conn) proofOf(ctx context.Context, pc *pgx.Conn, s scope) (signing.Signed, error) {
	if !c.cfg.signs() || s.bypass != nil || s.observed || s.tenant == "" && !s.lookup {
		return noProof, nil
	}
	key := proofKey{signer: c.cfg.Signer, setting: c.cfg.Setting, kind: signing.Tenant, tenant: s.tenant}
	if s.tenant == "" {
		key.kind = signing.Lookup
	}
	if known, found := c.proofs[key]; found && clock.Now().Before(known.Renew) && c.cfg.Signer.Signs(known.Key) {
		return known, nil
	}
	signed, err := c.cfg.Signer.Sign(ctx, signing.Claims{
		Kind: key.kind, Setting: key.setting, Tenant: key.tenant, Login: c.login, Process: pc.PgConn().PID(),
	})
	if err != nil {
		return signing.Signed{}, fmt.Errorf("tenancy: sign the tenant: %w", err)
	}
	if len(c.proofs) >= maxProofs {
		clear(c.proofs)
	}
	if c.proofs == nil {
		c.proofs = make(map[proofKey]signing.Signed)
	}
	c.proofs[key] = signed
	return signed, nil
}

// proofExpires reports whether the proof that was sent last may expire before a commit has run deferred triggers: whether as much of its
// life is over that a statement would carry another one.
func (c *conn) proofExpires() bool {
	return c.cfg.signs() && !c.provedUntil.IsZero() && clock.Now().Add(c.cfg.Signer.Lifetime/2).After(c.provedUntil)
}

// explains reports whether a statement of a tenant asks for a plan. Plans tell how many rows were passed over, those of other tenants among
// them, and estimates come from the values of all.
func (c *conn) explains(q *call) bool {
	return c.cfg.signs() && q.scope.tenant != "" && strings.EqualFold(firstWord(skipEmpty(q.sql)), "EXPLAIN")
}

// severalError explains that PostgreSQL takes one statement in the extended protocol.
func (c *conn) severalError(err error) error {
	const syntaxError = "42601"
	switch {
	case !c.cfg.extended() || !isFromServer(err, syntaxError, "exec_parse_message"):
		return err
	case c.cfg.Citus:
		return errors.Join(errCitusSeveral, err)
	}
	return errors.Join(errSignedSeveral, err)
}
