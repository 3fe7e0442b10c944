package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// signer is what is known of the keys of a database.
type signer struct {
	owner  string // of the keys; empty where there are none
	member bool   // the login may take that role
	proved bool   // a proof was made
}

// proofSeconds bounds the statement of explain. The proof is good for its connection alone.
const proofSeconds = 3600

// sign has PostgreSQL sign for the tenant until the transaction ends, if the login is a member of the role that owns the keys. The role in use
// is then what it was.
func sign(ctx context.Context, tx *sql.Tx, setting, tenant string) (signer, error) {
	var s signer
	err := tx.QueryRowContext(ctx, signing.OwnerSQL(policy.CanTake)).Scan(&s.owner, &s.member)
	if errors.Is(err, sql.ErrNoRows) {
		return signer{}, nil
	}
	if err != nil || !s.member {
		return s, err
	}
	var role string
	if err := tx.QueryRowContext(ctx, "SELECT pg_catalog.current_setting('role')").Scan(&role); err != nil {
		return s, err
	}
	const take = "SELECT pg_catalog.set_config('role', $1, true)"
	if _, err := tx.ExecContext(ctx, take, s.owner); err != nil {
		return s, err
	}
	switch err := tx.QueryRowContext(ctx, signing.SignSQL, setting, tenant, proofSeconds).Scan(new(bool)); {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return s, err
	default:
		s.proved = true
	}
	_, err = tx.ExecContext(ctx, take, role)
	return s, err
}

// missing says how to have a proof made.
func (s signer) missing() string {
	if s.member {
		return "the database has no key: add one with \"tenancy keys add\""
	}
	return fmt.Sprintf("log in as a member of the role %q, which owns the keys, and name the application's role by --app-role", s.owner)
}

// verification is what a plan has to do with signatures.
type verification struct {
	signer        signer
	signed        bool // a table that it reads demands one
	once, forRows int  // where it verifies one
}

// words says it in words.
func (v verification) words() string {
	var text string
	switch {
	case !v.signed:
		return ""
	case v.forRows > 0:
		text = "Attention: the policies verify a signature of the tenant (" + signing.Schema + "), for each row that is read: \"tenancy check --signed\" prints policies that do so once.\n"
	case v.once == 1:
		text = "The policies demand a signature of the tenant (" + signing.Schema + "). It is verified once for the statement, before the first row, however many are read.\n"
	case v.once > 1:
		text = fmt.Sprintf("The policies demand a signature of the tenant (%s). It is verified once for each of %d tables or parts of the statement, however many rows are read.\n",
			signing.Schema, v.once)
	default:
		text = "The policies demand a signature of the tenant (" + signing.Schema + "), and this plan verifies none.\n"
	}
	if !v.signer.proved {
		text += "No signature was made, so that the statement would find no row; the plan is the same with one. To run it, " + v.signer.missing() + ".\n"
	}
	return text
}
