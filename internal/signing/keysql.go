package signing

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// keyFunction is a function for operators. It runs with the rights of who calls it, and only members of the role that owns the schema may.
type keyFunction struct{ name, parameters, types, returns, source string }

// SettleIn is how long it takes, beside the life of a proof, until a key that was added is the one that signs everywhere: keys are read again about
// once a minute, and clocks may differ by Skew.
const SettleIn = "2 minutes"

// UploadView takes keys by COPY, whose data no setting of the server has it log: parameters of statements are logged by log_statement and
// log_min_duration_statement, unless log_parameter_max_length is 0.
const UploadView = "new_keys"

// The SQLSTATEs that the functions raise.
const (
	StateTooManyKeys = "54000" // there are two already
	StateUnknownKey  = "42704"
	StateOnlyKey     = "55000"
	StateTooEarly    = "55006" // proofs by the key may be in use
	StateNewestKey   = "55P02" // the application may sign with it
	StateOtherCall   = "22023" // arguments that cannot be
)

var keyFunctions = []keyFunction{
	{"add_key", "id pg_catalog.text, secret pg_catalog.bytea", "pg_catalog.text, pg_catalog.bytea", "pg_catalog.void", addKeySource},
	{"generate_key", "id pg_catalog.text", "pg_catalog.text", "pg_catalog.text", generateKeySource},
	{
		"retire_key",
		"id pg_catalog.text, proof_lifetime pg_catalog.interval DEFAULT '5 minutes', dangerously_at_once pg_catalog.bool DEFAULT false, dangerously_the_only_key pg_catalog.bool DEFAULT false",
		"pg_catalog.text, pg_catalog.interval, pg_catalog.bool, pg_catalog.bool", "pg_catalog.void", retireKeySource,
	},
	{
		"list_keys", "", "", "TABLE (id pg_catalog.text, created_at pg_catalog.timestamptz, age pg_catalog.interval, newest pg_catalog.bool)", `
BEGIN
	RETURN QUERY SELECT k.id, k.created_at, pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) k.created_at,
		pg_catalog.row_number() OVER (ORDER BY k.created_at DESC, k.id) OPERATOR(pg_catalog.=) 1
		FROM tenancy_signed.keys k ORDER BY k.created_at DESC, k.id;
END
`,
	},
	{"upload_key", "", "", "trigger", `
BEGIN
	PERFORM tenancy_signed.add_key(NEW.id, NEW.secret);
	RETURN NEW;
END
`},
}

// generateKeySource makes the secret in PostgreSQL, so that no statement has it: results are never logged. A uuid has 122 random bits.
const generateKeySource = `
DECLARE
	secret pg_catalog.bytea := pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(
		pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid()), 'UTF8'));
BEGIN
	PERFORM tenancy_signed.add_key(id, secret);
	RETURN pg_catalog.concat(id, ':', pg_catalog.encode(secret, 'base64'));
END
`

const retireKeySource = `
DECLARE
	since pg_catalog.timestamptz;
BEGIN
	LOCK TABLE tenancy_signed.keys IN SHARE ROW EXCLUSIVE MODE;
	IF NOT EXISTS (SELECT FROM tenancy_signed.keys k WHERE k.id OPERATOR(pg_catalog.=) id) THEN
		RAISE EXCEPTION 'tenancy: there is no signing key of this id' USING ERRCODE = '42704';
	END IF;
	IF proof_lifetime IS NULL OR proof_lifetime OPERATOR(pg_catalog.<) pg_catalog.make_interval(mins => 1)
		OR proof_lifetime OPERATOR(pg_catalog.>) pg_catalog.make_interval(hours => 1) THEN
		RAISE EXCEPTION 'tenancy: the life of a proof is one minute to one hour, as Config.ProofLifetime' USING ERRCODE = '22023';
	END IF;
	SELECT pg_catalog.max(k.created_at) INTO since FROM tenancy_signed.keys k WHERE k.id OPERATOR(pg_catalog.<>) id;
	IF since IS NULL AND dangerously_the_only_key IS NOT TRUE THEN
		RAISE EXCEPTION 'tenancy: it is the only signing key: no statement would see a row without it. Add the next one first' USING ERRCODE = '55000';
	END IF;
	IF since OPERATOR(pg_catalog.<) (SELECT k.created_at FROM tenancy_signed.keys k WHERE k.id OPERATOR(pg_catalog.=) id) AND dangerously_at_once IS NOT TRUE THEN
		RAISE EXCEPTION 'tenancy: it is the newest signing key, and the application may sign with it: retire the other one' USING ERRCODE = '55P02';
	END IF;
	IF pg_catalog.statement_timestamp() OPERATOR(pg_catalog.<) (since OPERATOR(pg_catalog.+) proof_lifetime
		OPERATOR(pg_catalog.+) pg_catalog.make_interval(mins => 2)) AND dangerously_at_once IS NOT TRUE THEN
		RAISE EXCEPTION 'tenancy: the other signing key is too new: proofs by this one may be in use until %',
			since OPERATOR(pg_catalog.+) proof_lifetime OPERATOR(pg_catalog.+) pg_catalog.make_interval(mins => 2) USING ERRCODE = '55006';
	END IF;
	DELETE FROM tenancy_signed.keys k WHERE k.id OPERATOR(pg_catalog.=) id;
END
`

// body is the source as it stands in the catalog: parameters are meant where a column has their name.
func (f keyFunction) body() string { return "#variable_conflict " + f.conflict() + f.source }

// conflict says what is meant where a column has the name of a parameter. Columns of a result are no parameters to mean.
func (f keyFunction) conflict() string {
	if strings.HasPrefix(f.returns, "TABLE") {
		return "use_column"
	}
	return "use_variable"
}

// keyObjects returns the statements that make them, and the view.
func keyObjects() []string {
	var statements []string
	for _, f := range keyFunctions {
		name := Schema + "." + f.name
		statements = append(statements,
			fmt.Sprintf("CREATE OR REPLACE FUNCTION %s(%s) RETURNS %s\n\tLANGUAGE plpgsql AS $tenancy$%s$tenancy$", name, f.parameters, f.returns, f.body()),
			fmt.Sprintf("REVOKE ALL ON FUNCTION %s(%s) FROM PUBLIC", name, f.types))
	}
	view := Schema + "." + UploadView
	return append(statements,
		fmt.Sprintf("CREATE OR REPLACE VIEW %s AS SELECT k.id, k.inner_pad AS secret FROM %s.keys k WHERE false", view, Schema),
		fmt.Sprintf("REVOKE ALL ON TABLE %s FROM PUBLIC", view),
		fmt.Sprintf("DROP TRIGGER IF EXISTS upload ON %s", view),
		fmt.Sprintf("CREATE TRIGGER upload INSTEAD OF INSERT ON %s FOR EACH ROW EXECUTE FUNCTION %s.upload_key()", view, Schema))
}

// keysAreSetUp is SQL for whether all that keyObjects makes is there, and owned by the role $1.
func keysAreSetUp() string {
	var known []string
	for _, f := range keyFunctions {
		sum := sha256.Sum256([]byte(f.body()))
		known = append(known, fmt.Sprintf("('%s', '%s')", f.name, hex.EncodeToString(sum[:])))
	}
	return fmt.Sprintf(`(SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) %d FROM (VALUES %s) ours (name, digest)
	JOIN pg_catalog.pg_proc f ON f.proname OPERATOR(pg_catalog.=) ours.name
		AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(f.prosrc, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) ours.digest
	WHERE f.pronamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%s') AND pg_catalog.pg_get_userbyid(f.proowner) OPERATOR(pg_catalog.=) $1
		AND NOT f.prosecdef AND f.proconfig IS NULL)
	AND EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) t.tgrelid
		WHERE v.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('%s.%s') AND pg_catalog.pg_get_userbyid(v.relowner) OPERATOR(pg_catalog.=) $1
			AND t.tgname OPERATOR(pg_catalog.=) 'upload' AND t.tgfoid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure('%s.upload_key()'))`,
		len(keyFunctions), strings.Join(known, ", "), Schema, Schema, UploadView, Schema)
}
