package signing

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Schema holds the keys and the functions.
const Schema = "tenancy_signed"

// DefaultRole is the role that owns the schema and all in it. It cannot log in.
const DefaultRole = "tenancy_signer"

// ProofSuffix makes the name of the setting that holds the proof of that which holds the tenant.
const ProofSuffix = "_proof"

// The functions that verify. Each takes the name of the setting that holds the tenant.
const (
	FunctionTenant         = "tenant"             // the tenant, or NULL without a proof
	FunctionLookup         = "lookup"             // whether there is a proof of a lookup
	FunctionTenantEither   = "tenant_or_unsigned" // the same where nothing was signed, for the time of a change
	FunctionLookupEither   = "lookup_or_unsigned"
	verifyingArguments     = "(setting pg_catalog.text)"
	verifyingArgumentTypes = "(pg_catalog.text)"
)

// Call is a call of one of the functions, for the setting of this name.
func Call(function, setting string) string {
	return fmt.Sprintf("%s.%s(%s)", Schema, function, sqltext.Literal(setting))
}

// Function is a function as it should be in the catalog.
type Function struct {
	Name    string
	Returns string // as format_type writes it
	Source  string // pg_proc.prosrc
}

// Functions are those that verify.
var Functions = []Function{
	{FunctionTenant, "text", source(Tenant, "tenant", "")},
	{FunctionLookup, "boolean", source(Lookup, "true", "")},
	{FunctionTenantEither, "text", source(Tenant, "tenant", "CASE WHEN tenant OPERATOR(pg_catalog.<>) '' THEN tenant END")},
	{FunctionLookupEither, "boolean", source(Lookup, "true", "true")},
}

// Digest is the SHA-256 of the function's source, in hexadecimal.
func (f Function) Digest() string {
	sum := sha256.Sum256([]byte(f.Source))
	return hex.EncodeToString(sum[:])
}

// IsOurs returns SQL for whether an oid is that of one of the functions that verify, with the source that it has here, and owned by the
// role that owns the schema and the keys: a function of that name by another role could let everything through.
func IsOurs(oid string) string {
	var known []string
	for _, f := range Functions {
		known = append(known, fmt.Sprintf("('%s', '%s')", f.Name, f.Digest()))
	}
	return strings.NewReplacer("@oid", oid, "@schema", Schema, "@known", strings.Join(known, ", ")).Replace(
		`EXISTS (SELECT FROM pg_catalog.pg_proc f` +
			` JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) f.prolang AND l.lanname OPERATOR(pg_catalog.=) 'plpgsql'` +
			` JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.pronamespace AND n.nspname OPERATOR(pg_catalog.=) '@schema'` +
			` AND n.nspowner OPERATOR(pg_catalog.=) f.proowner` +
			` JOIN pg_catalog.pg_class k ON k.relnamespace OPERATOR(pg_catalog.=) n.oid AND k.relname OPERATOR(pg_catalog.=) 'keys'` +
			` AND k.relkind OPERATOR(pg_catalog.=) 'r' AND k.relowner OPERATOR(pg_catalog.=) f.proowner` +
			` JOIN (VALUES @known) ours (name, digest) ON f.proname OPERATOR(pg_catalog.=) ours.name` +
			` AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(f.prosrc, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) ours.digest` +
			` WHERE f.oid OPERATOR(pg_catalog.=) @oid AND f.pronargs OPERATOR(pg_catalog.=) 1` +
			` AND f.proargtypes[0] OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype::pg_catalog.oid` +
			` AND f.prosecdef AND f.proconfig IS NULL AND f.provolatile OPERATOR(pg_catalog.=) 's'` +
			` AND NOT (SELECT r.rolcanlogin FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) f.proowner))`)
}

// source is the body of a verifying function. It returns verified where there is a good proof, and NULL otherwise. Where unsigned is not empty,
// it returns that where there is no proof.
//
//   - Every name and operator is qualified, so that no search_path changes what they mean. There is no IN, BETWEEN or NULLIF, which
//     look for an operator by its name.
//   - A text is never cast before the digest was compared, which CASE is for, so that no content of the settings raises an error.
//   - The digests are hashed once more and then compared: how long that takes tells nothing about the digest that is right.
//   - It runs in PostgreSQL's leader (PARALLEL RESTRICTED), because a worker is another process than the one in the proof.
//   - statement_timestamp, and not the clock: a statement that runs for an hour is judged by its beginning.
//   - A proof from before the server's start is worth nothing: process numbers begin again, and in a container with the same ones.
//   - It is short, because its time is that of preparing expressions: PostgreSQL does so again in each transaction, for each function in them.
func source(kind Kind, verified, unsigned string) string {
	first := ""
	if unsigned != "" {
		first = unsignedSource
	}
	return strings.NewReplacer(
		"@kind", string([]byte{version, byte(kind)}), "@unsigned", strings.ReplaceAll(first, "@value", unsigned), "@verified", verified,
		"@suffix", ProofSuffix, "@schema", Schema, "@bound", string(rune(bound)),
	).Replace(sourceTemplate)
}

const sourceTemplate = `
DECLARE
	tenant pg_catalog.text := pg_catalog.current_setting(setting, true);
	proof pg_catalog.text := pg_catalog.current_setting(setting OPERATOR(pg_catalog.||) '@suffix', true);
	head pg_catalog.text := pg_catalog.substr(proof, 65);
	inner_block pg_catalog.bytea;
	outer_block pg_catalog.bytea;
BEGIN@unsigned
	SELECT k.inner_pad, k.outer_pad INTO inner_block, outer_block
		FROM @schema.keys k WHERE k.id OPERATOR(pg_catalog.=) pg_catalog.substr(head, 24);
	RETURN CASE WHEN pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.substr(proof, 1, 64), 'UTF8')) OPERATOR(pg_catalog.=)
		pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(pg_catalog.sha256(outer_block OPERATOR(pg_catalog.||)
			pg_catalog.sha256(inner_block OPERATOR(pg_catalog.||) pg_catalog.convert_to(pg_catalog.concat(
				head, '|',
				CASE WHEN pg_catalog.substr(head, 3, 1) OPERATOR(pg_catalog.=) '@bound' THEN pg_catalog.pg_backend_pid() END, '|',
				pg_catalog.octet_length(session_user::pg_catalog.text), '|', setting, '|', session_user, tenant), 'UTF8'))), 'hex'), 'UTF8'))
		THEN CASE WHEN pg_catalog.substr(head, 1, 2) OPERATOR(pg_catalog.=) '@kind'
			AND pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.<=)
				pg_catalog.substr(head, 14, 10)::pg_catalog.float8
			AND pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.<=)
				pg_catalog.substr(head, 4, 10)::pg_catalog.float8
			THEN @verified END END;
END
`

// unsignedSource comes first in a function that also lets through what was not signed.
const unsignedSource = `
	IF proof IS NULL OR proof OPERATOR(pg_catalog.=) '' THEN
		RETURN @value;
	END IF;`

// addKeySource adds a key. It raises no error with the secret: it checks what constraints of the table would refuse with the whole row.
const addKeySource = `
DECLARE
	inner_block pg_catalog.bytea := pg_catalog.decode(pg_catalog.repeat('36', 64), 'hex');
	outer_block pg_catalog.bytea := pg_catalog.decode(pg_catalog.repeat('5c', 64), 'hex');
BEGIN
	IF id IS NULL OR id OPERATOR(pg_catalog.!~) '^[A-Za-z0-9_.-]{1,32}$' THEN
		RAISE EXCEPTION 'tenancy: the id of a signing key must be 1 to 32 letters, digits, dots, dashes or underscores'
			USING ERRCODE = '22023';
	END IF;
	IF secret IS NULL OR pg_catalog.octet_length(secret) OPERATOR(pg_catalog.<) 32
		OR pg_catalog.octet_length(secret) OPERATOR(pg_catalog.>) 64 THEN
		RAISE EXCEPTION 'tenancy: the secret of a signing key must have 32 to 64 bytes' USING ERRCODE = '22023';
	END IF;
	LOCK TABLE tenancy_signed.keys IN SHARE ROW EXCLUSIVE MODE;
	IF (SELECT pg_catalog.count(*) FROM tenancy_signed.keys) OPERATOR(pg_catalog.>=) 2 THEN
		RAISE EXCEPTION 'tenancy: there are two signing keys: retire one first' USING ERRCODE = '54000';
	END IF;
	FOR n IN 0..pg_catalog.octet_length(secret) OPERATOR(pg_catalog.-) 1 LOOP
		inner_block := pg_catalog.set_byte(inner_block, n,
			pg_catalog.get_byte(secret, n) OPERATOR(pg_catalog.#) pg_catalog.get_byte(inner_block, n));
		outer_block := pg_catalog.set_byte(outer_block, n,
			pg_catalog.get_byte(secret, n) OPERATOR(pg_catalog.#) pg_catalog.get_byte(outer_block, n));
	END LOOP;
	INSERT INTO tenancy_signed.keys (id, inner_pad, outer_pad) VALUES (id, inner_block, outer_block);
END
`

// Setup returns the statement that makes the schema, for the role that migrates, which must be able to take the role that will own it.
// It can be repeated, and leaves the keys as they are.
func Setup(role string) string {
	body := []string{"was := pg_catalog.current_setting('role')"}
	body = append(body, fmt.Sprintf("CREATE SCHEMA IF NOT EXISTS %s AUTHORIZATION %s", Schema, sqltext.Ident(role)),
		fmt.Sprintf("PERFORM pg_catalog.set_config('role', %s, true)", sqltext.Literal(role)))
	body = append(body, objects()...)
	body = append(body, "PERFORM pg_catalog.set_config('role', was, true)")
	return "DO $tenancy_setup$\nDECLARE\n\twas pg_catalog.text;\nBEGIN\n" + strings.Join(body, ";\n") + ";\nEND\n$tenancy_setup$"
}

// objects returns the statements that make what is in the schema.
func objects() []string {
	statements := []string{
		fmt.Sprintf("REVOKE ALL ON SCHEMA %s FROM PUBLIC", Schema),
		fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO PUBLIC", Schema),
		fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s.keys (
	id pg_catalog.text COLLATE pg_catalog."C" PRIMARY KEY,
	inner_pad pg_catalog.bytea NOT NULL,
	outer_pad pg_catalog.bytea NOT NULL,
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now())`, Schema),
		fmt.Sprintf("REVOKE ALL ON TABLE %s.keys FROM PUBLIC", Schema),
	}
	for _, f := range Functions {
		statements = append(statements,
			fmt.Sprintf("CREATE OR REPLACE FUNCTION %s.%s%s RETURNS pg_catalog.%s\n"+
				"\tLANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED AS $tenancy$%s$tenancy$",
				Schema, f.Name, verifyingArguments, strings.Replace(f.Returns, "boolean", "bool", 1), f.Source),
			fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s.%s%s TO PUBLIC", Schema, f.Name, verifyingArgumentTypes))
	}
	return append(statements, keyObjects()...)
}

// IsSetUp is SQL for whether Setup has nothing to do: all functions are as it makes them, and the role, $1, owns them.
var IsSetUp = fmt.Sprintf(`SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) %d FROM pg_catalog.pg_proc p
	WHERE pg_catalog.pg_get_userbyid(p.proowner) OPERATOR(pg_catalog.=) $1 AND %s
	AND pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE') AND %s`, len(Functions), IsOurs("p.oid"), keysAreSetUp())
