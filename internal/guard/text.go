package guard

import (
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// What the guard reads from SQL text. It does not parse SQL. If it is not certain about a text, it assumes the more dangerous
// kind, which costs time and nothing else.

// class is what kind of statement a text begins with.
type class uint8

const (
	// utility is every other statement. Some of them, such as CALL and DO, can commit.
	utility class = iota
	// query is a statement that takes a snapshot, and cannot end its transaction.
	query
	// control is a statement that takes no snapshot, so that SET TRANSACTION and LOCK TABLE can follow it as the first of a
	// transaction. None of them returns or writes a row.
	control
)

func classOf(sql string) class {
	switch word := strings.ToUpper(firstWord(sql)); word {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "WITH":
		return query
	case "SET", "RESET", "SHOW", "LOCK", "LISTEN", "NOTIFY", "UNLISTEN",
		"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE":
		return control
	default:
		return utility
	}
}

// firstWord returns the word that a text begins with, after white space and comments.
func firstWord(sql string) string {
	sql = skipBlank(sql)
	end := 0
	for end < len(sql) && isWordByte(sql[end]) {
		end++
	}
	return sql[:end]
}

// blank is white space to PostgreSQL (scan.l in src/backend/parser).
const blank = " \t\n\r\f\v"

func skipBlank(sql string) string {
	for {
		sql = strings.TrimLeft(sql, blank)
		switch {
		case strings.HasPrefix(sql, "--"):
			end := strings.IndexAny(sql, "\n\r")
			if end < 0 {
				return ""
			}
			sql = sql[end:]
		case strings.HasPrefix(sql, "/*"):
			sql = sql[sqltext.CommentLen(sql):]
		default:
			return sql
		}
	}
}

func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '$' || b >= 0x80
}

// isCall reports whether a statement is a CALL, whose procedure may be meant to commit.
func isCall(sql string) bool { return strings.EqualFold(firstWord(sql), "CALL") }

// isProcedure reports whether a statement is one that PostgreSQL lets commit.
func isProcedure(sql string) bool { return isCall(sql) || strings.EqualFold(firstWord(sql), "DO") }

// endsTransaction reports whether a text begins with the end of a transaction, which ROLLBACK TO SAVEPOINT is not.
func endsTransaction(sql string) bool {
	first, rest, _ := nextToken(skipBlank(sql))
	if !first.is("COMMIT") && !first.is("END") && !first.is("ROLLBACK") && !first.is("ABORT") {
		return false
	}
	for range 2 { // WORK or TRANSACTION may stand before TO
		var next token
		if next, rest, _ = nextToken(rest); next.is("TO") {
			return false
		}
	}
	return true
}

// namesRole reports whether a text may set another role, by SET ROLE, SET SESSION AUTHORIZATION or set_config.
func namesRole(sql string) bool {
	lower := strings.ToLower(sql)
	return strings.Contains(lower, "role") || strings.Contains(lower, "authorization")
}

// maySeveral reports whether a text may hold more than one statement.
func maySeveral(sql string) bool {
	i := strings.IndexByte(sql, ';')
	return i >= 0 && skipBlank(sql[i+1:]) != ""
}

// isStateless reports whether a text is one statement that leaves nothing in the session, except what triggers, policies and
// operators of the database leave. It is a SELECT, INSERT, UPDATE or DELETE that calls only functions known to be harmless, or a
// statement about the transaction alone.
//
// GORM builds such text, except for conditions and expressions of the caller, which may hold anything, as may the whole text of
// Raw and Exec. So the text is judged without regard to its author, and the answer is no at everything that could hide a call,
// such as comments, escapes and dollar quotes.
func isStateless(sql string) bool {
	switch strings.ToUpper(firstWord(sql)) {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH":
		return callsNothing(sql) && !strings.Contains(strings.ToLower(sql), settingsView)
	case "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "LOCK", "SHOW":
		return isTransactionControl(sql)
	default:
		return false
	}
}

// settingsView is the one relation of PostgreSQL's whose UPDATE changes the session: by a rule, it calls set_config
// (https://www.postgresql.org/docs/current/view-pg-settings.html).
const settingsView = "pg_settings"

// isTransactionControl reports whether a text does nothing but SAVEPOINT, RELEASE, ROLLBACK TO, LOCK, SHOW, SET TRANSACTION, SET
// CONSTRAINTS, or SET LOCAL of a setting that does not affect what is seen.
func isTransactionControl(sql string) bool {
	var tokens []token
	for rest := sql; ; {
		next, after, ok := nextToken(rest)
		switch {
		case !ok, next.kind == '(':
			return false
		case next.kind != endToken:
			tokens, rest = append(tokens, next), after
			continue
		case len(tokens) < 2:
			return false
		}
		switch first, second := tokens[0], tokens[1]; {
		case first.is("rollback"):
			return second.is("to")
		case first.is("set") && second.is("local"):
			return len(tokens) > 2 && harmlessLocally[strings.ToLower(tokens[2].text)]
		case first.is("set"):
			return second.is("transaction") || second.is("constraints")
		}
		return true
	}
}

var harmlessLocally = words(`
	statement_timeout lock_timeout idle_in_transaction_session_timeout transaction_timeout
	work_mem maintenance_work_mem synchronous_commit plan_cache_mode jit random_page_cost
	enable_seqscan enable_indexscan enable_bitmapscan enable_nestloop enable_hashjoin enable_mergejoin`)

// callsNothing reports whether a text calls only functions known to be harmless.
func callsNothing(sql string) bool {
	var before, last token
	inserting := 0 // 1 behind INSERT, 2 behind INTO, 3 behind the table's name, where columns stand in parentheses
	for rest := sql; ; {
		next, after, ok := nextToken(rest)
		if !ok {
			return false
		}
		rest = after
		switch {
		case next.kind == endToken:
			return true
		case next.kind == '(' && inserting != 3 && !mayOpen(before, last):
			return false
		case next.is("insert"):
			inserting = 1
		case next.is("into") && inserting != 1:
			return false // SELECT INTO makes a table
		case next.is("into"):
			inserting = 2
		case inserting == 2 && next.isName(), inserting == 3 && (next.kind == '.' || last.kind == '.'):
			inserting = 3
		default:
			inserting = 0
		}
		before, last = last, next
	}
}

// mayOpen reports whether a parenthesis may open behind these two tokens without calling an unknown function.
func mayOpen(before, last token) bool {
	switch {
	case !last.isName():
		return true // an operator, a comma or another parenthesis
	case last.kind == nameToken, before.kind == '.':
		return false
	case before.is("as"):
		return last.is("materialized")
	default:
		return harmless[strings.ToLower(last.text)]
	}
}

// mayHoldValue reports whether a text may hold a constant, or a comment.
func mayHoldValue(sql string) bool {
	for rest := sql; ; {
		next, after, ok := nextToken(rest)
		switch {
		case !ok, next.kind == constantToken, next.kind == wordToken && next.text[0] >= '0' && next.text[0] <= '9':
			return true
		case next.kind == endToken:
			return false
		}
		rest = after
	}
}

// token is a piece of SQL text. Its kind is one of the constants below, or the byte itself of anything else.
type token struct {
	kind byte
	text string // of a word
}

const (
	endToken      = 0
	wordToken     = 'w' // a keyword, a name or a number
	nameToken     = '"' // a quoted name
	constantToken = '\''
	paramToken    = '$'
)

func (t token) is(word string) bool { return t.kind == wordToken && strings.EqualFold(t.text, word) }
func (t token) isName() bool        { return t.kind == wordToken || t.kind == nameToken }

// nextToken returns the first token of a text, and false if it does not understand the text for certain.
func nextToken(sql string) (t token, rest string, ok bool) {
	sql = strings.TrimLeft(sql, blank)
	if sql == "" {
		return token{}, "", true
	}
	switch b := sql[0]; {
	case b == '$':
		end := 1
		for end < len(sql) && sql[end] >= '0' && sql[end] <= '9' {
			end++
		}
		dollarQuote := end == 1 || end < len(sql) && isWordByte(sql[end])
		return token{kind: paramToken}, sql[end:], !dollarQuote
	case isWordByte(b):
		word := firstWord(sql)
		rest = sql[len(word):]
		escape := strings.HasPrefix(rest, "'") || strings.HasPrefix(rest, "&") // E'…', U&'…', and constants of some type
		return token{wordToken, word}, rest, !escape
	case b == '"', b == '\'':
		end := strings.IndexByte(sql[1:], b)
		if end < 0 || strings.IndexByte(sql[1:1+end], '\\') >= 0 { // where a backslash may escape the quote
			return token{}, "", false
		}
		return token{kind: b}, sql[end+2:], true
	case strings.HasPrefix(sql, "--"), strings.HasPrefix(sql, "/*"):
		return token{}, "", false
	default:
		return token{kind: b}, sql[1:], strings.IndexByte("()[],.:+-*/<>=~!@#%^&|`?", b) >= 0
	}
}

// harmless are keywords behind which a parenthesis may open, and functions of PostgreSQL that change nothing in the session.
var harmless = words(`
	select distinct from where and or not in any all some exists values on using join by having over filter within group
	case when then else between like ilike is limit offset union except intersect returning set as conflict only lateral
	array row partition default

	count sum avg min max bool_and bool_or every array_agg string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg
	row_number rank dense_rank percent_rank ntile lag lead first_value last_value
	coalesce nullif greatest least cast
	lower upper length char_length substring substr left right trim btrim ltrim rtrim replace concat concat_ws position
	strpos split_part starts_with lpad rpad initcap reverse md5
	abs round ceil ceiling floor mod power sqrt sign trunc
	now date date_trunc date_part extract age to_char to_date to_timestamp to_number make_date make_interval
	array_length array_position array_remove array_append cardinality unnest generate_series
	json_build_object jsonb_build_object json_build_array jsonb_build_array jsonb_set jsonb_array_length
	jsonb_array_elements jsonb_array_elements_text jsonb_each jsonb_path_query jsonb_exists row_to_json to_json to_jsonb
	to_tsvector to_tsquery plainto_tsquery websearch_to_tsquery phraseto_tsquery ts_rank ts_rank_cd
	gen_random_uuid`)

func words(text string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		set[word] = true
	}
	return set
}
