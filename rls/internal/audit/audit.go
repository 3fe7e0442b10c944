// Package audit knows the records of changes to rows: their table, and the trigger function that writes them.
package audit

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

const (
	// Name is that of the table of records, of the function, and of the trigger of each row.
	Name = "tenancy_audit"
	// Truncate is the trigger that refuses TRUNCATE.
	Truncate = "tenancy_audit_truncate"
	// Default is the partition of records for whose time there is no other.
	Default = "tenancy_audit_default"
	// Sequence numbers the records.
	Sequence = "tenancy_audit_id_seq"
	// Write is the policy that lets the function write records of every tenant.
	Write = "tenant_audit"
	// Setting holds what the application says about a statement, as a JSON object.
	Setting = "tenancy.audit"
)

// What triggers fire for, as pg_trigger.tgtype has it (catalog/pg_trigger.h): each row, after INSERT, DELETE or UPDATE; and a
// statement, before TRUNCATE.
const (
	RowType      = 1 + 4 + 8 + 16
	TruncateType = 2 + 32
)

// Settings are those of the function, as pg_proc.proconfig has them: names are PostgreSQL's own, and values are written in full, whatever
// the session has set.
var Settings = []string{
	"search_path=pg_catalog, pg_temp", "TimeZone=UTC", "IntervalStyle=iso_8601", "extra_float_digits=1", "bytea_output=hex",
}

const settings = ` SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "IntervalStyle" = 'iso_8601'` +
	` SET extra_float_digits = 1 SET bytea_output = 'hex'`

// Columns returns the definitions of the columns of the table.
func Columns(c policy.Config, columnType string) string {
	column := sqltext.Ident(c.Column)
	return fmt.Sprintf(`(
	%[1]s %[2]s NOT NULL DEFAULT %[3]s,
	at timestamptz NOT NULL,
	id bigint GENERATED ALWAYS AS IDENTITY,
	xact bigint NOT NULL,
	operation text NOT NULL,
	table_schema text NOT NULL,
	table_name text NOT NULL,
	key jsonb,
	before jsonb,
	after jsonb,
	actor text,
	request_id text,
	reason text,
	login text NOT NULL,
	role text NOT NULL,
	PRIMARY KEY (%[1]s, at, id)
) PARTITION BY RANGE (at)`, column, columnType, c.Current(columnType))
}

// Body returns the function's body. The table is that of records, quoted and with its schema. The trigger's arguments are those of
// Arguments.
func Body(c policy.Config, table, columnType string) string {
	return strings.NewReplacer("@table", table, "@column", sqltext.Ident(c.Column), "@type", columnType, "@setting", Setting).Replace(body)
}

const body = `
DECLARE
	keys     text[] := TG_ARGV[2];
	omitted  text[] := TG_ARGV[3];
	masked   text[] := TG_ARGV[4];
	said     jsonb := nullif(current_setting('@setting', true), '');
	was      jsonb; -- the row before
	became   jsonb; -- the row after
	old_part jsonb; -- what is recorded of them
	new_part jsonb;
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		RAISE EXCEPTION 'tenancy: table % is audited, and TRUNCATE would leave no record of its rows: use DELETE', TG_TABLE_NAME
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	-- What is said about a CALL that commits lasts longer than a transaction: it counts for that CALL alone.
	IF said ->> 'call' <> encode(sha256(convert_to(current_query(), 'UTF8')), 'hex') THEN
		said := NULL;
	END IF;
	IF TG_OP <> 'INSERT' THEN
		was := to_jsonb(OLD) - omitted;
	END IF;
	IF TG_OP <> 'DELETE' THEN
		became := to_jsonb(NEW) - omitted;
	END IF;
	old_part := was;
	new_part := became;
	-- A row that goes from one tenant to another is recorded for both, each with its own side.
	IF TG_OP = 'UPDATE' AND was -> TG_ARGV[1] = became -> TG_ARGV[1] THEN
		SELECT coalesce(jsonb_object_agg(key, was -> key), '{}'), coalesce(jsonb_object_agg(key, value), '{}')
		INTO old_part, new_part
		FROM jsonb_each(became) WHERE value IS DISTINCT FROM was -> key;
		was := NULL;
	END IF;
	IF old_part ?| masked THEN
		SELECT jsonb_object_agg(key, CASE WHEN key = ANY (masked) THEN '"***"' ELSE value END) INTO old_part FROM jsonb_each(old_part);
	END IF;
	IF new_part ?| masked THEN
		SELECT jsonb_object_agg(key, CASE WHEN key = ANY (masked) THEN '"***"' ELSE value END) INTO new_part FROM jsonb_each(new_part);
	END IF;
	INSERT INTO @table (@column, at, xact, operation, table_schema, table_name, key, before, after, actor, request_id, reason, login, role)
	SELECT (r.image ->> TG_ARGV[1])::@type, clock_timestamp(), txid_current(), TG_OP, TG_TABLE_SCHEMA, TG_ARGV[0],
		(SELECT jsonb_object_agg(k, r.image -> k) FROM unnest(keys) k), r.before, r.after,
		said ->> 'actor', said ->> 'request_id', said ->> 'reason',
		session_user, coalesce(nullif(current_setting('role'), 'none'), session_user)
	FROM (VALUES (was, old_part, NULL), (became, CASE WHEN was IS NULL THEN old_part END, new_part)) r (image, before, after)
	WHERE r.image IS NOT NULL;
	RETURN NULL;
END
`

// Create makes the function. Its name is quoted and has its schema.
func Create(name, body string) string {
	return "CREATE OR REPLACE FUNCTION " + name + "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER" + settings + " AS " + sqltext.Literal(body)
}

// CreateAnywhere makes the function in the schema that comes first in the search_path, whose name a script does not know.
func CreateAnywhere(c policy.Config, columnType string) string {
	const here = "@here"
	name := here + "." + sqltext.Ident(Name)
	schema := `'"' || replace(current_schema(), '"', '""') || '"'`
	return "DO " + sqltext.Literal("BEGIN EXECUTE replace("+sqltext.Literal(Create(name, Body(c, name, columnType)))+", "+
		sqltext.Literal(here)+", "+schema+"); END")
}

// Arguments returns those of the triggers of a table.
func Arguments(table, column string, keys, omit, mask []string) []string {
	return []string{table, column, array(keys), array(omit), array(mask)}
}

// array writes an array as PostgreSQL reads it (its documentation, "Array Value Input").
func array(names []string) string {
	quoted := make([]string, len(names))
	for n, name := range names {
		quoted[n] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// Trigger returns the statement that makes a trigger of a table, both quoted, with the function, quoted and with its schema.
func Trigger(name, table, function string, arguments []string) string {
	event := "AFTER INSERT OR UPDATE OR DELETE ON " + table + " FOR EACH ROW"
	if name == Truncate {
		event, arguments = "BEFORE TRUNCATE ON "+table+" FOR EACH STATEMENT", nil
	}
	literals := make([]string, len(arguments))
	for n, argument := range arguments {
		literals[n] = sqltext.Literal(argument)
	}
	return fmt.Sprintf("CREATE TRIGGER %s %s EXECUTE FUNCTION %s(%s)", name, event, function, strings.Join(literals, ", "))
}
