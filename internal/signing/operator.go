package signing

import (
	"fmt"
	"strings"
)

// OwnerSQL asks for the role that owns the keys, and whether the session's login may take it. There is no row without the schema.
func OwnerSQL(canTake func(login, role string) string) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_get_userbyid(n.nspowner), %s FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) '%s'",
		canTake("session_user", "n.nspowner"), Schema)
}

// SignSQL has PostgreSQL itself sign for the tenant $2 of the setting $1, for so many seconds $3, and set the proof until the end of the
// transaction. The role in use must be the one that owns the keys. Neither key nor proof leaves the server. There is no row without a key.
var SignSQL = strings.NewReplacer(
	"@kind", string([]byte{version, byte(Tenant), bound}), "@suffix", ProofSuffix, "@schema", Schema, "@digits", strings.Repeat("0", timeDigits),
).Replace(`SELECT pg_catalog.set_config($1::pg_catalog.text OPERATOR(pg_catalog.||) '@suffix', pg_catalog.concat(pg_catalog.encode(pg_catalog.sha256(
		k.outer_pad OPERATOR(pg_catalog.||) pg_catalog.sha256(k.inner_pad OPERATOR(pg_catalog.||) pg_catalog.convert_to(pg_catalog.concat(
			k.head, '|', pg_catalog.pg_backend_pid(), '|', pg_catalog.octet_length(session_user::pg_catalog.text), '|', $1, '|',
			session_user, $2::pg_catalog.text), 'UTF8'))), 'hex'), k.head), true) IS NULL
	FROM (
		SELECT o.inner_pad, o.outer_pad, pg_catalog.concat('@kind', pg_catalog.to_char(n.now, 'FM@digits'),
			pg_catalog.to_char(n.now OPERATOR(pg_catalog.+) $3::pg_catalog.int8, 'FM@digits'), o.id) AS head
		FROM @schema.keys o, (SELECT pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())::pg_catalog.int8) n (now)
		ORDER BY o.created_at DESC, o.id LIMIT 1
	) k`)
